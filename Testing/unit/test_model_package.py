"""Model packages: what is written is read again, what the schema says is kept, and models are found by name."""

from __future__ import annotations

import hashlib
import json

import pytest
import torch
from pydantic import ValidationError

from MedSegRegLib.errors import DamagedModel, UnknownModel
from MedSegRegLib.files.model_package import LabelSpec, ModelSpec, read_model, read_spec, write_model
from MedSegRegLib.files.model_store import list_models, model_folder, user_store
from MedSegRegLib.image import Code
from MedSegRegLib.preprocess import Clahe, CtWindow
from small_training import random_network, small_spec, write_random_model


@pytest.fixture
def an_empty_store(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDSEGREG_MODELS", str(tmp_path / "store"))
    return tmp_path / "store"


def test_weights_come_back_rounded_to_float16(tmp_path):
    weights = random_network(small_spec()).state_dict()
    write_model(tmp_path / "model", small_spec(), weights, "card")
    stored = read_model(tmp_path / "model")[1]
    assert stored.keys() == weights.keys()
    for name, tensor in stored.items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, weights[name].half().float())
        torch.testing.assert_close(tensor, weights[name], rtol=2**-10, atol=1e-7)


def test_the_description_comes_back_with_the_sha256_of_the_weights(tmp_path):
    spec = small_spec(3, intensity=(CtWindow(low_hu=-200), Clahe()), scores={"ball 1": {"dice_mean": 0.9}})
    write_random_model(tmp_path / "model", spec)
    content = (tmp_path / "model" / "weights.safetensors").read_bytes()
    digest = {"weights.safetensors": hashlib.sha256(content).hexdigest()}
    assert read_spec(tmp_path / "model") == spec.model_copy(update={"sha256": digest})
    assert (tmp_path / "model" / "README.md").read_text() == "# A card\n"


def test_a_package_holds_three_files_and_nothing_temporary(a_model_folder):
    assert sorted(path.name for path in a_model_folder.iterdir()) == ["README.md", "model.json", "weights.safetensors"]


def test_the_same_model_is_written_with_the_same_bytes(tmp_path):
    first, second = (write_random_model(tmp_path / name, small_spec()) for name in ("first", "second"))
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes()


def test_a_label_becomes_a_structure_with_its_codes():
    label = LabelSpec.model_validate(
        {
            "value": 2,
            "name": "Right hippocampus",
            "color": (1, 0, 0),
            "code": {"value": "5366008", "meaning": "Hippocampus"},
            "modifier": {"value": "24028007", "meaning": "Right"},
        }
    )
    structure = label.to_structure()
    assert (structure.value, structure.name, structure.color) == (2, "Right hippocampus", (1, 0, 0))
    assert structure.code == Code("SCT", "5366008", "Hippocampus")
    assert structure.modifier == Code("SCT", "24028007", "Right")


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": [{"value": 2, "name": "two"}]},
        {"labels": [{"value": 1, "name": "one"}, {"value": 1, "name": "one again"}]},
        {"labels": []},
        {"channels": []},
        {"tile_ijk": (15, 16, 16)},
        {"tile_ijk": (2, 2, 2)},  # one voxel in the deepest stage cannot be normalised
        {"tile_ijk": (0, 16, 16)},
        {"tile_ijk": (4096, 16, 16)},
        {"tile_overlap": 1.0},
        {"spacing_mm": (1, 1, 0)},
        {"spacing_mm": (1, 1, float("inf"))},
        {"name": "../escape"},
        {"architecture": {"name": "torch.nn.Linear"}},
        {"architecture": {"features": (4,)}},
        {"intensity": [{"step": "eval"}]},
        {"intensity": [{"step": "ct_window", "low_hu": 5, "high_hu": 1}]},
        {"sha256": {"../weights": "0" * 64}},
        {"scores": {"ball 1": {"dice": float("nan")}}},
        {"training": {"loss": float("nan")}},
        {"licence": None},
    ],
)
def test_refuses_a_description_that_is_not_possible(changes):
    with pytest.raises(ValidationError):
        small_spec(**changes)


def test_a_description_can_be_written_by_hand(tmp_path):
    optional = {"format", "intensity", "tile_overlap", "keep_largest_component", "region", "scores", "sha256"}
    minimal = small_spec().model_dump(mode="json", exclude=optional)
    (tmp_path / "model.json").write_text(json.dumps(minimal))
    assert read_spec(tmp_path) == small_spec(intensity=())


def test_every_label_up_to_1024_has_a_value_of_its_own():
    spec = small_spec(1024)
    assert spec.classes == 1025
    assert [structure.value for structure in spec.structures] == list(range(1, 1025))


def test_the_user_has_a_store_of_models(an_empty_store, monkeypatch, tmp_path):
    assert user_store() == an_empty_store
    monkeypatch.delenv("MEDSEGREG_MODELS")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert user_store() == tmp_path / ".medsegreg" / "models"


def test_models_of_the_store_are_listed(an_empty_store):
    write_random_model(an_empty_store / "b", small_spec(name="b-model"))
    write_random_model(an_empty_store / "a", small_spec(name="a-model"))
    (an_empty_store / "not a model").mkdir()
    assert [spec.name for spec in list_models()][-2:] == ["a-model", "b-model"]


def test_a_model_is_found_by_folder_by_folder_name_and_by_its_own_name(an_empty_store):
    folder = write_random_model(an_empty_store / "my-copy", small_spec(name="balls"))
    for name in (folder, str(folder), "my-copy", "balls"):
        assert model_folder(name) == folder


def test_a_damaged_model_does_not_hide_the_others(an_empty_store):
    folder = write_random_model(an_empty_store / "balls", small_spec())
    (an_empty_store / "a-broken-one").mkdir()
    (an_empty_store / "a-broken-one" / "model.json").write_text("{")
    assert model_folder("balls") == folder
    with pytest.raises(DamagedModel, match="a-broken-one"):
        list_models()


def test_an_unknown_model_is_refused_with_the_known_names(an_empty_store):
    write_random_model(an_empty_store / "balls", small_spec())
    with pytest.raises(UnknownModel, match="balls"):
        model_folder("bals")


def test_the_shipped_models_are_whole(an_empty_store):
    for spec in list_models():
        assert isinstance(read_model(model_folder(spec.name))[0], ModelSpec)
