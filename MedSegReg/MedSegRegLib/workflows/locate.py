"""Segmenting a small structure in a large image: find it by registering a template, then segment the boxes.

A model that was trained on crops names boxes in the space of a shipped template. The template is registered to the
image (affine), each box is carried over and segmented on its own, and the parts are put together: left and right.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from ..check_image import Need, check_image
from ..device import pick_device
from ..files import read_image, read_labels
from ..files.model_package import RegionSpec
from ..image import Image, Labels, Structure
from ..progress import SILENT, Progress
from ..register.presets import PRESETS
from ..register.run import register
from ..report import Finding
from ..samples import sample_path
from ..segment.model import Model, load_model
from ..segment.predict import Segmentation, segment
from ..transform import Transform

WHOLE_IMAGE_FACTOR = 1.6
POOR_FIT = 0.25
"""Mutual information inside the brain below which the fit is doubted: 0.36 to 0.73 were measured on heads (T1, T2,
FLAIR, with and without skull, thick slices), 0.00 to 0.25 on noise and on a ball."""


def segment_anywhere(
    image: Image,
    model: Model | str | Path,
    *,
    device: str = "auto",
    region: np.ndarray | None = None,
    islands_mm3: float = 0.0,
    largest_component: bool | None = None,
    replace_nonfinite: bool = False,
    progress: Progress = SILENT,
) -> Segmentation:
    """Segment a crop directly, and in a larger image the boxes where the structures are.

    Args:
        image: a crop as the model was trained on, or a larger image of the same part of the body.
        region: where to look, instead of looking for it.
        model, device, islands_mm3, largest_component, replace_nonfinite, progress: as in
            :func:`MedSegRegLib.segment.predict.segment`.

    Returns:
        For a larger image one structure a label and box, e.g. "left anterior hippocampus". A warning among the findings
        says when the template fits poorly.

    Raises:
        InputError, ModelError, DeviceUnavailable, NoOverlap, NonFiniteOutput, Cancelled.
    """
    if not isinstance(model, Model):
        model = load_model(model, pick_device(device))
    work = partial(segment, model=model, islands_mm3=islands_mm3, largest_component=largest_component)
    boxes = model.spec.region
    if boxes is None or region is not None or not _is_larger(image, boxes):
        return work(image, region=region, replace_nonfinite=replace_nonfinite, progress=progress)
    image, findings = check_image(image, Need("segment"), replace_nonfinite)
    transform, fit = _fit_template(image, boxes, model.device, progress.part(0.0, 0.6))
    parts = []
    for number, box in enumerate(boxes.boxes_ras_mm):
        corners = transform.map_points(np.array(list(itertools.product(*zip(*box, strict=True)))))
        start, stop = (0.6 + 0.4 * n / len(boxes.boxes_ras_mm) for n in (number, number + 1))
        parts.append(work(image, region=corners, progress=progress.part(start, stop)))
    noticed = dict.fromkeys((*findings, *parts[0].findings, fit))
    return Segmentation(_join([part.labels for part in parts], boxes), tuple(noticed), parts[-1].provenance)


def _is_larger(image: Image, region: RegionSpec) -> bool:
    """True when the image is much larger than one box, along at least two axes."""
    boxes = np.array(region.boxes_ras_mm)
    extent = np.ptp(image.geometry.corners_ras(), axis=0)
    return int((extent > WHOLE_IMAGE_FACTOR * np.ptp(boxes, axis=1).max(axis=0)).sum()) >= 2


def _fit_template(
    image: Image, region: RegionSpec, device: torch.device, progress: Progress
) -> tuple[Transform, Finding]:
    """Template points -> image points, by mutual information: the whole head first, then only the brain.

    The brain alone serves images with and without skull, but needs the start that the head gives.
    """
    template = read_image(sample_path(region.template))
    brain = read_labels(sample_path(f"{region.template}-mask"))
    head = register(template, image, PRESETS["affine"], device=device, progress=progress.part(0.0, 0.5))
    fit = register(
        template,
        image,
        PRESETS["affine"],
        fixed_mask=brain,
        initial=head.transform,
        device=device,
        progress=progress.part(0.5, 1.0),
    )
    if fit.quality.after < POOR_FIT:
        return fit.transform, Finding.warn(
            f"The image fits the template {region.template} poorly (mutual information {fit.quality.after:.2f})",
            "Check that it shows the whole region; the structures may be in the wrong place.",
        )
    return fit.transform, Finding.info(f"Structures were looked for where the template has them. {fit.sentence}")


def _join(parts: list[Labels], region: RegionSpec) -> Labels:
    """Labels of all boxes in one map: values follow one another, names get the box's prefix."""
    joined = torch.zeros_like(parts[0].tensor)
    structures: list[Structure] = []
    for number, part in enumerate(parts):
        offset = number * len(part.structures)
        joined = torch.where((part.tensor > 0) & (joined == 0), part.tensor + offset, joined)
        structures += [
            replace(
                s,
                value=s.value + offset,
                name=f"{region.prefixes[number]} {s.name}",
                color=tuple(0.75 * c + 0.25 * number for c in s.color),  # type: ignore[arg-type]
                modifier=region.modifiers[number].to_code(),
            )
            for s in part.structures
        ]
    return replace(parts[0], tensor=joined, structures=tuple(structures))
