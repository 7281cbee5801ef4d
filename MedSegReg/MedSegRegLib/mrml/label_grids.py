"""Label values of the scene on another grid: between a segmentation or a label map node and Labels.

VTK does it and not :mod:`MedSegRegLib.resample`, because it runs in Slicer's window, which never imports torch.
"""

from __future__ import annotations

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from ..geometry import Geometry
from .volumes import vtk_image


def values_on_grid(values: np.ndarray, source: Geometry, grid: Geometry) -> np.ndarray:
    """Label values [K, J, I] of ``source`` at the voxels of ``grid``: nearest voxel, halves up, 0 outside."""
    to_source = source.ras_to_ijk @ grid.ijk_to_ras
    i, j, k = np.rint(to_source[:3, 3]).astype(int).tolist()
    if source.window((i, j, k), grid.size_ijk).same_grid(grid):
        return _window(values, (k, j, i), grid.shape_kji)
    reslice = vtk.vtkImageReslice()
    reslice.SetInputData(vtk_image(values))
    reslice.SetResliceAxes(slicer.util.vtkMatrixFromArray(to_source))
    reslice.SetInterpolationModeToNearestNeighbor()
    reslice.SetOutputOrigin(0, 0, 0)
    reslice.SetOutputSpacing(1, 1, 1)
    reslice.SetOutputExtent(*(end for n in grid.size_ijk for end in (0, n - 1)))
    reslice.Update()
    return vtk_to_numpy(reslice.GetOutput().GetPointData().GetScalars()).reshape(grid.shape_kji)


def _window(values: np.ndarray, start: tuple[int, ...], shape: tuple[int, ...]) -> np.ndarray:
    """The values from ``start`` on, 0 beyond their ends; the values themselves where that is all of them."""
    if values.shape == shape and not any(start):
        return values
    out = np.zeros(shape, values.dtype)
    ends = [(max(first, 0), min(first + n, m)) for first, n, m in zip(start, shape, values.shape, strict=True)]
    if all(low < high for low, high in ends):
        to = tuple(slice(low - first, high - first) for (low, high), first in zip(ends, start, strict=True))
        out[to] = values[tuple(slice(*end) for end in ends)]
    return out


def renumbered(values: np.ndarray, numbers: dict[int, int]) -> np.ndarray:
    """Each key replaced by its value, all else by 0; the same array where nothing changes."""
    highest = max(int(values.max(initial=0)), *numbers, 0)
    kept = all(old == new for old, new in numbers.items())
    if kept and values.min(initial=0) >= 0 and set(range(1, highest + 1)) <= numbers.keys():
        return values
    table = np.zeros(highest + 1, np.uint8 if max(numbers.values(), default=0) <= 255 else np.int32)
    table[list(numbers)] = list(numbers.values())
    return table[np.maximum(values, 0)]
