"""A corrected segmentation of the scene, for ``train.adapt``: nodes -> [corrections] -> adaptation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..image import Image, Labels
from .segmentations import labels_from_segmentation
from .volumes import image_from_node

if TYPE_CHECKING:
    from ..train.corrections import Correction


def corrected_study(volume: Any, segmentation: Any) -> tuple[Image, Labels]:
    """What the user has put right, on the grid of the volume, with the segments' names; no node is changed.

    Raises:
        NodeError: no such nodes.
        InputError: one of them cannot be made an image or a label map.
    """
    image = image_from_node(volume)
    return image, labels_from_segmentation(segmentation, image.geometry)


def correction_from_nodes(volume: Any, segmentation: Any) -> Correction:
    """The same for :func:`MedSegRegLib.train.adapt.adapt_model`, which needs torch."""
    from ..train.corrections import Correction  # noqa: PLC0415 - not in Slicer's window

    return Correction(volume.GetName() or "", *corrected_study(volume, segmentation))
