"""What a job is given of volumes. Window's walk: volume nodes -> [captured] -> runner."""
# ruff: noqa: N802 - Slicer's names are camelCase

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import slicer

from MedSegRegLib.geometry import Geometry
from MedSegRegLib.jobs import Voxels
from MedSegRegLib.mrml.guards import require_image_volume
from MedSegRegLib.mrml.volumes import geometry_of_node, world_matrix


def captureVolume(node: Any) -> Voxels:
    """The intensities of a volume node [K, J, I] on its grid in world RAS mm, without a copy.

    The array stays valid when the node is removed; the job system copies it within a moment.

    Raises:
        NodeError, ComponentCount, NotAnImage, EmptyVolume, InputError, InvalidGeometry: as of ``image_from_node``.
    """
    require_image_volume(node)
    return Voxels(slicer.util.arrayFromVolume(node), geometry_of_node(node), node.GetName() or "")


def captureFrames(volumes: Mapping[str, Any], sequence: tuple[Any, Any] | None = None) -> list[dict[str, Voxels]]:
    """The volumes as they are or, with (browser, sequence) of the first one, one set of volumes for each frame.

    A volume that the browser does not play is the same in all frames.

    Raises:
        as :func:`captureVolume`.
    """
    if sequence is None:
        return [{name: captureVolume(node) for name, node in volumes.items()}]
    browser, first = sequence
    frames = []
    for number in range(first.GetNumberOfDataNodes()):
        value = first.GetNthIndexValue(number)
        frames.append(
            {name: _captureFrame(node, browser.GetSequenceNode(node), value) for name, node in volumes.items()}
        )
    return frames


def _captureFrame(proxy: Any, sequence: Any, value: str) -> Voxels:
    """A frame in the place of the node that shows the frames, whose transforms count for all of them."""
    frame = None if sequence is None else sequence.GetDataNodeAtValue(value)
    if frame is None:
        return captureVolume(proxy)
    voxels = captureVolume(frame)
    geometry = Geometry(voxels.geometry.size_ijk, world_matrix(proxy) @ voxels.geometry.ijk_to_ras)
    return Voxels(voxels.array, geometry, proxy.GetName() or "")
