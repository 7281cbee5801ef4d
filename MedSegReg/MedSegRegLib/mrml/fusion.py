"""Two aligned volumes in one slice view, the second in colour: what shows an alignment, and a PET over a CT."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import slicer

from .guards import require_image_volume

FusionStyle = Literal["blend", "pet"]
COLORS: dict[FusionStyle, str] = {
    "blend": "vtkMRMLColorTableNodeIron",
    "pet": "vtkMRMLPETProceduralColorNodePET-Heat",
}
WINDOW_PERCENT, SAMPLES = (1.0, 99.9), 200_000
TRANSPARENT_BELOW = 0.2
HALF = 0.5


def show_fusion(reference: Any, other: Any, style: FusionStyle = "blend", opacity: float = HALF) -> None:
    """Show the reference in grey below, and the other volume in colour above it, in all slice views of their scene.

    The other volume's display is changed, and nothing else: it may lie on any grid and under any transform.

    Args:
        reference, other: scalar volumes of one scene.
        style: ``blend`` shows all of both; ``pet`` leaves out the darkest fifth of the other.
        opacity: of the volume above, 0 to 1.

    Raises:
        NodeError, ComponentCount, NotAnImage, EmptyVolume: of :func:`.guards.require_image_volume`.
    """
    for volume in (reference, other):
        require_image_volume(volume)
    scene = reference.GetScene()
    _color(other, style)
    for number in range(scene.GetNumberOfNodesByClass("vtkMRMLSliceCompositeNode")):
        layers = scene.GetNthNodeByClass(number, "vtkMRMLSliceCompositeNode")
        was_modifying = layers.StartModify()
        layers.SetBackgroundVolumeID(reference.GetID())
        layers.SetForegroundVolumeID(other.GetID())
        layers.SetForegroundOpacity(opacity)
        layers.EndModify(was_modifying)


def _color(node: Any, style: FusionStyle) -> None:
    if node.GetDisplayNode() is None:
        node.CreateDefaultDisplayNodes()
    display, scene = node.GetDisplayNode(), node.GetScene()
    values = slicer.util.arrayFromVolume(node).reshape(-1)
    low, high = np.percentile(values[:: max(1, values.size // SAMPLES)], WINDOW_PERCENT).tolist()
    was_modifying = display.StartModify()
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(low, high)
    display.AutoThresholdOff()
    display.SetLowerThreshold(low + TRANSPARENT_BELOW * (high - low))
    display.SetApplyThreshold(style == "pet")
    if scene.GetNodeByID(COLORS[style]) is not None:
        display.SetAndObserveColorNodeID(COLORS[style])
    display.EndModify(was_modifying)
