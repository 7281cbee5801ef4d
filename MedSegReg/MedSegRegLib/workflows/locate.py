"""Segmenting a small structure in a large image: find it by registering a template, then segment the boxes.

A model that was trained on crops names boxes in the space of a shipped template. The template is registered to the image
(affine), each box is carried over and segmented on its own, and the parts are put together: left and right.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import torch

from ..device import pick_device
from ..files import read_image
from ..files.model_package import RegionSpec
from ..image import Image, Labels, Structure
from ..progress import SILENT, Progress
from ..register.run import register
from ..register.settings import PRESETS
from ..report import Finding
from ..samples import sample_path
from ..segment.model import Model, load_model
from ..segment.predict import Segmentation, segment
from ..transform import Transform

WHOLE_IMAGE_FACTOR = 1.6


def segment_anywhere(
    image: Image, model: Model | str, *, device: str = "auto", progress: Progress = SILENT, **options: object
) -> Segmentation:
    """Segment a crop directly, and in a larger image the boxes where the structures are.

    Args:
        image: a crop as the model was trained on, or a larger image of the same region of the body.
        model, device, progress, options: as in :func:`MedSegRegLib.segment.segment`. A ``region`` in the options is
            looked at as it is.

    Returns:
        For a larger image one structure a label and box, e.g. "left anterior hippocampus".

    Raises:
        RegistrationError: the template does not fit the image.
    """
    if not isinstance(model, Model):
        model = load_model(model, pick_device(device))
    region = model.spec.region
    if region is None or options.get("region") is not None or not _is_larger(image, region):
        return segment(image, model, progress=progress, **options)  # type: ignore[arg-type]
    transform, finding = _fit_template(image, region, model.device, progress.part(0.0, 0.6))
    count = len(region.boxes_ras_mm)
    parts = []
    for number, box in enumerate(region.boxes_ras_mm):
        corners = transform.map_points(np.array(list(itertools.product(*zip(*box, strict=True)))))
        part = progress.part(0.6 + 0.4 * number / count, 0.6 + 0.4 * (number + 1) / count)
        parts.append(segment(image, model, region=corners, progress=part, **options))  # type: ignore[arg-type]
    findings = tuple(dict.fromkeys((*parts[0].findings, finding)))
    return Segmentation(_join([part.labels for part in parts], region), findings, parts[-1].provenance)


def _is_larger(image: Image, region: RegionSpec) -> bool:
    """True when the image is much larger than one box, along at least two axes."""
    boxes = np.array(region.boxes_ras_mm)
    extent = np.ptp(image.geometry.corners_ras(), axis=0)
    return int((extent > WHOLE_IMAGE_FACTOR * np.ptp(boxes, axis=1).max(axis=0)).sum()) >= 2


def _fit_template(
    image: Image, region: RegionSpec, device: torch.device, progress: Progress
) -> tuple[Transform, Finding]:
    """Template points -> image points, by mutual information."""
    template = read_image(sample_path(region.template))
    result = register(template, image, PRESETS["affine"], device=device, progress=progress)
    return result.transform, Finding.info(f"Structures were looked for where {region.template} has them ({result.sentence})")


def _join(parts: list[Labels], region: RegionSpec) -> Labels:
    """Labels of all boxes in one map: values follow one another, names get the box's prefix."""
    joined = torch.zeros_like(parts[0].tensor)
    structures: list[Structure] = []
    for number, part in enumerate(parts):
        offset = number * len(part.structures)
        joined = torch.where((part.tensor > 0) & (joined == 0), part.tensor + offset, joined)
        structures += [
            replace(s, value=s.value + offset, name=f"{region.prefixes[number]} {s.name}",
                    color=tuple(0.75 * c + 0.25 * number for c in s.color),  # type: ignore[arg-type]
                    modifier=region.modifiers[number].to_code())
            for s in part.structures
        ]
    return replace(parts[0], tensor=joined, structures=tuple(structures))
