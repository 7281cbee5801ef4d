"""MONAI bundles are read as data: known networks and transforms, no Python, no objects."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.networks import nets

from foreign_models import zip_folder
from MedSegRegLib.errors import MedSegRegError, ModelMismatch, UnsafeFile, UnsupportedFile
from MedSegRegLib.files.model_package import read_model
from MedSegRegLib.model_import.monai_bundle import plain
from MedSegRegLib.model_import.monai_transforms import intensity_and_grid
from MedSegRegLib.model_import.run import import_model
from MedSegRegLib.preprocess import ClipStandardize, NonzeroZScore, PercentileRange, ScaleRange
from MedSegRegLib.segment.network import build_network

NETWORK = {"spatial_dims": 3, "in_channels": 1, "out_channels": 3, "channels": [4, 8], "strides": [2], "norm": "batch"}
METADATA = {
    "name": "Spleen CT",
    "version": "0.5.9",
    "description": "Spleen.",
    "network_data_format": {
        "inputs": {"image": {"modality": "CT", "num_channels": 1, "channel_def": {"0": "image"}}},
        "outputs": {"pred": {"num_channels": 3, "channel_def": {"0": "background", "1": "spleen", "2": "cyst"}}},
    },
}
INFERENCE = {
    "bundle_root": ".",
    "output_dir": "$@bundle_root + '/eval'",
    "dataset": {"_target_": "Dataset", "data": "$[{'image': i} for i in @datalist]"},
    "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
    "pixdim": [1.5, 1.5, 2.0],
    "network_def": {"_target_": "UNet", **NETWORK},
    "network": "$@network_def.to(@device)",
    "preprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "LoadImaged", "keys": "image"},
            {"_target_": "EnsureChannelFirstd", "keys": "image"},
            {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
            {"_target_": "Spacingd", "keys": "image", "pixdim": "@pixdim", "mode": "bilinear"},
            {
                "_target_": "ScaleIntensityRanged",
                "keys": "image",
                "a_min": -57,
                "a_max": 164,
                "b_min": 0,
                "b_max": 1,
                "clip": True,
            },
            {"_target_": "EnsureTyped", "keys": "image"},
        ],
    },
    "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [16, 24, 32], "sw_batch_size": 4, "overlap": 0.5},
    "postprocessing": {
        "_target_": "Compose",
        "transforms": [{"_target_": "Activationsd", "keys": "pred", "softmax": True}],
    },
}


def write_bundle(folder: Path, inference: dict[str, Any] = INFERENCE) -> nets.UNet:
    torch.manual_seed(0)
    network = nets.UNet(**NETWORK).eval()
    for part in ("configs", "models"):
        (folder / part).mkdir(parents=True)
    (folder / "configs" / "metadata.json").write_text(json.dumps(METADATA))
    (folder / "configs" / "inference.json").write_text(json.dumps(inference))
    torch.save(network.state_dict(), folder / "models" / "model.pt")
    return network


def with_change(**changes: Any) -> dict[str, Any]:
    inference = copy.deepcopy(INFERENCE)
    for path, value in changes.items():
        place: Any = inference
        *parents, last = path.split("__")
        for parent in parents:
            place = place[parent]
        place[last] = value
    return inference


def test_imported_bundle_gives_monais_scores(tmp_path: Path) -> None:
    network = write_bundle(tmp_path / "spleen" / "bundle")
    archive = zip_folder(tmp_path / "spleen", tmp_path / "spleen.zip")
    spec, findings = import_model(archive, tmp_path / "imported", licence="Apache-2.0")
    _, (weights,) = read_model(tmp_path / "imported")
    ours = build_network(spec.architecture, 1, spec.classes).eval()
    ours.load_state_dict(weights)
    image = torch.randn(1, 1, 16, 24, 32)
    with torch.inference_mode():
        torch.testing.assert_close(ours(image), network(image), atol=1e-4, rtol=0)
    assert not findings
    assert (spec.name, spec.version, spec.channels[0].modality) == ("spleen-ct", "0.5.9", "CT")
    assert [label.name for label in spec.labels] == ["spleen", "cyst"]
    assert spec.intensity == (ScaleRange(low=-57, high=164, clip=True),)
    assert spec.grid.axes == "sar"  # MONAI's tensors are [right, anterior, superior], the last one fastest
    assert spec.spacing_mm == (2.0, 1.5, 1.5)
    assert (spec.tile_ijk, spec.tile_overlap) == ((32, 24, 16), 0.5)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"network_def___target_": "os.system"}, r"os\.system"),
        ({"network_def___target_": "evil.networks.UNet"}, "evil"),
        ({"network_def": "$__import__('os').system('x')"}, "__import__"),
        ({"network_def__channels": "$[4, 8]"}, "Python"),
        ({"network_def__norm": {"_target_": "builtins.eval"}}, "builtins"),
        ({"network_def__channels": "@device"}, "Python"),
        ({"network_def__channels": "@nowhere"}, "nowhere"),
        ({"network_def__act": "__class__"}, "plain word"),
        ({"inferer__roi_size": "$open('marker', 'w')"}, "Python"),
        ({"pixdim": "$open('marker', 'w')"}, "Python"),
        ({"pixdim": "@pixdim"}, "deeply"),
        ({"inferer__roi_size": None}, "roi_size"),
    ],
)
def test_refuses_code_in_what_is_needed(
    tmp_path: Path, changes: dict[str, Any], match: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_bundle(tmp_path / "bundle", with_change(**changes))
    with pytest.raises((UnsafeFile, UnsupportedFile), match=match):
        import_model(tmp_path / "bundle", tmp_path / "imported")
    assert not (tmp_path / "marker").exists()


def test_a_description_says_what_the_bundle_computes(tmp_path: Path) -> None:
    write_bundle(tmp_path / "bundle", with_change(inferer__roi_size="@somewhere"))
    (tmp_path / "d.json").write_text(json.dumps({"tile_ijk": [16, 16, 16]}))
    with pytest.raises(MedSegRegError):
        import_model(tmp_path / "bundle", tmp_path / "imported")
    write_bundle(tmp_path / "other", with_change(inferer={"_target_": "SimpleInferer"}))
    spec, _ = import_model(tmp_path / "other", tmp_path / "imported", description=tmp_path / "d.json")
    assert spec.tile_ijk == (16, 16, 16)


def test_refuses_weights_of_another_network(tmp_path: Path) -> None:
    write_bundle(tmp_path / "bundle", with_change(network_def__channels=[4, 16]))
    with pytest.raises(ModelMismatch, match=r"network\.model"):
        import_model(tmp_path / "bundle", tmp_path / "imported")


def test_looks_up_plain_references_only() -> None:
    config = {"a": {"b": [1, "@c"]}, "c": 2, "d": "$1"}
    assert plain("@a::b", config) == [1, 2]
    assert plain("@a#b", config) == [1, 2]
    with pytest.raises(UnsafeFile):
        plain("@d", config)


def test_knows_the_usual_transforms_and_tells_of_others() -> None:
    content, findings = intensity_and_grid(
        [
            ("NormalizeIntensity", {"nonzero": True, "channel_wise": True}),
            ("Spacing", {"pixdim": [1.0, 1.0, -1]}),
            ("NormalizeIntensity", {"subtrahend": 3.0, "divisor": 2.0}),
            ("ScaleIntensity", {}),
            ("RandomMagic", {}),
        ],
        3,
    )
    assert content["intensity"] == (
        NonzeroZScore(),
        ClipStandardize(mean=3, std=2),
        PercentileRange(low=0, high=100),
    )
    assert content["spacing_mm"] == (None, 1.0, 1.0)
    assert content["grid"].axes == "kji"
    assert content["grid"].normalise_first
    assert "RandomMagic" in findings[0].message
