"""Letting a segmentation model help a registration: what it finds in both images is brought onto each other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..errors import InvalidSetting
from ..image import Image
from ..progress import SILENT, Progress
from ..register.guidance import Guidance
from ..segment.model import Model
from .locate import segment_anywhere


def guide_by_model(
    fixed: Image,
    moving: Image,
    model: Model | str | Path,
    guidance: Guidance | None = None,
    *,
    device: str = "auto",
    progress: Progress = SILENT,
) -> Guidance:
    """The guidance with the model's segmentations of both images as its labels.

    Args:
        fixed, moving: images that the model can segment.
        guidance: what else is known; without labels.

    Raises:
        InvalidSetting: the guidance has labels already.
        InputError: an image that the model cannot work on.
        Cancelled: asked for through ``progress``.
    """
    guidance = guidance or Guidance()
    if guidance.fixed_labels is not None or guidance.moving_labels is not None:
        raise InvalidSetting(
            "Both labels and a model are given as guidance", "one of them", "leave the labels or the model out"
        )
    ours, theirs = (
        segment_anywhere(image, model, device=device, progress=progress.part(share, share + 0.5)).labels
        for image, share in ((fixed, 0.0), (moving, 0.5))
    )
    return replace(guidance, fixed_labels=ours, moving_labels=theirs)
