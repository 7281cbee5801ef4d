"""On which voxels two segmentations are compared: the first step of the evaluation in the scene."""

from __future__ import annotations

from typing import Any

import slicer
import vtk

from ..errors import InputError
from ..geometry import Geometry
from .guards import require_node
from .volumes import geometry_of_extent, geometry_of_node, world_matrix


def reference_grid(segmentation: Any) -> Geometry:
    """The grid of a segmentation's reference geometry, which is that of its source volume; a label map's own grid.

    In world RAS mm.

    Raises:
        NodeError: neither a segmentation nor a label map.
        EmptyVolume, InvalidGeometry: a label map without voxels, or without a place.
        InputError: a segmentation without a reference geometry, or under a non-linear transform.
    """
    if segmentation is not None and segmentation.IsA("vtkMRMLLabelMapVolumeNode"):
        return geometry_of_node(segmentation)
    require_node(segmentation, "vtkMRMLSegmentationNode")
    converter, image = slicer.vtkSegmentationConverter, slicer.vtkOrientedImageData()
    text = segmentation.GetSegmentation().GetConversionParameter(converter.GetReferenceImageGeometryParameterName())
    if not text or not converter.DeserializeImageGeometry(text, image, False):
        raise InputError(
            f"The segmentation '{segmentation.GetName()}' has no reference geometry",
            "the grid of the volume it was made on",
            "choose its source volume in the Segment Editor",
        )
    to_local = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(to_local)
    matrix = world_matrix(segmentation) @ slicer.util.arrayFromVTKMatrix(to_local)
    return geometry_of_extent(image.GetExtent(), matrix)
