"""From a row of a review to its structure in the slice views: what a person does after a workflow, in the scene."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from .provenance import PREFIX
from .segmentations import BINARY_LABELMAP
from .volumes import geometry_of_extent, world_matrix

REVIEWED = f"{PREFIX}reviewed"
"""Role of the reference from a table, whose first column names structures, to the segmentation that has them."""


def link_review(table: Any, segmentation: Any) -> None:
    """Let a table know what it is about; both are saved with the scene."""
    table.SetNodeReferenceID(REVIEWED, segmentation.GetID())


def show_reviewed(table: Any, row: int) -> bool:
    """Move all slice views to the structure in a row of a review; False where there is nothing to show."""
    segmentation = table.GetNodeReference(REVIEWED)
    place = (
        None if segmentation is None else centre_of_segment(segmentation, table.GetTable().GetValue(row, 0).ToString())
    )
    if place is None:
        return False
    way = slicer.vtkMRMLSliceNode.CenteredJumpSlice
    slicer.vtkMRMLSliceNode.JumpAllSlices(table.GetScene(), *place.tolist(), way)
    return True


def centre_of_segment(segmentation: Any, name: str) -> np.ndarray | None:
    """World RAS mm of that voxel of a segment which is nearest to its centre of mass; None where it has no voxel.

    Raises:
        InputError: under a non-linear transform.
    """
    segment = segmentation.GetSegmentation().GetSegment(segmentation.GetSegmentation().GetSegmentIdBySegmentName(name))
    image = None if segment is None else segment.GetRepresentation(BINARY_LABELMAP)
    if image is None or image.GetNumberOfPoints() == 0:
        return None
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    to_world = world_matrix(segmentation) @ slicer.util.arrayFromVTKMatrix(matrix)
    geometry = geometry_of_extent(image.GetExtent(), to_world)
    values = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(geometry.shape_kji)
    voxels = np.argwhere(values == segment.GetLabelValue())[:, ::-1]
    if len(voxels) == 0:
        return None
    return geometry.map_voxels(voxels[np.argmin(np.square(voxels - voxels.mean(axis=0)).sum(axis=1))])
