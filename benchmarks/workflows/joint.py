"""Joint refinement: half of the structures help, the other half is measured, then the halves change places.

``python benchmarks/workflows/joint.py GROUP --work DIR --data DIR``; see the README beside it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "registration"))

import real
import simulated
from pairs import Pair

from MedSegRegLib.files import read_image, read_labels
from MedSegRegLib.image import Image, Labels
from MedSegRegLib.register.filters import filter_axes, resize_axes
from MedSegRegLib.transform import Transform
from MedSegRegLib.workflows.drawn import Drawn
from MedSegRegLib.workflows.joint import Joint, refine_jointly
from MedSegRegLib.workflows.soft_labels import transfer_labels

GROUPS = ("templates", "t1-t1", "t1-t2", "t1-ct")
LEFT_OF_RIGHT = {right: left for left, right in simulated.RIGHT_OF_LEFT.items()}


@dataclass(frozen=True)
class Row:
    """A case with one half of its structures as terms; Dice of fixed and carried labels, means over structures."""

    case: str
    terms: int
    held: int
    kept: int
    score_alone: float
    score: float
    terms_alone: float
    terms_joint: float
    held_alone: float
    held_joint: float
    cpu_s: float


def main() -> None:
    """Run a group and write a row for each case and half, and the means."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("group", choices=GROUPS)
    parser.add_argument("--work", type=Path, required=True, help="folder for pairs and results")
    parser.add_argument("--data", type=Path, default=Path(), help="folder with brain_label_maps/")
    parser.add_argument("--spacing", type=float, default=2.0, help="mm")
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--split", choices=("tune", "report"), default="report", help="subjects 1-8 or 9-16")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for pair in _pairs(options):
        fixed, moving = (_read(pair, role, options.spacing) for role in ("fixed", "moving"))
        for half in (0, 1):
            rows.append(_measure(pair.name, fixed, moving, half, options.rounds))
            _say(rows[-1])
    means = {name: float(np.mean([getattr(row, name) for row in rows])) for name in list(asdict(rows[0]))[1:]}
    _say(Row("mean", **means))  # type: ignore[arg-type]
    (options.work / f"joint-{options.group}.json").write_text(json.dumps([asdict(row) for row in rows], indent=1))


def _pairs(options: argparse.Namespace) -> Iterator[Pair]:
    make, name = (real, "icbm-fsaverage") if options.group == "templates" else (simulated, options.group)
    yield from make.make_pairs(options.work, options.data, options.split, name, options.pairs)


def _read(pair: Pair, role: str, spacing: float) -> Drawn:
    """At a coarser spacing: the image averaged, the labels as they are carried."""
    image, labels = read_image(pair.path(role)), read_labels(pair.path(f"{role}_seg"))
    grid = image.geometry.with_spacing((spacing,) * 3)
    coarse = filter_axes(image.tensor, resize_axes(image.geometry, grid, image.tensor, smooth=True))
    return Drawn(Image(coarse, grid, image.name), transfer_labels(labels, grid, Transform()))


def _measure(name: str, fixed: Drawn, moving: Drawn, half: int, rounds: int) -> Row:
    """With every second structure, left and right together, as a term."""
    both = [set(study.labels.tensor.unique().tolist()) - {0} for study in (fixed, moving)]
    kinds = sorted({LEFT_OF_RIGHT.get(value, value) for value in both[0] & both[1]})
    chosen = set(kinds[half::2])
    terms, held = [], []
    for value in sorted(both[0] & both[1]):
        (terms if LEFT_OF_RIGHT.get(value, value) in chosen else held).append(value)
    began = time.process_time()
    result = refine_jointly(_only(fixed, terms), _only(moving, terms), rounds=rounds)
    seconds = time.process_time() - began
    alone, joint = (_dice(fixed.labels, moving.labels, way.transform) for way in (result.alone, result))
    return Row(
        name,
        len(terms),
        len(held),
        result.kept,
        result.rounds[0].score,
        _last(result),
        *(float(np.mean([dice[value] for value in part])) for part in (terms, held) for dice in (alone, joint)),
        seconds,
    )


def _last(result: Joint) -> float:
    return result.rounds[-1].score


def _only(study: Drawn, values: list[int]) -> Drawn:
    tensor = study.labels.tensor
    kept = torch.where(torch.isin(tensor, torch.tensor(values, dtype=tensor.dtype)), tensor, 0)
    structures = tuple(structure for structure in study.labels.structures if structure.value in values)
    return replace(study, labels=Labels(kept, study.labels.geometry, structures, study.labels.name))


def _dice(fixed: Labels, moving: Labels, transform: Transform) -> dict[int, float]:
    carried = transfer_labels(moving, fixed.geometry, transform).tensor
    found = {}
    for value in sorted(set(fixed.tensor.unique().tolist()) - {0}):
        one, other = fixed.tensor == value, carried == value
        found[value] = float(2 * (one & other).sum() / (one.sum() + other.sum()))
    return found


def _say(row: Row) -> None:
    cells = (f"{value:.3f}" if isinstance(value, float) else str(value) for value in asdict(row).values())
    sys.stdout.write(f"| {' | '.join(cells)} |\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
