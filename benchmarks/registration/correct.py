"""What a correction costs and what it changes, on two real brains: ``correct.py``.

The ICBM template is registered onto subject S1 at 2 mm (the samples that are shipped). Then three pairs of landmarks
are corrected: each moves its place by 4 to 8 mm in a direction drawn at random, which the images contradict: the
hardest case for folding. A second and a third correction follow, as a person would. With ``--pair`` (of the set
``known``) the landmarks lie at the true places where the registration is worst, and the error around them is measured.

Times are wall and, in brackets, CPU seconds: until the points are met, until the images have been asked (both are
shown), and until inverse and quality are there.
"""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from MedSegRegLib.files import read_image, read_labels, read_transform
from MedSegRegLib.image import Image
from MedSegRegLib.register.correct import correct
from MedSegRegLib.register.correction_plan import REACH_MM
from MedSegRegLib.register.guidance import Guidance
from MedSegRegLib.register.presets import PRESETS
from MedSegRegLib.register.run import Registration, register
from MedSegRegLib.resample import resample_image
from MedSegRegLib.samples import sample_path

SPACING_MM = 2.0
APART_MM = 30.0
POINTS = 3
CORRECTIONS = 3
DRAWN_MM = (4.0, 8.0)
RINGS_MM = (0, 10, 20, 30, 40, np.inf)


def main(
    presets: Annotated[str, typer.Option(help="Separated by commas.")] = "quick,brain-same-contrast",
    pair: Annotated[Path | None, typer.Option(help="Folder of a pair with a truth.")] = None,
    threads: Annotated[int, typer.Option(min=1)] = 2,
    device: str = "cpu",
) -> None:
    """Print a table for each preset."""
    torch.set_num_threads(threads)
    for name in presets.split(","):
        typer.echo(f"\n{name}, {SPACING_MM:g} mm, {device}, {threads} threads\n")
        if pair is None:
            _contradicting(name, device)
        else:
            _true(name, pair, device)


def _contradicting(preset: str, device: str) -> None:
    """Corrections of two real brains, one after the other."""
    fixed, moving = (_at_spacing(read_image(sample_path(name))) for name in ("icbm152-t1", "s1-t1"))
    found = register(fixed, moving, PRESETS[preset], device=device)
    rng = np.random.default_rng(0)
    brain = read_labels(sample_path("icbm152-t1-mask"))
    points = brain.geometry.map_voxels(np.argwhere(brain.tensor.numpy() > 0)[::97, ::-1])
    typer.echo(
        "| correction | points s | images s | all s | worst landmark mm before | after | beyond 40 mm, mm "
        "| folds before | after | mean inverse error mm before | after |"
    )
    typer.echo("|" + "---|" * 11)
    for number in range(CORRECTIONS):
        marks = _apart(points[rng.permutation(len(points))])
        steps = rng.normal(size=marks.shape)
        steps *= rng.uniform(*DRAWN_MM, size=(POINTS, 1)) / np.linalg.norm(steps, axis=1, keepdims=True)
        wanted = found.transform.map_points(marks) + steps
        result, times = _timed(fixed, moving, found, Guidance(marks, wanted), device)
        before, after = (np.linalg.norm(r.transform.map_points(marks) - wanted, axis=1).max() for r in (found, result))
        distance = np.linalg.norm(points[:, None] - marks, axis=-1).min(axis=1)
        moved = np.linalg.norm(result.transform.map_points(points) - found.transform.map_points(points), axis=1)
        folds = [r.quality.folding.voxels_any_corner for r in (found, result)]
        inverse = [r.quality.inverse_consistency.mean_mm for r in (found, result)]
        typer.echo(
            f"| {number + 1} | {times} | {before:.2f} | {after:.3f} | {moved[distance > REACH_MM].max():.4f} "
            f"| {folds[0]} | {folds[1]} | {inverse[0]:.3f} | {inverse[1]:.3f} |"
        )
        found = result


def _true(preset: str, pair: Path, device: str) -> None:
    """One correction where the registration is worst, towards the truth."""
    fixed, moving = (_at_spacing(read_image(pair / f"{side}.nii.gz")) for side in ("fixed", "moving"))
    counted = read_labels(pair / "score_mask.nii.gz")
    points = counted.geometry.map_voxels(np.argwhere(counted.tensor.numpy() > 0)[::53, ::-1])
    true = read_transform(pair / "truth.nii.gz").map_points(points)
    found = register(fixed, moving, PRESETS[preset], device=device)
    worst_first = np.argsort(-np.linalg.norm(found.transform.map_points(points) - true, axis=1))
    marks = _apart(points[worst_first])
    at = [int(np.linalg.norm(points - mark, axis=1).argmin()) for mark in marks]
    result, times = _timed(fixed, moving, found, Guidance(points[at], true[at]), device)
    typer.echo(f"points s | images s | all s: {times}\n")
    distance = np.linalg.norm(points[:, None] - marks, axis=-1).min(axis=1)
    typer.echo("| mm from the landmarks | error before mm | after |\n|---|---|---|")
    for low, high in itertools.pairwise(RINGS_MM):
        ring = (distance >= low) & (distance < high)
        errors = [np.linalg.norm(r.transform.map_points(points[ring]) - true[ring], axis=1) for r in (found, result)]
        typer.echo(f"| {low:g} to {high:g} | {errors[0].mean():.2f} | {errors[1].mean():.2f} |")


def _timed(
    fixed: Image, moving: Image, found: Registration, guidance: Guidance, device: str
) -> tuple[Registration, str]:
    times: list[str] = []
    began, cpu = time.perf_counter(), time.process_time()

    def note(*_) -> None:
        times.append(f"{time.perf_counter() - began:.2f} ({time.process_time() - cpu:.2f})")

    result = correct(fixed, moving, found, guidance, device=device, on_level=note)
    note()
    return result, " | ".join(times)


def _at_spacing(image: Image) -> Image:
    return resample_image(image, image.geometry.with_spacing((SPACING_MM,) * 3))


def _apart(points: np.ndarray) -> np.ndarray:
    """The first three that are well apart."""
    chosen: list[np.ndarray] = []
    for point in points:
        if all(np.linalg.norm(point - other) > APART_MM for other in chosen):
            chosen.append(point)
        if len(chosen) == POINTS:
            break
    return np.array(chosen)


if __name__ == "__main__":
    typer.run(main)
