"""How long a person waits after placing three pairs of landmarks on a registered brain: ``interaction.py PAIR_FOLDER``.

The pair is one of the set ``known``. It is registered at 2 mm; the three places with the largest error get landmarks at
their true places, and the motion is solved again from where it stands, on the finest level only.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from MedSegRegLib.files import read_image, read_labels, read_transform
from MedSegRegLib.register.guidance import Guidance
from MedSegRegLib.register.presets import PRESETS
from MedSegRegLib.register.run import register

APART_MM = 30.0
NEAR_MM = 10.0


def main(
    pair: Annotated[Path, typer.Argument(help="Folder of a pair with a truth.")],
    repeats: Annotated[int, typer.Option(min=1)] = 3,
    threads: Annotated[int, typer.Option(min=1)] = 2,
    device: str = "cpu",
) -> None:
    """Print the seconds to the new transform, and the error near the landmarks before and after."""
    torch.set_num_threads(threads)
    fixed, moving = (read_image(pair / f"{side}.nii.gz") for side in ("fixed", "moving"))
    truth = read_transform(pair / "truth.nii.gz")
    counted = read_labels(pair / "score_mask.nii.gz")
    quick = PRESETS["quick"]
    points = fixed.geometry.map_voxels((counted.tensor > 0).nonzero().flip(1).numpy()[::53].astype(float))
    true = truth.map_points(points)
    first = register(fixed, moving, quick, device=device)
    errors = np.linalg.norm(first.transform.map_points(points) - true, axis=1)
    chosen = _worst(points, errors)
    near = np.linalg.norm(points[:, None] - points[chosen], axis=-1).min(axis=1) < NEAR_MM
    dense = quick.deformable
    assert dense is not None
    again = quick.model_copy(update={"deformable": dense.model_copy(update={"first_level": len(dense.coarsening) - 1})})
    guidance = Guidance(fixed_points=points[chosen], moving_points=true[chosen])
    seconds, shown = [], []
    for _ in range(repeats):
        began = time.perf_counter()
        result = register(
            fixed,
            moving,
            again,
            initial=first.transform,
            guidance=guidance,
            device=device,
            on_level=lambda transform, level, began=began: shown.append(time.perf_counter() - began),
        )
        seconds.append(time.perf_counter() - began)
    after = np.linalg.norm(result.transform.map_points(points) - true, axis=1)
    typer.echo(f"device {device}, {threads} threads, {repeats} runs, medians")
    typer.echo(
        f"shown after {statistics.median(shown):.2f} s, with its quality after {statistics.median(seconds):.2f} s"
    )
    typer.echo(
        f"error within {NEAR_MM:g} mm of the landmarks: {errors[near].mean():.2f} mm, after {after[near].mean():.2f} mm"
    )
    typer.echo(f"error in the whole brain: {errors.mean():.2f} mm, after {after.mean():.2f} mm")


def _worst(points: np.ndarray, errors: np.ndarray) -> list[int]:
    """Three places with large errors, well apart."""
    chosen: list[int] = []
    for candidate in np.argsort(errors)[::-1]:
        if all(np.linalg.norm(points[candidate] - points[other]) > APART_MM for other in chosen):
            chosen.append(int(candidate))
        if len(chosen) == 3:
            break
    return chosen


if __name__ == "__main__":
    typer.run(main)
