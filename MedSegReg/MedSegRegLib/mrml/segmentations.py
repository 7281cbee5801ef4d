"""Labels <-> segmentation node: the last stop of the segmentation walk, and the way back to a label map."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from ..errors import InputError, NodeError
from ..geometry import Geometry
from ..image import Labels, Structure
from ..terminology import coded_structure, generic_structure, terminology_entry
from .guards import require_node
from .label_grids import renumbered, values_on_grid
from .volumes import geometry_of_extent, vtk_image, world_matrix

BINARY_LABELMAP = "Binary labelmap"
TERMINOLOGY_TAG = "TerminologyEntry"


def write_segmentation(
    labels: Labels,
    scene: Any,
    *,
    name: str,
    reference: Any = None,
    node: Any = None,
    replace: Sequence[str] = (),
) -> Any:
    """Put labels into a segmentation node, whole or not at all, in one undo step.

    All segments share one label map layer, so their voxel values stay those of ``labels``. Values without a
    structure become "label <value>"; a structure without voxels becomes an empty segment.

    Args:
        labels: on any grid (oblique, anisotropic, left-handed, sheared), in world RAS.
        scene: the scene to add to.
        name: of a new node.
        reference: the volume that was segmented; it gives the reference geometry and the link to it. One that has
            left the scene meanwhile is not an error: the geometry of the labels takes its place.
        node: an existing segmentation to add to; its other segments are never touched.
        replace: names of the segments in ``node`` that may be replaced. Other names that are taken get a number.

    Returns:
        The segmentation node.

    Raises:
        NodeError: ``node`` is no segmentation, or was removed.
        InputError: ``node`` keeps another representation than label maps or is under a non-linear transform;
            two structures of one value; a code that Slicer's format cannot hold.
    """
    if node is None:
        to_local = np.eye(4)
    else:
        _require_label_maps(node, scene)
        to_local = np.linalg.inv(world_matrix(node))
    image = _oriented_image(labels, to_local)
    segments = [_segment(structure, image) for structure in _structures_of(labels)]
    scene.SaveStateForUndo()
    if node is not None:
        _add_segments(node, segments, replace)
        return node
    node = slicer.vtkMRMLSegmentationNode()
    node.SetName(name)
    node.UndoEnabledOn()
    converter = slicer.vtkSegmentationConverter
    node.GetSegmentation().SetConversionParameter(
        converter.GetReferenceImageGeometryParameterName(), converter.SerializeImageGeometry(image)
    )
    _add_segments(node, segments, ())
    scene.AddNode(node)
    node.CreateDefaultDisplayNodes()
    if reference is not None and reference.GetScene() is scene:
        node.SetReferenceImageGeometryParameterFromVolumeNode(reference)
    return node


def labels_from_segmentation(node: Any, geometry: Geometry) -> Labels:
    """The segments on a grid in world RAS: nearest voxel, which is exact where the grids coincide.

    Label values are kept when all segments have different ones, else they are numbered from 1 in their order.
    Where segments overlap, the later one wins, as in Slicer's own export. The node is not changed.

    Raises:
        NodeError: no segmentation node.
        InputError: under a non-linear transform, or no label map can be made from what it holds.
    """
    require_node(node, "vtkMRMLSegmentationNode")
    to_world = world_matrix(node)
    segmentation = _with_label_maps(node)
    segments = [segmentation.GetNthSegment(n) for n in range(segmentation.GetNumberOfSegments())]
    own_values = [segment.GetLabelValue() for segment in segments]
    values = own_values if len(set(own_values)) == len(own_values) else range(1, len(segments) + 1)
    numbers = dict(zip(segments, values, strict=True))
    array = np.zeros(geometry.shape_kji, np.uint8 if max(values, default=0) <= 255 else np.int32)
    for image, of_layer in itertools.groupby(segments, lambda segment: segment.GetRepresentation(BINARY_LABELMAP)):
        layer = _on_grid(image, to_world, geometry)
        if layer is not None:
            marked = renumbered(layer, {segment.GetLabelValue(): numbers[segment] for segment in of_layer})
            np.copyto(array, marked, where=marked > 0, casting="unsafe")
    structures = [
        coded_structure(value, segment.GetName(), segment.GetColor(), _terminology(segment))
        for segment, value in numbers.items()
    ]
    return Labels(array, geometry, tuple(structures), node.GetName() or "")


def _structures_of(labels: Labels) -> tuple[Structure, ...]:
    """The structures of the labels and one for each value that has none."""
    values = [structure.value for structure in labels.structures]
    if len(set(values)) < len(values) or min(values, default=1) < 1:
        raise InputError(
            f"The structures have the values {sorted(values)}",
            "different values of 1 or more",
            "give each structure a value of its own",
        )
    array = labels.numpy()
    nameless = set(range(1, int(array.max(initial=0)) + 1)) - set(values)
    unnamed = sorted(nameless.intersection(np.unique(array).tolist())) if nameless else []  # which takes its time
    return (*labels.structures, *map(generic_structure, unnamed))


def _oriented_image(labels: Labels, to_local: np.ndarray) -> Any:
    array = labels.numpy()
    if array.dtype not in (np.uint8, np.int16, np.int32):
        array = array.astype(np.int32)
    image = vtk_image(array, slicer.vtkOrientedImageData())
    image.SetImageToWorldMatrix(slicer.util.vtkMatrixFromArray(to_local @ labels.geometry.ijk_to_ras))
    return image


def _segment(structure: Structure, image: Any) -> Any:
    segment = slicer.vtkSegment()
    segment.SetName(structure.name)
    segment.SetNameAutoGenerated(False)
    segment.SetColor(*structure.color)
    segment.SetColorAutoGenerated(False)
    segment.SetLabelValue(structure.value)
    entry = terminology_entry(structure)
    if entry:
        segment.SetTag(TERMINOLOGY_TAG, entry)
    segment.AddRepresentation(BINARY_LABELMAP, image)
    return segment


def _require_label_maps(node: Any, scene: Any) -> None:
    require_node(node, "vtkMRMLSegmentationNode")
    if node.GetScene() is not scene:
        raise NodeError(
            f"The segmentation '{node.GetName()}' is in another scene",
            "a node of the scene written to",
            "select a segmentation of this scene",
        )
    source = node.GetSegmentation().GetSourceRepresentationName()
    if source != BINARY_LABELMAP:
        raise InputError(
            f"The segmentation '{node.GetName()}' is kept as '{source}'",
            f"'{BINARY_LABELMAP}'",
            "write to a new segmentation, or make label maps its source in the Segmentations module",
        )


def _add_segments(node: Any, segments: Sequence[Any], replace: Sequence[str]) -> None:
    segmentation = node.GetSegmentation()
    was_modifying = node.StartModify()
    for segment in segments:
        segment_id, before = "", ""
        taken = _segment_ids(segmentation)
        if segment.GetName() in taken and segment.GetName() in replace:
            segment_id = taken[segment.GetName()]
            before = segmentation.GetNthSegmentID(segmentation.GetSegmentIndex(segment_id) + 1)
            segmentation.RemoveSegment(segment_id)
        else:
            segment.SetName(_unique(segment.GetName(), taken))
        segmentation.AddSegment(segment, segment_id, before)
    node.EndModify(was_modifying)


def _segment_ids(segmentation: Any) -> dict[str, str]:
    ids = [segmentation.GetNthSegmentID(n) for n in range(segmentation.GetNumberOfSegments())]
    return {segmentation.GetSegment(segment_id).GetName(): segment_id for segment_id in reversed(ids)}


def _unique(name: str, taken: dict[str, str]) -> str:
    number, unique = 1, name
    while unique in taken:
        number, unique = number + 1, f"{name}_{number}"
    return unique


def _with_label_maps(node: Any) -> Any:
    """The node's segmentation, or a copy in which label maps were made from its surfaces."""
    segmentation = node.GetSegmentation()
    if segmentation.GetNumberOfSegments() == 0 or segmentation.ContainsRepresentation(BINARY_LABELMAP):
        return segmentation
    copy = slicer.vtkSegmentation()
    copy.DeepCopy(segmentation)
    if not copy.CreateRepresentation(BINARY_LABELMAP):
        raise InputError(
            f"No label map can be made from the segmentation '{node.GetName()}'",
            "label maps or closed surfaces",
            "check its representations in the Segmentations module",
        )
    return copy


def _on_grid(image: Any, to_world: np.ndarray, geometry: Geometry) -> np.ndarray | None:
    """A layer's label values on a grid, None for a layer without voxels."""
    if image is None or image.GetNumberOfPoints() == 0:
        return None
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    layer_geometry = geometry_of_extent(image.GetExtent(), to_world @ slicer.util.arrayFromVTKMatrix(matrix))
    values = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(layer_geometry.shape_kji)
    return values_on_grid(values, layer_geometry, geometry)


def _terminology(segment: Any) -> str:
    entry = vtk.reference("")
    segment.GetTag(TERMINOLOGY_TAG, entry)
    return str(entry)
