"""A study with its own segmentation, by hand or by a model: where :mod:`.joint` begins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..image import Image, Labels
from ..progress import SILENT, Progress
from ..segment.model import Model
from ..segment.options import SegmentationOptions
from .locate import segment_anywhere

BY_HAND = 0.95
CERTAIN = 255.0


@dataclass(frozen=True, eq=False)
class Drawn:
    """A study with its own segmentation.

    Attributes:
        labels: on any grid in the study's space; equal values mean the same in both studies.
        mask: on the image's grid; only voxels above 0 are looked at.
        confidence: by label value, 0 to 1: what the own segmentation counts beside the carried one; 0.95 for the rest.
    """

    image: Image
    labels: Labels
    mask: Labels | None = None
    confidence: Mapping[int, float] = field(default_factory=dict)

    def confidence_of(self, value: int) -> float:
        """See ``confidence``."""
        return self.confidence.get(value, BY_HAND)


def draw_by_model(
    image: Image, model: Model | str | Path, *, device: str = "auto", progress: Progress = SILENT
) -> Drawn:
    """A study segmented by a model; each structure is as certain as the network was on average in it.

    Raises:
        InputError, ModelError, DeviceUnavailable, NoOverlap, NonFiniteOutput, Cancelled.
    """
    options = SegmentationOptions(confidence=True)
    found = segment_anywhere(image, model, options, device=device, progress=progress)
    if found.confidence is None:
        return Drawn(image, found.labels)
    margin, labels = found.confidence.margin.cpu(), found.labels.tensor
    values = sorted(set(labels.unique().tolist()) - {0})
    return Drawn(
        image, found.labels, confidence={v: float(margin[labels == v].float().mean()) / CERTAIN for v in values}
    )
