"""Carrying labels between real studies: Dice with the truth, against the nearest voxel, and is the confidence right?

``python benchmarks/workflows/carry.py GROUP --work DIR --data DIR``; see the README beside it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr

sys.path.insert(0, str(Path(__file__).parents[1] / "registration"))

import hippocampus
import real
import simulated
from pairs import Pair
from sources import icbm

from MedSegRegLib.files import read_image, read_labels
from MedSegRegLib.image import Image, Labels
from MedSegRegLib.register.filters import filter_axes, resize_axes
from MedSegRegLib.resample import resample_labels
from MedSegRegLib.samples import sample_path
from MedSegRegLib.transform import Transform
from MedSegRegLib.workflows.carry import carry
from MedSegRegLib.workflows.soft_labels import transfer_labels

GROUPS = ("hippocampus", "hippocampus-tune", "templates", "simulated-tune", "s1")


@dataclass(frozen=True, eq=False)
class Case:
    """One thing to carry; ``truth`` lies on the target's grid, or is None."""

    name: str
    source: Image
    target: Image
    labels: Labels
    truth: Labels | None


def main() -> None:
    """Run a group and write its rows and its summary."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("group", choices=GROUPS)
    parser.add_argument("--work", type=Path, required=True, help="folder for pairs and results")
    parser.add_argument("--data", type=Path, default=Path(), help="folder with hippocampus/, brain_label_maps/")
    parser.add_argument("--spacing", type=float, default=1.5, help="mm, of whole heads and brains")
    parser.add_argument("--pairs", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, object]] = []
    for case in _cases(options):
        rows += _measure(case)
        _say(_summary([row for row in rows if row["case"] == case.name], case.name))
    _say(_summary(rows, "all"))
    (options.work / f"carry-{options.group}.json").write_text(json.dumps(rows, indent=1))


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _cases(options: argparse.Namespace) -> Iterator[Case]:
    group, split = options.group.removesuffix("-tune"), "tune" if options.group.endswith("-tune") else "report"
    if group == "s1":
        files = icbm(options.work)
        source, labels = _at(read_image(files["t1"]), read_labels(files["structures"]), options.spacing)
        yield Case("icbm-s1", source, _at(read_image(sample_path("s1-t1")), None, options.spacing)[0], labels, None)
        return
    make, name = {
        "hippocampus": (hippocampus.make_pairs, "mri"),
        "templates": (real.make_pairs, "icbm-fsaverage"),
        "simulated": (simulated.make_pairs, "t1-t1"),
    }[group]
    spacing = None if group == "hippocampus" else options.spacing
    for pair in make(options.work, options.data, split, name, options.pairs):
        yield _case(pair, spacing)


def _case(pair: Pair, spacing: float | None) -> Case:
    (target, truth), (source, labels) = (
        _at(read_image(pair.path(role)), read_labels(pair.path(f"{role}_seg")), spacing) for role in ("fixed", "moving")
    )
    return Case(pair.name, source, target, labels, truth)


def _at(image: Image, labels: Labels | None, spacing: float | None) -> tuple[Image, Labels]:
    """Both at a coarser spacing: the image averaged, the labels as they are carried."""
    grid = image.geometry
    if spacing is not None:
        grid = grid.with_spacing((spacing,) * 3)
        image = Image(
            filter_axes(image.tensor, resize_axes(image.geometry, grid, image.tensor, smooth=True)), grid, image.name
        )
    return image, None if labels is None else transfer_labels(labels, grid, Transform())


def _measure(case: Case) -> list[dict[str, object]]:
    began = time.process_time()
    carried = carry(case.source, case.target, labels=case.labels)
    seconds = time.process_time() - began
    nearest = resample_labels(case.labels, case.target.geometry, carried.transform)
    similarity = carried.registration.settings.deformable.similarity
    return [
        {
            "case": case.name,
            **asdict(review),
            "dice": _dice(carried.labels, case.truth, review.value),
            "dice_nearest": _dice(nearest, case.truth, review.value),
            "cpu_seconds": seconds,
            "similarity": similarity,
        }
        for review in carried.review
    ]


def _dice(found: Labels, truth: Labels | None, value: int) -> float | None:
    """None where there is no truth of this structure."""
    if truth is None or not bool((truth.tensor == value).any()):
        return None
    one, other = found.tensor == value, truth.tensor == value
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


def _summary(rows: list[dict[str, object]], name: str) -> str:
    scored = [row for row in rows if row["dice"] is not None]
    confidence = np.array([row["confidence"] for row in scored or rows])
    text = f"| {name} | {rows[0]['similarity']} | {len(scored or rows)} |"
    if scored:
        dice, nearest = (np.array([row[key] for row in scored]) for key in ("dice", "dice_nearest"))
        rho = spearmanr(confidence, dice)[0] if len(scored) > 2 else np.nan
        error = np.abs(confidence - dice).mean()
        text += f" {dice.mean():.3f} | {nearest.mean():.3f} | {confidence.mean():.3f} | {error:.3f} | {rho:.2f} |"
    else:
        cycle = np.mean([row["cycle_dice"] for row in rows])
        text += f" | | {confidence.mean():.3f} | | | mean Dice there and back {cycle:.3f}"
    return f"{text} {rows[0]['cpu_seconds']:.0f} |"


if __name__ == "__main__":
    main()
