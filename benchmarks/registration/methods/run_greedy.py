"""greedy (picsl-greedy) in double precision: affine, then stationary-velocity ``-sv`` with WNCC, or with NMI.

Single precision diverges on brains with NCC, so it is not offered.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from functools import partial

import numpy as np
import SimpleITK as sitk
from exchange import (
    RAS_LPS,
    Part,
    Task,
    affine_then_dense,
    affine_transform,
    dense_then_affine_inverse,
    dense_transform,
    main,
    write_fields,
)
from picsl_greedy import Greedy3D

ITERATIONS = "100x50x10"


def register(task: Task) -> Callable[[], None]:
    """Linear and, unless only a rigid transform is asked for, dense."""
    greedy = Greedy3D()
    linear = register_linear(greedy, task, degrees=6 if task.motion == "rigid" else 12)
    if task.motion == "rigid":
        return partial(write_fields, task, linear, linear.GetInverse())
    metric = "WNCC 2x2x2" if task.contrast == "same" else "NMI"
    with Part("deformable"):
        greedy.execute(
            f"-d 3 -i {task.fixed} {task.moving} -it {task.run}/affine.mat -m {metric} -n {ITERATIONS} -sv "
            f"{_masks(task)} -o {task.run}/warp.nii.gz -oinv {task.run}/inverse_warp.nii.gz -threads {task.threads}"
        )
    warp, back = dense_transform(task.run / "warp.nii.gz"), dense_transform(task.run / "inverse_warp.nii.gz")
    return partial(write_fields, task, affine_then_dense(linear, warp), dense_then_affine_inverse(linear, back))


def register_linear(greedy: Greedy3D, task: Task, degrees: int) -> sitk.AffineTransform:
    """Fixed to moving; greedy's matrix is RAS."""
    metric = "NCC 2x2x2" if task.contrast == "same" else "NMI"
    with Part("affine"):
        greedy.execute(
            f"-d 3 -a -dof {degrees} -i {task.fixed} {task.moving} -m {metric} -n {ITERATIONS} -ia-image-centers "
            f"{_masks(task)} -o {task.run}/affine.mat -threads {task.threads}"
        )
    return affine_transform(RAS_LPS @ np.loadtxt(task.run / "affine.mat") @ RAS_LPS)


def _masks(task: Task) -> str:
    fixed = "" if task.fixed_mask is None else f"-gm {task.fixed_mask}"
    moving = "" if task.moving_mask is None else f"-mm {task.moving_mask}"
    return f"{fixed} {moving}"


if __name__ == "__main__":
    main(register, importlib.metadata.version("picsl-greedy"))
