"""How the nodes of a registration know each other: read by the window before anything heavy is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from .provenance import PREFIX, read_provenance

FORWARD = f"{PREFIX}inverse"
"""Attribute of a result's transform that its inverse does not have: for node selectors."""
ROLES = {name: f"{PREFIX}{name}" for name in ("fixed", "moving", "inverse", "quality")}


def linked(node: Any, name: str) -> Any:
    """What a result's transform refers to: "fixed", "moving", "inverse" or "quality"; None where it is gone."""
    return None if node is None else node.GetNodeReference(ROLES[name])


def is_result(transform: Any) -> bool:
    """Whether a transform node is a result of a registration, or the inverse of one; None is not."""
    return transform is not None and "fixed" in read_provenance(transform)


@contextmanager
def in_own_place(nodes: Sequence[Any]) -> Iterator[None]:
    """Inside, none of the nodes is under a result; afterwards all are as before.

    Args:
        nodes: transformable nodes; None is passed over.
    """
    parents = {node: node.GetParentTransformNode() for node in nodes if node is not None}
    lifted = {node: parent for node, parent in parents.items() if is_result(parent)}
    try:
        for node in lifted:
            node.SetAndObserveTransformNodeID(None)
        yield
    finally:
        for node, parent in lifted.items():
            node.SetAndObserveTransformNodeID(parent.GetID())
