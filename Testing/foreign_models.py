"""Models of other tools as those tools write them, for the tests of the import."""

from __future__ import annotations

import copy
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

GOLDEN: dict[str, dict[str, Any]] = json.loads((Path(__file__).parent / "unit" / "nnunet_golden.json").read_text())
DATASET = "Dataset901_Balls"


def golden_weights(network: str, fold: int = 0) -> dict[str, torch.Tensor]:
    """The weights that ``nnunet_golden.json`` was made with, under all their names; other folds have others."""
    golden = GOLDEN[network]
    tensors = [
        (torch.arange(int(np.prod(shape))) * 0.7 + number + fold).sin().mul(0.5).reshape(shape)
        for number, shape in enumerate(golden["shapes"])
    ]
    return {name: tensors[number] for name, number in golden["names"].items()}


def nnunet_checkpoint(network: str, configuration: str, fold: int = 0) -> dict[str, Any]:
    """What nnU-Net 2.8 puts into checkpoint_final.pth."""
    weights = golden_weights(network, fold)
    momentum = {0: {"momentum_buffer": torch.zeros(3)}}
    return {
        "network_weights": weights,
        "optimizer_state": {"state": momentum, "param_groups": [{"lr": 0.01, "params": [0]}]},
        "grad_scaler_state": None,
        "logging": {"mean_fg_dice": [np.float64(0.5)], "dice_per_class_or_region": [[np.float32(0.5)]]},
        "_best_ema": np.float64(0.5),
        "current_epoch": 1000,
        "init_args": {"configuration": configuration, "fold": fold, "device": torch.device("cpu")},
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": (0, 1, 2)[: 3 if "3d" in network else 2],
    }


def nnunet_dataset(**changes: Any) -> dict[str, Any]:
    """dataset.json."""
    content = {
        "channel_names": {"0": "MR"},
        "labels": {"background": 0, "ball": 1, "core": 2},
        "numTraining": 1,
        "file_ending": ".nii.gz",
        "licence": "CC0-1.0",
    }
    return {**content, **changes}


def nnunet_plans(network: str = "plain 3d") -> dict[str, Any]:
    """plans.json, free to be changed."""
    return copy.deepcopy(GOLDEN[network]["plans"])


def write_nnunet_result(
    folder: Path,
    network: str = "plain 3d",
    folds: tuple[str, ...] = ("0",),
    change: Callable[[dict[str, Any]], object] = lambda checkpoint: None,
    dataset: dict[str, Any] | None = None,
) -> Path:
    """A result folder below ``folder``; ``change`` may alter each checkpoint before it is saved."""
    configuration = "3d_fullres" if "3d" in network else "2d"
    result = folder / DATASET / f"nnUNetTrainer__nnUNetPlans__{configuration}"
    for number, fold in enumerate(folds):
        (result / f"fold_{fold}").mkdir(parents=True)
        checkpoint = nnunet_checkpoint(network, configuration, number)
        change(checkpoint)
        torch.save(checkpoint, result / f"fold_{fold}" / "checkpoint_final.pth")
    (result / "plans.json").write_text(json.dumps(nnunet_plans(network)))
    (result / "dataset.json").write_text(json.dumps(dataset or nnunet_dataset()))
    return result


def zip_folder(folder: Path, archive: Path) -> Path:
    """Everything below the folder, as nnU-Net exports it."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                opened.write(path, path.relative_to(folder).as_posix())
    return archive


class Bomb:
    """When unpickled by a careless reader, makes the file ``marker``."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (f"open({str(self.marker)!r}, 'w').close()",)
