"""Numbers -> a table node: how the quality of a registration and the scores of a segmentation enter the scene."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import slicer
import vtk


def write_table(scene: Any, name: str, columns: Mapping[str, Sequence[str] | Sequence[float]]) -> Any:
    """Add a vtkMRMLTableNode; columns of text become string columns, columns of numbers double columns.

    Args:
        columns: heading -> cells, all of one length; NaN where there is no number.
    """
    node = slicer.vtkMRMLTableNode()
    node.SetName(name)
    node.UndoEnabledOn()
    node.SetUseColumnTitleAsColumnHeader(True)
    for heading, cells in columns.items():
        array = vtk.vtkStringArray() if any(isinstance(cell, str) for cell in cells) else vtk.vtkDoubleArray()
        array.SetName(heading)
        for cell in cells:
            array.InsertNextValue(cell)
        node.AddColumn(array)
    return scene.AddNode(node)
