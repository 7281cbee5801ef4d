"""Both studies of a registration in the slice views: blended, as a checkerboard, or one after the other."""

from __future__ import annotations

from typing import Any, Literal

from .checkerboard import checkerboard_node

View = Literal["blend", "checkerboard", "flicker"]
HALF = 0.5
Layers = tuple[str | None, str | None, float]


class Comparison:
    """What the slice views show while two studies are compared; ended, they show what they showed before."""

    def __init__(self) -> None:
        self._before: dict[Any, Layers] = {}
        self._board: Any = None

    def show(self, view: View, fixed: Any, moving: Any) -> None:
        """Show both volumes in all slice views of their scene.

        Args:
            view: ``blend`` is half of each; ``checkerboard`` alternates cubes; ``flicker`` begins with the fixed one
                and changes to the other at each :meth:`flip`.

        Raises:
            NodeError, InputError: the fixed volume cannot be copied for the checkerboard.
        """
        self.end()
        if view == "checkerboard":
            self._board = checkerboard_node(fixed, f"{fixed.GetName()} checkerboard")
        scene = fixed.GetScene()
        for n in range(scene.GetNumberOfNodesByClass("vtkMRMLSliceCompositeNode")):
            node = scene.GetNthNodeByClass(n, "vtkMRMLSliceCompositeNode")
            self._before[node] = (
                node.GetBackgroundVolumeID(),
                node.GetForegroundVolumeID(),
                node.GetForegroundOpacity(),
            )
            if view == "checkerboard":
                _set_layers(node, (moving.GetID(), self._board.GetID(), 1.0))
            else:
                _set_layers(node, (fixed.GetID(), moving.GetID(), HALF if view == "blend" else 0.0))

    def flip(self) -> None:
        """Show the other volume alone."""
        for node in self._before:
            node.SetForegroundOpacity(0.0 if node.GetForegroundOpacity() > HALF else 1.0)

    def end(self) -> None:
        """Show what was shown before; volumes that are gone meanwhile are left out."""
        for node, layers in self._before.items():
            if node.GetScene() is not None:
                _set_layers(node, layers)
        self._before = {}
        if self._board is not None and self._board.GetScene() is not None:
            display = self._board.GetDisplayNode()
            self._board.GetScene().RemoveNode(self._board)
            display.GetScene().RemoveNode(display)
        self._board = None


def _set_layers(node: Any, layers: Layers) -> None:
    was_modifying = node.StartModify()
    node.SetBackgroundVolumeID(layers[0])
    node.SetForegroundVolumeID(layers[1])
    node.SetForegroundOpacity(layers[2])
    node.EndModify(was_modifying)
