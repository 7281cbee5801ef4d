"""A cross-validation: every case is tested once, and the model is the ensemble of the folds."""

from __future__ import annotations

import csv
import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from MedSegRegLib.evaluate.scores import compare_labels
from MedSegRegLib.evaluate.tables import write_csv
from MedSegRegLib.files import read_labels
from MedSegRegLib.files.model_package import read_model
from MedSegRegLib.files.model_spec import ModelSpec
from MedSegRegLib.segment import load_model
from MedSegRegLib.train.folds import read_scores
from MedSegRegLib.train.run import train_model
from small_training import small_settings, write_balls

NAMES = list("abcdef")
SETTINGS = small_settings(epochs=1, folds=3)


@pytest.fixture(scope="module")
def the_data(tmp_path_factory) -> Path:
    return write_balls(tmp_path_factory.mktemp("data"), NAMES)


@pytest.fixture(scope="module")
def all_folds(the_data, tmp_path_factory) -> tuple[Path, ModelSpec]:
    """The folder of a cross-validation, made in two calls, and the description that it returned."""
    output = tmp_path_factory.mktemp("folds")
    assert train_model(the_data, SETTINGS, output, device="cpu", stop_after_minutes=0) is None
    train_model(the_data, SETTINGS.model_copy(update={"fold": 1}), output / "fold-1", device="cpu")
    return output, train_model(the_data, SETTINGS, output, device="cpu")


def test_every_case_is_tested_by_the_fold_that_has_not_seen_it(all_folds):
    output, spec = all_folds
    tested = [json.loads((output / f"fold-{n}" / "split.json").read_text())["test"] for n in range(3)]
    assert sorted(itertools.chain(*tested)) == NAMES
    with open(output / "test_scores.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["case"] for row in rows) == NAMES
    assert spec.scores["ball 1"]["cases"] == 6
    assert spec.scores["ball 1"]["dice_mean"] == pytest.approx(np.mean([float(row["dice"]) for row in rows]), abs=1e-4)


def test_the_package_is_the_ensemble_of_the_folds(all_folds):
    output, spec = all_folds
    assert spec.weights == ("weights-0.safetensors", "weights-1.safetensors", "weights-2.safetensors")
    for number, member in enumerate(read_model(output / "model")[1]):
        (own,) = read_model(output / f"fold-{number}" / "model")[1]
        assert all(torch.equal(member[name], own[name]) for name in own)
    assert len(load_model(output / "model").engines) == 3


def test_the_card_has_the_score_of_each_fold_and_their_mean(all_folds):
    output, spec = all_folds
    card = (output / "model" / "README.md").read_text(encoding="utf-8")
    dice = [read_model(output / f"fold-{n}" / "model")[0].scores["ball 1"]["dice_mean"] for n in range(3)]
    assert [spec.scores["ball 1"][f"dice_mean_fold_{n}"] for n in (1, 2, 3)] == dice
    assert f"| ball 1 | {' | '.join(f'{one:.3f}' for one in dice)} | {np.mean(dice):.3f} |" in card
    assert "3 folds by patient" in spec.training["split"]


def test_a_finished_fold_is_not_tested_again(all_folds, the_data):
    output, spec = all_folds
    before = [(output / f"fold-{n}" / "model" / "model.json").stat().st_mtime_ns for n in range(3)]
    assert train_model(the_data, SETTINGS, output, device="cpu") == spec
    assert [(output / f"fold-{n}" / "model" / "model.json").stat().st_mtime_ns for n in range(3)] == before


def test_other_settings_make_another_model(the_data, tmp_path):
    first = train_model(the_data, small_settings(epochs=1), tmp_path, device="cpu")
    second = train_model(the_data, small_settings(epochs=2), tmp_path, device="cpu")
    assert (first.training["epochs"], second.training["epochs"]) == (1, 2)


def test_scores_come_back_from_their_table(the_data, tmp_path):
    truth, other = (read_labels(the_data / "labels" / f"{name}.nii") for name in "ab")
    empty = replace(truth, tensor=torch.zeros_like(truth.tensor))
    cases = {
        "a b": compare_labels(truth, other),
        "self": compare_labels(truth, truth),
        "no": compare_labels(truth, empty),
    }
    write_csv(cases, tmp_path / "scores.csv")
    assert read_scores(tmp_path / "scores.csv") == cases
