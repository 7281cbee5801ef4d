"""Segmentation by atlases: one against several, votes that count alike against votes weighted where images are alike.

``python benchmarks/workflows/atlas.py --data DIR``: the first cases of ``hippocampus`` by the 21st to 25th.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch

from MedSegRegLib.files import read_image, read_labels
from MedSegRegLib.image import Labels
from MedSegRegLib.workflows.atlas import Atlas, fuse_votes, segment_by_atlases
from MedSegRegLib.workflows.soft_labels import transfer_labels

FIRST_ATLAS, ATLASES = 20, 5
VALUES = (1, 2)


def main() -> None:
    """Segment the cases and write one line each, and the means."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with hippocampus/{images,labels}")
    parser.add_argument("--cases", type=int, default=6)
    options = parser.parse_args()
    torch.set_num_threads(1)
    images = sorted((options.data / "hippocampus" / "images").glob("*.nii.gz"))
    atlases = [_read(path) for path in images[FIRST_ATLAS : FIRST_ATLAS + ATLASES]]
    rows = []
    for path in images[: options.cases]:
        rows.append(_measure(_read(path), atlases))
        _say(path.name, rows[-1])
    _say("mean", {name: float(np.mean([row[name] for row in rows])) for name in rows[0]})


def _read(image: Path) -> Atlas:
    return Atlas(read_image(image), read_labels(image.parents[1] / "labels" / image.name))


def _measure(case: Atlas, atlases: list[Atlas]) -> dict[str, float]:
    began = time.process_time()
    result = segment_by_atlases(case.image, atlases)
    seconds = time.process_time() - began
    grid = case.image.geometry
    votes = [
        transfer_labels(atlas.labels, grid, found.transform).tensor
        for atlas, found in zip(atlases, result.registrations, strict=True)
    ]
    alike = torch.ones(()).expand(grid.shape_kji)
    return {
        "one atlas": float(np.mean([_dice(vote, case.labels) for vote in votes])),
        "majority": _dice(fuse_votes(votes, [alike] * len(votes))[0], case.labels),
        "local": _dice(result.labels.tensor, case.labels),
        "CPU s": seconds,
    }


def _dice(found: torch.Tensor, truth: Labels) -> float:
    pairs = [(found == value, truth.tensor == value) for value in VALUES]
    return float(np.mean([2 * float((a & b).sum()) / float(a.sum() + b.sum()) for a, b in pairs]))


def _say(name: str, row: dict[str, float]) -> None:
    sys.stdout.write(f"| {name} | {' | '.join(f'{value:.3f}' for value in row.values())} |\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
