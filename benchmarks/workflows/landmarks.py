"""Anatomical landmarks (AFIDs) from Colin27 to ICBM 2009c: ours and peers, beside the best affine that exists.

``python benchmarks/workflows/landmarks.py --work DIR --data DIR``; see the README beside it. The folder of ``--work``
is that of the registration's benchmark: its environments hold the peers, and its runner measures them.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import SimpleITK as sitk

sys.path.insert(0, str(Path(__file__).parents[1] / "registration"))

import real
from child import Conditions, run_once
from pairs import LANDMARKS, Pair
from score import map_points

from MedSegRegLib.register.invert import fit_linear

OURS = "medsegreg:deformable"
METHODS = f"{OURS},medsegreg:brain-same-contrast,medsegreg:best,medsegreg:affine,greedy,ants-quick"


def main() -> None:
    """Run what has not run yet, and write a row for each method."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder of the registration's benchmark")
    parser.add_argument("--data", type=Path, required=True, help="folder with afids/")
    parser.add_argument("--methods", default=METHODS, help="by comma, as of the registration's benchmark")
    options = parser.parse_args()
    (pair,) = real.make_pairs(options.work, options.data, "report", "colin27-icbm", 1)
    fixed, moving = (np.loadtxt(pair.path(points), delimiter=",") for points in LANDMARKS)
    affine = fit_linear(fixed, moving)
    _say("no registration", _distances(fixed, moving))
    _say("best affine of the landmarks themselves", _distances(fixed @ affine[:3, :3].T + affine[:3, 3], moving))
    conditions = Conditions(options.work, 1, "cpu", 3600, keep_fields=True)
    seconds: dict[str, float] = {}
    for method in options.methods.split(","):
        run = options.work / "landmarks" / method.replace(":", "-")
        if not (run / "score.json").exists():
            run_once(pair, method, run, conditions)
        if (run / "failure.txt").exists():
            sys.stdout.write(f"| {method} | {(run / 'failure.txt').read_text()} |\n")
            continue
        seconds[method] = _cpu_seconds(run)
        _say(method, _errors(pair, run, fixed, moving), seconds[method], seconds.get(OURS))


def _errors(pair: Pair, run: Path, fixed: np.ndarray, moving: np.ndarray) -> np.ndarray:
    field = sitk.ReadImage(str(run / "field.mha"), sitk.sitkVectorFloat32)
    return _distances(map_points(field, fixed), moving)


def _distances(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return np.linalg.norm(found - truth, axis=1)


def _cpu_seconds(run: Path) -> float:
    return float(json.loads((run / "usage.json").read_text())["cpu_s"])


def _say(name: str, errors: np.ndarray, seconds: float | None = None, ours: float | None = None) -> None:
    numbers = f"{errors.mean():.2f} | {np.median(errors):.2f} | {np.percentile(errors, 95):.2f} | {errors.max():.2f}"
    time = "" if seconds is None else f"{seconds:.0f} | {'' if ours is None else f'{seconds / ours:.2f}'}"
    sys.stdout.write(f"| {name} | {numbers} | {time} |\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
