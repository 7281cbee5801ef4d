"""ConvexAdam with MIND features and its default settings. It has no linear stage: greedy's affine comes first.

The CPU-seconds of both are stated as parts; their sum is what it took.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from functools import partial

import numpy as np
import SimpleITK as sitk
import torch
from convexAdam.convex_adam_MIND import convex_adam_pt
from exchange import Part, Task, affine_then_dense, main, write_fields
from picsl_greedy import Greedy3D
from run_greedy import register_linear


def register(task: Task) -> Callable[[], None]:
    """Affine by greedy, the moving image on the fixed grid, then ConvexAdam."""
    if task.motion == "rigid":
        raise NotImplementedError("ConvexAdam has no rigid model")
    torch.set_num_threads(task.threads)
    linear = register_linear(Greedy3D(), task, degrees=12)
    fixed = sitk.ReadImage(str(task.fixed), sitk.sitkFloat32)
    aligned = sitk.Resample(sitk.ReadImage(str(task.moving), sitk.sitkFloat32), fixed, linear, sitk.sitkLinear, 0.0)
    on_gpu = task.device.startswith("cuda")
    with Part("deformable"):
        voxels = convex_adam_pt(
            *(torch.from_numpy(sitk.GetArrayFromImage(image).transpose(2, 1, 0).copy()) for image in (fixed, aligned)),
            device=torch.device(task.device),
            dtype=torch.float16 if on_gpu else torch.float32,
        )
    dense = _field_from_voxels(np.asarray(voxels), fixed)
    return partial(write_fields, task, affine_then_dense(linear, dense))


def _field_from_voxels(displacement_ijk: np.ndarray, fixed: sitk.Image) -> sitk.DisplacementFieldTransform:
    """[I, J, K, 3] in voxels of the fixed grid to an ITK transform."""
    steps = np.reshape(fixed.GetDirection(), (3, 3)) * fixed.GetSpacing()
    vectors = np.ascontiguousarray((displacement_ijk @ steps.T).transpose(2, 1, 0, 3), np.float64)
    field = sitk.GetImageFromArray(vectors, isVector=True)
    field.CopyInformation(fixed)
    return sitk.DisplacementFieldTransform(field)


if __name__ == "__main__":
    main(register, importlib.metadata.version("convexadam"))
