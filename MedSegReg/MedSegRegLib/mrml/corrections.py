"""A corrected segmentation of the scene, for ``train.adapt``: nodes -> [corrections] -> adaptation."""

from __future__ import annotations

from typing import Any

from ..train.corrections import Correction
from .segmentations import labels_from_segmentation
from .volumes import image_from_node


def correction_from_nodes(volume: Any, segmentation: Any) -> Correction:
    """What the user has put right, on the grid of the volume, with the segments' names; no node is changed.

    Raises:
        NodeError: no such nodes.
        InputError: one of them cannot be made an image or a label map.
    """
    image = image_from_node(volume)
    return Correction(volume.GetName() or "", image, labels_from_segmentation(segmentation, image.geometry))
