"""Two studies in one slice view: every other cube of the fixed one, over the moving one. Quality view, in the scene."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
import vtk

from .guards import require_image_volume

CUBES = 10  # along the longest side


def checkerboard_node(fixed: Any, name: str) -> Any:
    """Add a copy of a volume in which every other cube is transparent: shown above another volume, a checkerboard.

    The other volume shows through as Slicer draws it, under any transform, so that nothing has to be resampled and
    the board follows when the transform changes. The copy is hidden from lists of nodes, and not saved with the scene.

    Raises:
        NodeError, ComponentCount, NotAnImage, EmptyVolume: of :func:`.guards.require_image_volume`.
    """
    require_image_volume(fixed)
    voxels = slicer.util.arrayFromVolume(fixed)
    spacing_kji = np.array(fixed.GetSpacing())[::-1]
    cube = np.maximum(np.rint(max(spacing_kji * voxels.shape) / CUBES / spacing_kji), 1).astype(int)
    k, j, i = (np.arange(n) // size for n, size in zip(voxels.shape, cube, strict=True))
    shown = (k[:, None, None] + j[:, None] + i) % 2 == 0
    low, high = float(voxels.min()), float(voxels.max())
    below = low - max(high - low, 1.0)
    node = slicer.vtkMRMLScalarVolumeNode()
    node.SetName(name)
    node.HideFromEditorsOn()
    node.SaveWithSceneOff()
    matrix = vtk.vtkMatrix4x4()
    fixed.GetIJKToRASMatrix(matrix)
    node.SetIJKToRASMatrix(matrix)
    fixed.GetScene().AddNode(node)
    slicer.util.updateVolumeFromArray(node, np.where(shown, voxels, below).astype(np.float32))
    node.SetAndObserveTransformNodeID(fixed.GetTransformNodeID())
    node.CreateDefaultDisplayNodes()
    _show_like(node.GetDisplayNode(), fixed.GetDisplayNode(), low, high)
    return node


def _show_like(display: Any, original: Any, low: float, high: float) -> None:
    """With the brightness of the original; what lies below its smallest value is transparent."""
    display.SaveWithSceneOff()
    display.AutoWindowLevelOff()
    if original is None:
        display.SetWindowLevelMinMax(low, high)
    else:
        display.SetWindowLevel(original.GetWindow(), original.GetLevel())
        display.SetAndObserveColorNodeID(original.GetColorNodeID())
    display.AutoThresholdOff()
    display.SetThreshold(low, high)
    display.ApplyThresholdOn()
