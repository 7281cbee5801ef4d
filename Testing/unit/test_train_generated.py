"""Training on examples that are made from label maps: the same loop, the same package, and slots of minutes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from label_map_phantoms import ROLES, write_heads

from MedSegRegLib.errors import DatasetError
from MedSegRegLib.preprocess import PercentileRange
from MedSegRegLib.train.batches import SyntheticBatches, synthetic_examples
from MedSegRegLib.train.dataset import find_label_maps
from MedSegRegLib.train.label_maps import read_label_maps
from MedSegRegLib.train.run import train_model
from MedSegRegLib.train.settings import TrainingSettings
from MedSegRegLib.train.synthesise import Synthesis
from small_training import small_settings, small_spec

NAMES = ["a", "b", "c"]


def generated_settings(**changes) -> TrainingSettings:
    return small_settings(
        **{
            "model": small_spec(3, tile_ijk=(24, 24, 24), spacing_mm=(2.0, 2.0, 2.0), intensity=(PercentileRange(),)),
            "synthesis": Synthesis(roles=ROLES, removed_probability=0),
            "steps_per_epoch": 6,
            "validation_examples": 2,
            "epochs": 2,
            "average": 0.8,
            "test": 0.0,
            **changes,
        }
    )


@pytest.fixture(scope="module")
def some_heads(tmp_path_factory) -> Path:
    return write_heads(tmp_path_factory.mktemp("heads"), NAMES)


def source(folder: Path, settings: TrainingSettings) -> SyntheticBatches:
    maps = read_label_maps([case.labels for case in find_label_maps(folder)], ROLES, 1.0)
    return SyntheticBatches(maps, settings)


def test_a_batch_depends_on_its_step_and_not_on_where_the_epoch_was_entered(some_heads):
    batches = source(some_heads, generated_settings(batch_size=2))
    whole = list(batches.epoch(1, 0, torch.device("cpu")))
    rest = list(batches.epoch(1, 4, torch.device("cpu")))
    assert len(whole) == batches.steps == 6
    assert whole[0][0].shape == (2, 1, 24, 24, 24)
    for (image, labels), (again, labels_again) in zip(whole[4:], rest, strict=True):
        assert torch.equal(image, again)
        assert torch.equal(labels, labels_again)
    sums = {float(image.double().sum()) for images, _ in whole for image in images}
    assert len(sums) == 12


def test_examples_to_validate_on_are_always_the_same_and_of_no_epoch(some_heads):
    settings = generated_settings()
    maps = read_label_maps([find_label_maps(some_heads)[0].labels], ROLES, 1.0)
    first, again = (synthetic_examples(maps, settings, 3) for _ in range(2))
    assert all(torch.equal(one.image, other.image) for one, other in zip(first, again, strict=True))
    trained = [image for images, _ in source(some_heads, settings).epoch(0, 0, torch.device("cpu")) for image in images]
    assert not any(torch.equal(one.image, image) for one in first for image in trained)


def test_label_maps_become_a_tested_package(some_heads, tmp_path):
    spec = train_model(some_heads, generated_settings(), tmp_path, device="cpu")
    split = json.loads((tmp_path / "split.json").read_text())
    assert sorted(split["train"] + split["validation"]) == NAMES
    assert (tmp_path / "model" / "weights.safetensors").exists()
    assert set(spec.scores) == {"ball 1", "ball 2", "ball 3"}
    assert spec.scores["ball 1"]["cases"] == 4
    assert spec.training["cases"] == "2 training, 1 validation, 0 test"


def test_a_training_in_slots_gives_the_same_package(some_heads, tmp_path):
    settings = generated_settings(epochs=1, steps_per_epoch=2, validation_examples=1)
    train_model(some_heads, settings, tmp_path / "whole", device="cpu")
    assert train_model(some_heads, settings, tmp_path / "slots", device="cpu", stop_after_minutes=0) is None
    assert not (tmp_path / "slots" / "model").exists()
    assert train_model(some_heads, settings, tmp_path / "slots", device="cpu") is not None
    first, second = ((tmp_path / name / "model" / "weights.safetensors").read_bytes() for name in ("whole", "slots"))
    assert first == second


def test_label_maps_need_settings_that_say_how_images_are_made(some_heads):
    with pytest.raises(DatasetError, match="synthesis"):
        source(some_heads, generated_settings(synthesis=None))
