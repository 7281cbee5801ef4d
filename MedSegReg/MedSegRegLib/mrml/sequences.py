"""Time sequences: whether a volume shows one, and segmentations of all its frames. Both ends of the segmentation walk.

A sequence keeps its frames as nodes of a scene of its own; in the scene of the user there is one *proxy* node, which a
*browser* node lets show one frame after the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import slicer

from .provenance import write_provenance
from .studies import place_beside
from .undo import one_undo_step

if TYPE_CHECKING:
    from ..image import Labels


def sequence_of(volume: Any) -> tuple[Any, Any] | None:
    """(browser, sequence) of a volume node that shows the frames of a sequence; None for any other, and for None."""
    scene = None if volume is None else volume.GetScene()
    if scene is None:
        return None
    for number in range(scene.GetNumberOfNodesByClass("vtkMRMLSequenceBrowserNode")):
        browser = scene.GetNthNodeByClass(number, "vtkMRMLSequenceBrowserNode")
        sequence = browser.GetSequenceNode(volume)
        if sequence is not None and sequence.GetNumberOfDataNodes() > 1:
            return browser, sequence
    return None


def write_segmentation_sequence(
    frames: Sequence[Labels], facts: Mapping[str, Any], volume: Any, browser: Any, sequence: Any, *, name: str
) -> Any:
    """Write one segmentation a frame into a new sequence that the browser plays together with the volume's.

    Args:
        frames: labels of each frame of ``sequence``, in its order.
        facts: how they came about, for the attributes of the node.
        volume: the proxy node of the sequence.
        browser, sequence: of :func:`sequence_of`.
        name: of the segmentation.

    Returns:
        The proxy segmentation node, which shows the frame that the browser shows.

    Raises:
        NodeError, InputError: of :func:`write_segmentation`, before anything is added to the scene.
    """
    from .segmentations import write_segmentation  # noqa: PLC0415 - needs torch; to ask for a sequence must not

    scene, aside = browser.GetScene(), slicer.vtkMRMLScene()
    written = slicer.vtkMRMLSequenceNode()
    written.SetName(f"{name} sequence")
    written.UndoEnabledOn()
    written.SetIndexName(sequence.GetIndexName())
    written.SetIndexUnit(sequence.GetIndexUnit())
    for number, labels in enumerate(frames):
        node = write_segmentation(labels, aside, name=name)
        write_provenance(node, facts)
        written.SetDataNodeAtValue(node, sequence.GetNthIndexValue(number))
    with one_undo_step(scene):
        scene.AddNode(written)
        browser.AddSynchronizedSequenceNode(written)
        proxy = browser.GetProxyNode(written)  # made by Slicer's logic, where that runs
        if proxy is None:
            shown = max(browser.GetSelectedItemNumber(), 0)
            proxy = browser.AddProxyNode(written.GetNthDataNode(shown), written, True)
        proxy.SetName(name)
        proxy.UndoEnabledOn()
        proxy.CreateDefaultDisplayNodes()
        proxy.SetReferenceImageGeometryParameterFromVolumeNode(volume)
        write_provenance(proxy, facts)
        place_beside(proxy, volume)
    return proxy
