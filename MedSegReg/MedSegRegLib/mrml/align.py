"""Aligned series -> nodes of the scene, in one undo step: last stop of that workflow in Slicer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..image import Image, Labels
from ..transform import Transform
from .guards import require_node
from .provenance import write_provenance
from .segmentations import write_segmentation
from .studies import place_beside
from .transforms import write_transform
from .undo import one_undo_step
from .volumes import node_from_image


@dataclass(frozen=True, eq=False)
class AlignedResult:
    """What an alignment found, by the name of the series.

    Attributes:
        reference: the series that stayed where it is.
        transforms: of each other series, reference RAS to its RAS.
        resampled: each other series on the reference's grid.
        labels: a segmentation on the native grids that were asked for.
        facts: plain data, for the attributes of all nodes: how it came about.
    """

    reference: str
    transforms: Mapping[str, Transform]
    resampled: Mapping[str, Image]
    labels: Mapping[str, Labels] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class AlignedNodes:
    """What was added to the scene, by the name of the series."""

    transforms: dict[str, Any]
    resampled: dict[str, Any]
    segmentations: dict[str, Any]


def write_aligned(result: AlignedResult, volumes: Mapping[str, Any], title: str = "segmentation") -> AlignedNodes:
    """Add an alignment to the scene; the volumes that it was made from stay as they are, and where they are.

    Args:
        result: what was found.
        volumes: the node of each series. One placed under its transform lies on the reference.
        title: of the segmentations, after the name of the volume on whose grid they lie.

    Raises:
        NodeError: a volume has left the scene; nothing was written.
        ComponentCount, InputError: of a result that cannot be written.
    """
    for node in volumes.values():
        require_node(node, "vtkMRMLScalarVolumeNode")
    fixed = volumes[result.reference]
    scene, names = fixed.GetScene(), {name: node.GetName() for name, node in volumes.items()}
    with one_undo_step(scene):
        transforms = {
            name: write_transform(transform, scene, f"{names[name]} to {fixed.GetName()}")
            for name, transform in result.transforms.items()
        }
        resampled = {
            name: _resampled(image, volumes[name], f"{names[name]} on {fixed.GetName()}")
            for name, image in result.resampled.items()
        }
        segmentations = {
            name: write_segmentation(labels, scene, name=f"{names[name]} {title}", reference=volumes[name])
            for name, labels in result.labels.items()
        }
        for node in (*transforms.values(), *resampled.values()):
            place_beside(node, fixed)
        for name, node in segmentations.items():
            place_beside(node, volumes[name])
        for node in (*transforms.values(), *resampled.values(), *segmentations.values()):
            write_provenance(node, result.facts)
    return AlignedNodes(transforms, resampled, segmentations)


def _resampled(image: Image, original: Any, name: str) -> Any:
    """With the window of the original, so that both look alike."""
    node = node_from_image(image, original.GetScene(), name)
    node.UndoEnabledOn()
    like = original.GetDisplayNode()
    if like is not None:
        node.GetDisplayNode().AutoWindowLevelOff()
        node.GetDisplayNode().SetWindowLevel(like.GetWindow(), like.GetLevel())
    return node
