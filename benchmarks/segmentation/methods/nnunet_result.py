"""The parts of a result folder of nnU-Net, for methods that want the same network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch


def result_folder(models: Path) -> Path:
    """Where plans.json lies."""
    return next((models / "nnunet").glob("*/*/plans.json")).parent


def read_result(models: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, torch.Tensor]]:
    """plans.json, dataset.json and the weights of fold 0."""
    folder = result_folder(models)
    plans, dataset = (json.loads((folder / name).read_text()) for name in ("plans.json", "dataset.json"))
    checkpoint = torch.load(folder / "fold_0" / "checkpoint_final.pth", weights_only=True)
    return plans, dataset, checkpoint["network_weights"]
