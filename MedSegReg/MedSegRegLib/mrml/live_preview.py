"""A registration that runs, shown: the moving study slides in the views. Beside the registration walk in the window."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..transform import Transform
from .moving_study import place_under
from .transform_update import update_transform
from .transforms import write_transform
from .undo import without_undo


class LivePreview:
    """Nodes under a transform that changes, until it is ended: then all is as it was before.

    Its transform node is hidden, and not saved with the scene.

    Args:
        nodes: of the moving study, in one scene; those under a transform of their own stay where they are.
    """

    def __init__(self, nodes: Sequence[Any]) -> None:
        self._before = {node: node.GetTransformNodeID() for node in nodes}
        self._transform: Any = None

    def show(self, transform: Transform) -> None:
        """Move the study to where it is so far; nothing happens when it has left the scene."""
        nodes = [node for node in self._before if node.GetScene() is not None]
        if not nodes:
            return
        if self._transform is None:
            with without_undo(nodes[0].GetScene()):
                self._transform = write_transform(transform, nodes[0].GetScene(), "registration so far")
            for node in self._chain():
                node.HideFromEditorsOn()
                node.SaveWithSceneOff()
            place_under(nodes, self._transform)
        else:
            self._transform = update_transform(self._transform, transform)

    def end(self) -> None:
        """Put everything back, and remove the transform."""
        for node, parent in self._before.items():
            if node.GetScene() is not None:
                node.SetAndObserveTransformNodeID(parent)
        for node in self._chain():
            if node.GetScene() is not None:
                node.GetScene().RemoveNode(node)
        self._transform = None

    def _chain(self) -> list[Any]:
        chain, node = [], self._transform
        while node is not None:
            chain.append(node)
            node = node.GetParentTransformNode()
        return chain
