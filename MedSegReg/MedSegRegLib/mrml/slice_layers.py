"""What the slice views show, changed for a while and put back: beside both walks."""

from __future__ import annotations

from typing import Any

Layers = tuple[str | None, str | None, float]


class SliceLayers:
    """The volumes of all slice views of a scene; restored, they show what they showed before the first change."""

    def __init__(self) -> None:
        self._before: dict[Any, Layers] = {}

    def change(self, scene: Any, background: Any, foreground: Any, opacity: float) -> None:
        """Show two volumes.

        Args:
            background: None keeps that of each view.
            opacity: of the foreground, 0 to 1.
        """
        for n in range(scene.GetNumberOfNodesByClass("vtkMRMLSliceCompositeNode")):
            node = scene.GetNthNodeByClass(n, "vtkMRMLSliceCompositeNode")
            shown = (node.GetBackgroundVolumeID(), node.GetForegroundVolumeID(), node.GetForegroundOpacity())
            self._before.setdefault(node, shown)
            below = shown[0] if background is None else background.GetID()
            _set_layers(node, (below, foreground.GetID(), opacity))

    def nodes(self) -> list[Any]:
        """The vtkMRMLSliceCompositeNode of each changed view."""
        return list(self._before)

    def restore(self) -> None:
        """Show what was shown before; volumes that are gone meanwhile are left out."""
        for node, layers in self._before.items():
            if node.GetScene() is not None:
                _set_layers(node, layers)
        self._before = {}


class Overlay:
    """A volume in front of what the slice views show, until it is ended."""

    def __init__(self) -> None:
        self._layers = SliceLayers()
        self._shown: tuple[Any, float] | None = None

    def show(self, volume: Any, opacity: float) -> None:
        """Show a volume, or none; nothing happens when it is shown like this already.

        Args:
            volume: None, or one that has left its scene, shows none.
            opacity: 0 to 1; 0 shows none.
        """
        gone = volume is None or volume.GetScene() is None
        wanted = None if gone or opacity == 0 else (volume, opacity)
        if wanted == self._shown:
            return
        self._layers.restore()
        if wanted is not None:
            self._layers.change(volume.GetScene(), None, volume, opacity)
        self._shown = wanted


def _set_layers(node: Any, layers: Layers) -> None:
    was_modifying = node.StartModify()
    node.SetBackgroundVolumeID(layers[0])
    node.SetForegroundVolumeID(layers[1])
    node.SetForegroundOpacity(layers[2])
    node.EndModify(was_modifying)
