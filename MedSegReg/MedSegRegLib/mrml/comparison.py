"""Both studies of a registration in the slice views: blended, as a checkerboard, or one after the other."""

from __future__ import annotations

from typing import Any, Literal

from .checkerboard import checkerboard_node
from .slice_layers import SliceLayers

View = Literal["blend", "checkerboard", "flicker"]
HALF = 0.5


class Comparison:
    """What the slice views show while two studies are compared; ended, they show what they showed before."""

    def __init__(self) -> None:
        self._layers = SliceLayers()
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
        scene = fixed.GetScene()
        if view == "checkerboard":
            self._board = checkerboard_node(fixed, f"{fixed.GetName()} checkerboard")
            self._layers.change(scene, moving, self._board, 1.0)
        else:
            self._layers.change(scene, fixed, moving, HALF if view == "blend" else 0.0)

    def flip(self) -> None:
        """Show the other volume alone."""
        for node in self._layers.nodes():
            node.SetForegroundOpacity(0.0 if node.GetForegroundOpacity() > HALF else 1.0)

    def end(self) -> None:
        """Show what was shown before; volumes that are gone meanwhile are left out."""
        self._layers.restore()
        if self._board is not None and self._board.GetScene() is not None:
            display = self._board.GetDisplayNode()
            self._board.GetScene().RemoveNode(self._board)
            display.GetScene().RemoveNode(display)
        self._board = None
