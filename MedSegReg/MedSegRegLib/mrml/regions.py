"""A region of interest of the scene: markups node -> the corners of its box in world RAS. First stop of both walks."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
import vtk

from ..errors import InputError
from .guards import require_node


def region_corners(node: Any) -> np.ndarray:
    """Corners of a vtkMRMLMarkupsROINode in world RAS mm, [8, 3]; its own rotation and its parent transforms count.

    Raises:
        NodeError: no such node.
        InputError: the box has not been drawn yet, or is flat.
    """
    require_node(node, "vtkMRMLMarkupsROINode")
    size = np.array(node.GetSize())
    if node.GetNumberOfControlPoints() == 0 or not (size > 0).all():
        raise InputError(
            f"The region '{node.GetName()}' has the size {' x '.join(f'{s:.3g}' for s in size)} mm",
            "a box",
            "draw it, or choose the whole volume",
        )
    to_world = vtk.vtkMatrix4x4()
    to_world.DeepCopy(node.GetObjectToWorldMatrix())
    signs = 2.0 * np.array(list(np.ndindex(2, 2, 2))) - 1.0
    corners = np.concatenate([signs * size / 2, np.ones((8, 1))], axis=1)
    return (corners @ slicer.util.arrayFromVTKMatrix(to_world).T)[:, :3]
