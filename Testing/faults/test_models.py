"""Rows 59-68 and 70-72 of the catalogue of faults: damaged or hostile models are refused, and nothing in them is run.

Row 69, archives, is in ``test_model_archives``.
"""

from __future__ import annotations

import builtins
import hashlib
import json
import pickle
import struct
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from MedSegRegLib.errors import DamagedModel, ModelMismatch, UnknownModel
from MedSegRegLib.files import read_labels, write_labels
from MedSegRegLib.files.model_package import read_model, read_spec, read_weights, write_model
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Image
from MedSegRegLib.segment import load_model, segment
from small_training import random_network, small_spec, write_random_model

SHARED_FOLDER = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
ARCHITECTURE = {"name": "plain_conv_unet", "features": [4, 8], "blocks_per_stage": 1}


class Payload:
    """Unpickling it makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple:
        return builtins.open, (str(self.marker), "w")


def safetensors_bytes(header: dict, data: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def with_weights(folder: Path, content: bytes) -> Path:
    """The package with other weights and their right sha256: what an attacker would make."""
    (folder / "weights.safetensors").write_bytes(content)
    return with_json(folder, sha256={"weights.safetensors": hashlib.sha256(content).hexdigest()})


def with_json(folder: Path, **changes: object) -> Path:
    path = folder / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


def with_text(folder: Path, key: str, text: str) -> Path:
    """The package with a value in ``model.json`` that is this text, valid JSON or not."""
    path = with_json(folder, **{key: "HERE"}) / "model.json"
    path.write_text(path.read_text().replace('"HERE"', text))
    return folder


def test_a_pickle_among_the_weights_is_refused_and_not_run(a_model_folder, tmp_path):
    """Row 59."""
    marker = tmp_path / "marker"
    content = pickle.dumps(Payload(marker))
    with pytest.raises(DamagedModel):
        load_model(with_weights(a_model_folder, content))
    assert not marker.exists()
    pickle.loads(content).close()  # noqa: S301  (proof that the payload works)
    assert marker.exists()


@pytest.mark.parametrize("kind", ["torch.save", "npz with a pickle", "zip that climbs out"])
def test_other_checkpoint_files_are_refused_and_not_run(kind, a_model_folder, tmp_path):
    """Row 62."""
    marker, path = tmp_path / "marker", tmp_path / "content"
    if kind == "torch.save":
        torch.save({"weights": torch.zeros(3), "payload": Payload(marker)}, path)
    elif kind == "npz with a pickle":
        with open(path, "wb") as file:
            np.savez(file, weights=np.array([Payload(marker)], dtype=object))
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("../../weights.safetensors", b"x" * 100)
    with pytest.raises(DamagedModel, match=r"damaged|header"):
        load_model(with_weights(a_model_folder, path.read_bytes()))
    assert not marker.exists()


@pytest.mark.parametrize("length", [0, 7, 8, 10, "half", -5])
def test_truncated_weights_are_refused(length, a_model_folder):
    """Row 63."""
    content = (a_model_folder / "weights.safetensors").read_bytes()
    part = content[: len(content) // 2 if length == "half" else length]
    (a_model_folder / "weights.safetensors").write_bytes(part)
    with pytest.raises(DamagedModel, match="sha256") as caught:
        load_model(a_model_folder)
    assert "again" in caught.value.fix
    with pytest.raises(DamagedModel, match=r"header|damaged"):
        load_model(with_weights(a_model_folder, part))


@pytest.mark.parametrize("header", [0, 2**20 + 1, 100 << 20, 2**62, 2**64 - 1])
def test_a_header_of_impossible_length_is_refused(header, a_model_folder):
    """Row 64."""
    with pytest.raises(DamagedModel, match=str(header)):
        load_model(with_weights(a_model_folder, struct.pack("<Q", header) + b"{" + bytes(1000)))


def test_300000_tensors_are_refused_before_they_are_parsed():
    """Row 65."""
    tensor = '{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    header = "{" + ",".join(f'"{n}":{tensor}' for n in range(300_000)) + "}"
    content = struct.pack("<Q", len(header)) + header.encode()
    start = time.perf_counter()
    with pytest.raises(DamagedModel, match="header"):
        read_weights(content, "many")
    assert time.perf_counter() - start < 0.1


def test_more_tensors_than_any_network_has_are_refused_before_they_are_parsed():
    """Row 65: as many as fit into a header that is not too long."""
    header = "{" + ",".join(f'"{n}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}' for n in range(18_500)) + "}"
    content = struct.pack("<Q", len(header)) + header.encode()
    assert len(header) < 2**20
    start = time.perf_counter()
    with pytest.raises(DamagedModel, match="18500 tensors"):
        read_weights(content, "many")
    assert time.perf_counter() - start < 0.1
    few = {str(n): torch.zeros(1) for n in range(4096)}
    assert len(read_weights(save(few), "few")) == 4096


@pytest.mark.parametrize(
    ("dtype", "data"),
    [
        ("F8_E4M3", b"\x00"),
        ("F8_E4M3", b"\x7f"),
        ("F8_E8M0", b"\x00"),
        ("I64", bytes(8)),
        ("U16", bytes(2)),
        ("BOOL", b"\x01"),
        ("C64", bytes(8)),
        ("NOPE", b"\x00"),
        ("F64", struct.pack("<d", 1e300)),
        ("F32", struct.pack("<f", np.nan)),
        ("F16", b"\x00\x7c"),
    ],
)
def test_weights_that_are_not_finite_real_numbers_are_refused(dtype, data):
    """Row 67."""
    content = safetensors_bytes({"a": {"dtype": dtype, "shape": [1], "data_offsets": [0, len(data)]}}, data)
    if (dtype, data) == ("F8_E4M3", b"\x00"):
        assert read_weights(content, "eight bits")["a"].tolist() == [0.0]
        return
    with pytest.raises(DamagedModel):
        read_weights(content, "odd")


@pytest.mark.parametrize(
    "header",
    [
        {"a": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}},
        {name: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for name in "ab"},
        {"a": {"dtype": "F32", "shape": [1], "data_offsets": [2**63, 2**63 + 4]}},
        {"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}},
        {"a": [[[[1]]]]},
        [],
    ],
)
def test_a_header_that_contradicts_the_data_is_refused(header):
    with pytest.raises(DamagedModel):
        read_weights(safetensors_bytes(header, bytes(4)), "contradiction")


@SHARED_FOLDER
@given(data=st.data())
def test_weights_with_changed_bytes_are_refused_or_harmless(data, a_model_folder):
    content = bytearray((a_model_folder / "weights.safetensors").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, 400))] = data.draw(st.integers(0, 255))
    try:
        weights = read_weights(bytes(content), "changed")
    except DamagedModel:
        return
    assert all(torch.isfinite(tensor).all() for tensor in weights.values())


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(bad, tmp_path):
    """Row 67."""
    weights = random_network(small_spec()).state_dict()
    weights["decoder.seg_layers.0.bias"] = torch.tensor([0.0, bad])
    write_model(tmp_path / "poisoned", small_spec(), [weights], "")
    with pytest.raises(DamagedModel, match=r"decoder.seg_layers.0.bias"):
        load_model(tmp_path / "poisoned")


def test_weights_of_wrong_shapes_are_refused_with_the_first_five_differences(a_model_folder):
    """Row 66."""
    with pytest.raises(ModelMismatch) as caught:
        load_model(with_json(a_model_folder, channels=[{"name": "T1"}, {"name": "T2"}]))
    assert caught.value.found.endswith("(encoder.stages.0.0.convs.0.conv.weight: (4, 1, 3, 3, 3) for (4, 2, 3, 3, 3))")
    wider = {**ARCHITECTURE, "features": [4, 8, 8]}
    with pytest.raises(ModelMismatch, match=r"^1\d tensors") as caught:
        load_model(with_json(a_model_folder, channels=[{"name": "T1"}], architecture=wider))
    assert caught.value.found.count(" for (") == 5


def test_missing_and_additional_weights_are_refused(tmp_path):
    """Row 66."""
    weights = random_network(small_spec()).state_dict()
    weights["encoder.extra"] = weights.pop("decoder.seg_layers.0.bias")
    write_model(tmp_path / "renamed", small_spec(), [weights], "")
    with pytest.raises(ModelMismatch, match=r"seg_layers.0.bias: missing for .*extra: \(2,\) for nothing"):
        load_model(tmp_path / "renamed")


def test_labels_that_do_not_fit_the_classes_of_the_weights_are_refused(a_model_folder):
    """Row 72."""
    labels = [{"value": n, "name": f"label {n}"} for n in (1, 2)]
    with pytest.raises(ModelMismatch, match="seg_layers"):
        load_model(with_json(a_model_folder, labels=labels))


def test_other_weights_under_the_same_name_are_refused(a_model_folder, tmp_path):
    """Row 70."""
    other = write_random_model(tmp_path / "other", small_spec(), seed=1)
    (a_model_folder / "weights.safetensors").write_bytes((other / "weights.safetensors").read_bytes())
    with pytest.raises(DamagedModel, match="sha256"):
        load_model(a_model_folder)


def test_a_description_without_sha256_is_refused(a_model_folder):
    """Row 70."""
    with pytest.raises(DamagedModel, match=r"no sha256 of weights\.safetensors"):
        load_model(with_json(a_model_folder, sha256={}))


@pytest.mark.parametrize("key", ["_target_", "$import", "__class__", "__reduce__", "code", "weights"])
def test_unknown_keys_are_refused(key, a_model_folder):
    """Row 68."""
    with pytest.raises(DamagedModel, match=key.replace("$", r"\$")):
        read_spec(with_json(a_model_folder, **{key: "os.system"}))


@pytest.mark.parametrize("key", ["_target_", "$x"])
def test_unknown_keys_inside_are_refused(key, a_model_folder):
    with pytest.raises(DamagedModel, match="architecture"):
        read_spec(with_json(a_model_folder, architecture={**ARCHITECTURE, key: "os.system"}))


@pytest.mark.parametrize("number", ["1e999", "-1e999", "NaN", "Infinity", "1e308", "0", "-1", "[]", '"x"'])
def test_spacing_that_is_not_a_length_is_refused(number, a_model_folder):
    """Row 68."""
    with pytest.raises(DamagedModel, match=r"spacing_mm\.2"):
        read_spec(with_text(a_model_folder, "spacing_mm", f"[1, 1, {number}]"))


@pytest.mark.parametrize("number", ["1e999", "NaN", "-Infinity"])
@pytest.mark.parametrize("place", ["scores", "training"])
def test_numbers_that_json_does_not_know_are_refused(number, place, a_model_folder):
    """Row 68."""
    value = {"scores": '{"ball 1": {"dice": %s}}', "training": '{"loss": %s}'}[place] % number
    with pytest.raises(DamagedModel, match=place):
        read_spec(with_text(a_model_folder, place, value))


def test_a_key_that_occurs_twice_is_refused(a_model_folder):
    """Row 68."""
    path = a_model_folder / "model.json"
    path.write_text(path.read_text().rstrip().rstrip("}") + ', "name": "another"}')
    with pytest.raises(DamagedModel, match="twice"):
        read_spec(a_model_folder)


@pytest.mark.parametrize("depth", [5, 50, 900, 100_000])
@pytest.mark.parametrize("brackets", ["[]", "{}"])
def test_deep_nesting_is_refused(depth, brackets, a_model_folder):
    """Row 68."""
    opening, inner = ('{"a":', "1") if brackets == "{}" else ("[", "")
    value = opening * depth + inner + brackets[1] * depth
    with pytest.raises(DamagedModel):
        read_spec(with_text(a_model_folder, "training", value))


@pytest.mark.parametrize("depth", [3, 4, 5, 900, 100_000])
def test_settings_nested_deeper_than_any_network_needs_are_refused(depth, a_model_folder):
    """Row 68: three lists within the settings, which is six levels of the file."""
    settings = '{"spatial_dims": ' + "[" * depth + "3" + "]" * depth + "}"
    text = f'{{"name": "monai", "network": "UNet", "settings": {settings}}}'
    with pytest.raises(DamagedModel, match="nested" if depth > 3 else "multiples"):
        read_spec(with_text(a_model_folder, "architecture", text))


@pytest.mark.parametrize("text", ['"' + "\\" * 1_000_001, '"' + '\\"' * 500_000, '"' * 1_000_000, "[]" * 500_000])
def test_text_that_is_slow_to_look_through_is_refused_in_time(text, a_model_folder):
    """Row 68."""
    (a_model_folder / "model.json").write_text(text)
    start = time.perf_counter()
    with pytest.raises(DamagedModel, match="cannot be read"):
        read_spec(a_model_folder)
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/passwd", "notes.txt", "previous/../../x", "weights.pt", "model.py"]
)
def test_a_description_that_lists_other_files_than_a_package_has_is_refused(name, a_model_folder):
    """Row 68."""
    with pytest.raises(DamagedModel, match="sha256"):
        read_spec(with_json(a_model_folder, sha256={name: "0" * 64}))


@pytest.mark.parametrize("name", ["weights.safetensors", "README.md", "model.json"])
def test_a_link_that_leaves_the_folder_is_refused(name, a_model_folder, tmp_path):
    """Row 69, for folders: the content is right, the place is not."""
    (a_model_folder / name).rename(tmp_path / "outside")
    (a_model_folder / name).symlink_to(tmp_path / "outside")
    with pytest.raises(DamagedModel, match=f"{name} of 'balls' is a link"):
        load_model(a_model_folder)
    (a_model_folder / name).unlink()
    (tmp_path / "outside").rename(a_model_folder / "inside")
    (a_model_folder / name).symlink_to("inside")
    assert load_model(a_model_folder)


def test_a_changed_card_is_refused(a_model_folder):
    """Row 70: somebody may have changed the licence."""
    with open(a_model_folder / "README.md", "a") as file:
        file.write("Free for any use.\n")
    with pytest.raises(DamagedModel, match=r"README\.md of 'balls' has sha256"):
        load_model(a_model_folder)


def test_another_model_under_a_known_name_is_another_model(a_model_folder):
    """Row 71: nothing is remembered by name or by folder."""
    image = Image.from_array(np.random.default_rng(0).normal(size=(16, 16, 16)), Geometry.from_spacing((16, 16, 16)))
    first = segment(image, a_model_folder, device="cpu")
    write_random_model(a_model_folder, small_spec(), seed=7)
    second = segment(image, a_model_folder, device="cpu")
    assert not torch.equal(first.labels.tensor, second.labels.tensor)
    digests = [{value for key, value in run.provenance.items() if "sha256" in key} for run in (first, second)]
    assert digests[0]
    assert digests[0].isdisjoint(digests[1])


@pytest.mark.parametrize("value", [256, 300, 511])
def test_labels_beyond_255_are_never_wrapped(value, tmp_path):
    """Row 72: the network always answers with one of 511 labels, and the file holds that one."""
    spec = small_spec(511)
    weights = random_network(spec).state_dict()
    weights["decoder.seg_layers.0.bias"] = torch.zeros(512).index_fill(0, torch.tensor(value), 1000.0)
    write_model(tmp_path / "many", spec, [weights], "")
    image = Image.from_array(np.random.default_rng(0).normal(size=(16, 16, 16)), Geometry.from_spacing((16, 16, 16)))
    labels = segment(image, tmp_path / "many", device="cpu").labels
    assert labels.tensor.unique().tolist() == [value]
    write_labels(labels, tmp_path / "labels.nii.gz")
    assert np.unique(read_labels(tmp_path / "labels.nii.gz").numpy()).tolist() == [value]


@pytest.mark.parametrize("text", [b"", b"null", b"[]", b"{}", b'"model"', b"\xff\xfe\x00", b"{" * 1000, b"9" * 10_000])
def test_text_that_is_no_description_is_refused(text, a_model_folder):
    (a_model_folder / "model.json").write_bytes(text)
    with pytest.raises(DamagedModel):
        read_spec(a_model_folder)


@SHARED_FOLDER
@given(
    value=st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=9),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    ),
    key=st.sampled_from(sorted(small_spec().model_dump())),
)
def test_any_value_anywhere_is_refused_or_fits_the_schema(key, value, a_model_folder):
    path = a_model_folder / "model.json"
    original = path.read_text()
    try:
        spec = read_spec(with_json(a_model_folder, **{key: value}))
    except DamagedModel:
        return
    finally:
        path.write_text(original)
    assert type(spec).model_validate(spec.model_dump()) == spec


def test_a_description_of_megabytes_is_refused(a_model_folder):
    with pytest.raises(DamagedModel, match="bytes"):
        read_spec(with_json(a_model_folder, description="x" * (1 << 20)))


def test_a_package_without_weights_or_description_is_refused(a_model_folder, tmp_path):
    (a_model_folder / "weights.safetensors").unlink()
    with pytest.raises(DamagedModel, match="missing"):
        read_model(a_model_folder)
    (a_model_folder / "model.json").unlink()
    with pytest.raises(UnknownModel):
        read_model(a_model_folder)


def test_a_package_written_over_another_is_never_a_mixture(a_model_folder, monkeypatch):
    """Stopped after the weights and before the description: found out by the sha256."""
    from MedSegRegLib.files import model_package  # noqa: PLC0415

    real = model_package.atomic_path

    def stop_before_the_description(path: Path):
        if path.name == "model.json":
            raise KeyboardInterrupt
        return real(path)

    monkeypatch.setattr(model_package, "atomic_path", stop_before_the_description)
    with pytest.raises(KeyboardInterrupt):
        write_random_model(a_model_folder, small_spec(), seed=5)
    with pytest.raises(DamagedModel, match="sha256"):
        load_model(a_model_folder)


def test_weights_with_names_of_paths_are_only_names(a_model_folder, tmp_path):
    content = save({"../../../escaped": torch.zeros(2), "/absolute": torch.zeros(2)})
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ModelMismatch):
        load_model(with_weights(a_model_folder, content))
    assert sorted(tmp_path.rglob("*")) == before
