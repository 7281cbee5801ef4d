"""ANTs (antspyx): SyNQuick[s] (``ants-quick``) or SyN[s] (``ants-syn``): rigid, affine, then symmetric normalisation.

SyNQuick uses mutual information throughout. SyN uses CC of radius 4; for different contrasts its dense stage takes
Mattes' mutual information instead.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from functools import partial
from pathlib import Path

import ants
import SimpleITK as sitk
from exchange import Task, affine_then_dense, dense_then_affine_inverse, dense_transform, main, write_fields

MATTES_ITERATIONS = (100, 70, 50, 20)


def register(task: Task) -> Callable[[], None]:
    """One call of ``ants.registration``."""
    fixed, moving = ants.image_read(str(task.fixed)), ants.image_read(str(task.moving))
    script = f"antsRegistrationSyN{'Quick' if task.variant == 'quick' else ''}"
    options: dict = {"type_of_transform": f"{script}[{'r' if task.motion == 'rigid' else 's'}]"}
    if task.variant == "syn" and task.motion == "deformable" and task.contrast == "different":
        options = {"type_of_transform": "SyN", "syn_metric": "mattes", "reg_iterations": MATTES_ITERATIONS}
    if task.fixed_mask is not None:
        options["mask"] = ants.image_read(str(task.fixed_mask))
    if task.moving_mask is not None:
        options["moving_mask"] = ants.image_read(str(task.moving_mask))
    found = ants.registration(fixed, moving, outprefix=f"{task.run}/ants_", random_seed=1, **options)
    linear = sitk.AffineTransform(sitk.ReadTransform(next(p for p in found["fwdtransforms"] if p.endswith(".mat"))))
    if task.motion == "rigid":
        return partial(write_fields, task, linear, linear.GetInverse())
    warp = dense_transform(Path(next(p for p in found["fwdtransforms"] if p.endswith("Warp.nii.gz"))))
    back = dense_transform(Path(next(p for p in found["invtransforms"] if p.endswith("InverseWarp.nii.gz"))))
    return partial(write_fields, task, affine_then_dense(linear, warp), dense_then_affine_inverse(linear, back))


if __name__ == "__main__":
    main(register, importlib.metadata.version("antspyx"))
