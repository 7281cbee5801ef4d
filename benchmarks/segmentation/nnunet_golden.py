"""Names, shapes and scores of nnU-Net's own networks, for the tests: ``nnunet_golden.py FILE``."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
import typer
from nnunet_cases import FLAT, Case, plans_of
from nnunet_training import untrained

THICK = {"kernels": ((1, 3, 3), (3, 3, 3), (3, 3, 3)), "strides": ((1, 1, 1), (1, 2, 2), (2, 2, 2))}
NETWORKS = {
    "plain 3d": Case("", features=(3, 4, 5), patch_kji=(8, 16, 16), **THICK),
    "residual 2d": Case(
        "", features=(3, 4, 5), residual=True, spacing_kji=(1.2, 1.3), **{**FLAT, "patch_kji": (16, 24)}
    ),
}
SAMPLES = 12


def main(output: Path) -> None:
    """Write the file."""
    content = {name: _facts(case) for name, case in NETWORKS.items()}
    output.write_text(json.dumps(content) + "\n")


def _facts(case: Case) -> dict[str, Any]:
    """Every name of a checkpoint with the number of its tensor, each tensor's shape, and some scores.

    Tensor n holds 0.5 sin(0.7 m + n) at its m-th place, the input cos(0.3 m).
    """
    network = untrained(case).eval()
    state = network.state_dict()
    numbers: dict[int, int] = {}
    names = {name: numbers.setdefault(tensor.data_ptr(), len(numbers)) for name, tensor in state.items()}
    tensors = {names[name]: tensor for name, tensor in state.items()}
    for number, tensor in tensors.items():
        tensor.copy_((torch.arange(tensor.numel()) * 0.7 + number).sin().mul(0.5).reshape(tensor.shape))
    image = torch.arange(math.prod(case.patch_kji)).mul(0.3).cos().reshape(1, 1, *case.patch_kji)
    with torch.inference_mode():
        scores = network(image)
    return {
        "plans": plans_of(case),
        "names": names,
        "shapes": [list(tensors[number].shape) for number in range(len(tensors))],
        "scores": [round(float(score), 5) for score in scores.flatten()[:: scores.numel() // SAMPLES]],
    }


if __name__ == "__main__":
    typer.run(main)
