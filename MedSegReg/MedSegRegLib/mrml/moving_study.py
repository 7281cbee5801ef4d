"""What moves together with a registered volume: the scene's side of showing a result, with nothing resampled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import slicer

from .result_links import is_result


def study_nodes(volume: Any, others: Sequence[Any] = ()) -> list[Any]:
    """A volume, the segmentations that were made on it, and others that are not None: what moves together."""
    scene, role = volume.GetScene(), slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
    count = scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode")
    segmentations = [scene.GetNthNodeByClass(n, "vtkMRMLSegmentationNode") for n in range(count)]
    made_on_it = [node for node in segmentations if node.GetNodeReference(role) is volume]
    return list(dict.fromkeys([volume, *made_on_it, *(node for node in others if node is not None)]))


def place_under(nodes: Sequence[Any], transform: Any) -> list[Any]:
    """Put nodes under a result; gives those that stay where they are, because they are under a transform of their own.

    A node under an earlier result is taken from there.
    """
    kept = []
    for node in nodes:
        parent = node.GetParentTransformNode()
        if parent is None or is_result(parent):
            node.SetAndObserveTransformNodeID(transform.GetID())
        else:
            kept.append(node)
    return kept


def nodes_under(transform: Any) -> list[Any]:
    """All nodes that are directly under a transform."""
    scene = transform.GetScene()
    count = scene.GetNumberOfNodesByClass("vtkMRMLTransformableNode")
    nodes = [scene.GetNthNodeByClass(n, "vtkMRMLTransformableNode") for n in range(count)]
    return [node for node in nodes if node.GetTransformNodeID() == transform.GetID()]
