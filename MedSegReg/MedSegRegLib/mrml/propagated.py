"""A segmentation that was carried through a sequence into the scene: last stop of ``workflows.sequence.propagate``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import slicer

from ..image import Image, Labels
from .provenance import write_provenance
from .sequences import write_segmentation_sequence
from .studies import place_beside
from .tables import write_table
from .undo import one_undo_step
from .volumes import node_from_image, vtk_image

Columns = Mapping[str, Sequence[str] | Sequence[float]]


def write_propagation(
    labels: Sequence[Labels],
    columns: Columns,
    facts: Mapping[str, Any],
    volume: Any,
    browser: Any,
    sequence: Any,
    *,
    name: str,
) -> tuple[Any, Any]:
    """Write the segmentations of all frames, and the table of how far each can be trusted, in one undo step.

    Args:
        labels: of each frame, in the order of the sequence.
        columns: see ``workflows.frame_review.frame_columns``.
        facts, volume, browser, sequence, name: as of :func:`.sequences.write_segmentation_sequence`.

    Returns:
        The segmentation node that shows the frame that is played, and the table node.
    """
    scene = browser.GetScene()
    with one_undo_step(scene):
        proxy = write_segmentation_sequence(labels, facts, volume, browser, sequence, name=name)
        table = write_table(scene, f"{name} by frame", columns)
        write_provenance(table, facts)
        place_beside(table, volume)
    return proxy, table


def write_volume_sequence(frames: Iterable[Image], scene: Any, name: str) -> tuple[Any, Any, Any]:
    """A new sequence of volumes that a new browser plays: (volume node that shows a frame, browser, sequence)."""
    sequence, browser = slicer.vtkMRMLSequenceNode(), slicer.vtkMRMLSequenceBrowserNode()
    sequence.SetName(f"{name} sequence")
    sequence.SetIndexName("frame")
    sequence.SetIndexUnit("")
    for number, frame in enumerate(frames):
        node = node_from_image(frame, slicer.vtkMRMLScene(), name)
        sequence.SetDataNodeAtValue(node, str(number))
    browser.SetName(f"{name} browser")
    for node in (sequence, browser):
        scene.AddNode(node)
    browser.AddSynchronizedSequenceNode(sequence)
    proxy = browser.GetProxyNode(sequence)  # made by the logic of Slicer's module
    proxy.SetName(name)
    proxy.CreateDefaultDisplayNodes()
    return proxy, browser, sequence


def write_label_sequence(frames: Iterable[Labels], scene: Any, name: str) -> Any:
    """A new sequence of label maps, which a file ``.seq.nrrd`` can hold; the names of the structures are not in it."""
    sequence = slicer.vtkMRMLSequenceNode()
    sequence.SetName(name)
    sequence.SetIndexName("frame")
    sequence.SetIndexUnit("")
    for number, labels in enumerate(frames):
        node = slicer.vtkMRMLLabelMapVolumeNode()
        node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(labels.geometry.ijk_to_ras))
        node.SetAndObserveImageData(vtk_image(labels.numpy()))
        sequence.SetDataNodeAtValue(node, str(number))
    return scene.AddNode(sequence)
