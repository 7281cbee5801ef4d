"""A transform node gets another transform: while a registration runs, when it is corrected, and when that is undone."""

from __future__ import annotations

from typing import Any

import slicer

from ..transform import Transform
from .guards import require_node
from .moving_study import nodes_under
from .transforms import write_transform


def update_transform(node: Any, transform: Transform) -> Any:
    """Let a node of :func:`.transforms.write_transform`, with its parents, hold another transform.

    Where the stages are of the same kinds the nodes stay and only their content changes, so all that is placed under
    them moves at once. Otherwise new nodes of the same name take over what was placed under the old one, which are
    removed.

    Args:
        node: the innermost node of a result; it and all nodes above belong to the result alone.

    Returns:
        The innermost node.

    Raises:
        NodeError: no transform node, or removed from its scene.
    """
    require_node(node, "vtkMRMLTransformNode")
    scene, old = node.GetScene(), _chain(node)
    drawer = slicer.vtkMRMLScene()
    new = _chain(write_transform(transform, drawer, node.GetName()))
    if [one.GetClassName() for one in old] != [one.GetClassName() for one in new]:
        return _replace(old, transform, scene)
    for target, source in zip(old, new, strict=True):
        was_modifying = target.StartModify()
        target.SetAndObserveTransformFromParent(source.GetTransformFromParent())
        target.EndModify(was_modifying)
    return node


def _chain(node: Any) -> list[Any]:
    """The node and its parents, innermost first."""
    chain = [node]
    while chain[-1].GetParentTransformNode() is not None:
        chain.append(chain[-1].GetParentTransformNode())
    return chain


def _replace(old: list[Any], transform: Transform, scene: Any) -> Any:
    node = write_transform(transform, scene, old[0].GetName())
    for name in old[0].GetAttributeNames():
        node.SetAttribute(name, old[0].GetAttribute(name))
    for child in nodes_under(old[0]):
        child.SetAndObserveTransformNodeID(node.GetID())
    for one in old:
        scene.RemoveNode(one)
    return node
