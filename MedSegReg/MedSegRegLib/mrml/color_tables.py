"""Colours for volumes that hold a measure: how a number becomes a colour in the slice views."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import slicer

ENTRIES = 256
Color = tuple[float, float, float]


def color_table(scene: Any, name: str, shades: Mapping[float, Color], lowest: Color | None = None) -> Any:
    """The scene's colour table of that name, made at the first call.

    Args:
        shades: number -> colour, ascending; between them colours are mixed. Show a volume from the first to the last.
        lowest: the colour of the first entry, if it means something of its own.
    """
    found = scene.GetFirstNodeByName(name)
    if found is not None and found.IsA("vtkMRMLColorTableNode"):
        return found
    node = slicer.vtkMRMLColorTableNode()
    node.SetName(name)
    node.SetTypeToUser()
    node.SetHideFromEditors(False)
    node.SetNumberOfColors(ENTRIES)
    numbers = np.linspace(min(shades), max(shades), ENTRIES)
    channels = np.array(list(shades.values())).T
    colors = np.stack([np.interp(numbers, list(shades), channel) for channel in channels], axis=1)
    if lowest is not None:
        colors[0] = lowest
    for n, (number, color) in enumerate(zip(numbers, colors.tolist(), strict=True)):
        node.SetColor(n, f"{number:.2f}", *color, 1.0)
    return scene.AddNode(node)
