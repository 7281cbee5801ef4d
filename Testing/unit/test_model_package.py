"""Model packages: what is written is read again, and what the schema says is kept."""

from __future__ import annotations

import hashlib
import json

import pytest
import torch
from pydantic import ValidationError

from MedSegRegLib.files.model_package import read_model, read_package, read_spec, write_model, write_package
from MedSegRegLib.files.model_spec import LabelSpec
from MedSegRegLib.image import Code
from MedSegRegLib.preprocess import Clahe, CtWindow
from small_training import random_network, small_spec, write_random_model


def test_weights_come_back_rounded_to_float16(tmp_path):
    weights = random_network(small_spec()).state_dict()
    write_model(tmp_path / "model", small_spec(), [weights], "card")
    (stored,) = read_model(tmp_path / "model")[1]
    assert stored.keys() == weights.keys()
    for name, tensor in stored.items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, weights[name].half().float())
        torch.testing.assert_close(tensor, weights[name], rtol=2**-10, atol=1e-7)


def test_an_ensemble_has_one_file_for_each_member_in_their_order(tmp_path):
    members = [random_network(small_spec(), seed).state_dict() for seed in range(3)]
    spec = small_spec(weights=("weights-2.safetensors", "weights-0.safetensors", "weights-1.safetensors"))
    write_model(tmp_path / "model", spec, members, "card")
    for member, stored in zip(members, read_model(tmp_path / "model")[1], strict=True):
        assert all(torch.equal(stored[name], member[name].half().float()) for name in member)
    with pytest.raises(ValueError, match="shorter"):
        write_model(tmp_path / "two for three", spec, members[:2], "card")


def test_all_files_of_a_package_are_read_as_bytes(tmp_path):
    spec = small_spec(architecture={"name": "onnx"}, weights=("network.onnx",))
    files = {"network.onnx": b"a graph", "int8-0.xml": b"<net/>", "int8-0.bin": b"numbers"}
    written = write_package(tmp_path / "model", spec, files, "card")
    assert read_package(tmp_path / "model") == (written, {**files, "README.md": b"card"})


def test_the_description_comes_back_with_the_sha256_of_every_file(tmp_path):
    spec = small_spec(3, intensity=(CtWindow(low_hu=-200), Clahe()), scores={"ball 1": {"dice_mean": 0.9}})
    write_random_model(tmp_path / "model", spec)
    digests = {
        name: hashlib.sha256((tmp_path / "model" / name).read_bytes()).hexdigest()
        for name in ("weights.safetensors", "README.md")
    }
    assert read_spec(tmp_path / "model") == spec.model_copy(update={"sha256": digests})
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
        {"architecture": {"name": "onnx"}},
        {"weights": ("weights.safetensors", "weights.safetensors")},
        {"weights": ("../weights.safetensors",)},
        {"weights": ("weights.pt",)},
        {"regions": (2,)},
        {"find": {"model": "../other", "structures": ("ball",)}},
        {"architecture": {"name": "monai", "network": "UNet", "settings": {"act": "eval(1)"}}},
        {"architecture": {"name": "monai", "network": "Flatten", "settings": {}}},
    ],
)
def test_refuses_a_description_that_is_not_possible(changes):
    with pytest.raises(ValidationError):
        small_spec(**changes)


def test_a_description_can_be_written_by_hand(tmp_path):
    spec = small_spec(intensity=())
    minimal = spec.model_dump(mode="json", exclude_defaults=True)
    assert {"format", "intensity", "grid", "tiling", "find", "weights", "sha256"}.isdisjoint(minimal)
    minimal["architecture"]["name"] = "plain_conv_unet"
    (tmp_path / "model.json").write_text(json.dumps(minimal))
    assert read_spec(tmp_path) == spec


def test_every_label_up_to_1024_has_a_value_of_its_own():
    spec = small_spec(1024)
    assert spec.classes == 1025
    assert [structure.value for structure in spec.structures] == list(range(1, 1025))
