"""A complete segmentation into the scene, beside its study: the last step of the segmentation walk in Slicer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import slicer

from ..image import Image, Labels
from .color_tables import color_table
from .provenance import write_provenance
from .segmentations import labels_from_segmentation, write_segmentation
from .studies import place_beside
from .volumes import node_from_image

Writing = Literal["add", "replace", "outside"]
COLORS = "MedSegReg confidence"
SHADES = {0.0: (0.86, 0.08, 0.10), 0.5: (0.98, 0.55, 0.12), 1.0: (1.0, 0.96, 0.62)}  # undecided is red
SHOWN = 0.98  # of what is certain: voxels above are not shown, so that the image below is seen


def write_result(
    labels: Labels,
    facts: Mapping[str, Any],
    scene: Any,
    *,
    name: str,
    volume: Any = None,
    node: Any = None,
    writing: Writing = "add",
) -> Any:
    """Put a result into a new segmentation or, in one undo step, into an existing one; other segments stay untouched.

    Args:
        labels: the result.
        facts: how it came about, for the node's attributes.
        scene: to write to.
        name: of a new segmentation.
        volume: what was segmented; it may have left the scene meanwhile.
        node: an existing segmentation; when it has left the scene meanwhile, a new one is made.
        writing: in an existing segmentation: ``add`` beside what is there, numbering names that are taken; ``replace``
            segments of the same name, save hidden ones and those marked as completed or flagged; ``outside`` adds only
            where no segment is yet.

    Returns:
        The segmentation node.

    Raises:
        NodeError, InputError: of :func:`write_segmentation`; the scene is unchanged.
    """
    if node is not None and node.GetScene() is not scene:
        node = None
    is_new = node is None
    if writing == "outside" and not is_new:
        labels = _clear_of(labels, node)
    replace = replaceable_segments(node) if writing == "replace" and not is_new else ()
    node = write_segmentation(labels, scene, name=name, reference=volume, node=node, replace=replace)
    if is_new:
        place_beside(node, volume)
    write_provenance(node, facts)
    return node


def write_confidence(margin: Image, scene: Any, *, name: str, volume: Any = None, certain: float = 255.0) -> Any:
    """Add a volume that shows how sure a segmentation was at each voxel: from 0, undecided, to ``certain``.

    Shown in front of the image it colours what is doubtful, and nothing else.
    """
    node = node_from_image(margin, scene, name)
    display = node.GetDisplayNode()
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(0, certain)
    display.SetAndObserveColorNodeID(color_table(scene, COLORS, SHADES).GetID())
    display.AutoThresholdOff()
    display.SetThreshold(0, SHOWN * certain)
    display.ApplyThresholdOn()
    place_beside(node, volume)
    return node


def replaceable_segments(node: Any) -> tuple[str, ...]:
    """Names of the segments that may give way to one of the same name: visible, and neither completed nor flagged."""
    logic, segmentation = slicer.vtkSlicerSegmentationsModuleLogic, node.GetSegmentation()
    finished = (logic.Completed, logic.Flagged)
    display = node.GetDisplayNode()
    names = []
    for number in range(segmentation.GetNumberOfSegments()):
        segment = segmentation.GetNthSegment(number)
        visible = display is None or display.GetSegmentVisibility(segmentation.GetNthSegmentID(number))
        if visible and logic.GetSegmentStatus(segment) not in finished:
            names.append(segment.GetName())
    return tuple(names)


def _clear_of(labels: Labels, node: Any) -> Labels:
    """The labels without the voxels that a segment of the node holds already."""
    taken = labels_from_segmentation(node, labels.geometry).numpy() > 0
    return Labels.from_array(np.where(taken, 0, labels.numpy()), labels.geometry, labels.structures, labels.name)
