"""Segmenting a small structure in a large image: find it by registering a template, then segment the boxes.

A model that was trained on crops names boxes in the space of a shipped template. The template is registered to the
image (affine), each box is carried over and segmented on its own, and the parts are put together: left and right.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from ..check_image import Need, check_image
from ..files import read_image, read_labels
from ..files.model_spec import RegionSpec
from ..geometry import Geometry
from ..image import Image, Labels, Structure
from ..progress import SILENT, Progress
from ..register.presets import PRESETS
from ..register.pyramid import prepare_study
from ..register.run import register
from ..register.template_fit import FINE_MM, Template, fit_template
from ..report import Finding
from ..samples import sample_path
from ..segment.channels import join_channels
from ..segment.find import find_region
from ..segment.model import Model, load_model
from ..segment.options import DEFAULTS, SegmentationOptions
from ..segment.plan import Plan, make_plan
from ..segment.predict import Segmentation, need_of, segment
from ..segment.prepare import grid_of, window_around
from ..transform import Affine, Transform

CLEAR_FIT = 0.45
"""Mutual information inside the brain, at 4 mm, from which a quick look is enough: 0.51 to 1.31 were measured on heads,
0.35 to 0.38 on heads with slices of 4 mm, 0.00 to 0.35 on noise, balls and shells."""
POOR_FIT = 0.25
"""Mutual information inside the brain below which the fit is doubted: 0.36 to 0.73 were measured on heads (T1, T2,
FLAIR, with and without skull, thick slices), 0.00 to 0.25 on noise and on a ball."""


def segment_anywhere(
    image: Image | Mapping[str, Image],
    model: Model | str | Path,
    options: SegmentationOptions = DEFAULTS,
    *,
    device: str = "auto",
    region: np.ndarray | None = None,
    progress: Progress = SILENT,
) -> Segmentation:
    """Segment an image wherever the structures are in it.

    A crop directly, a larger image in the parts where the structures are, and with a model that works in the space of a
    template as that is placed in the image.

    Args:
        image: a crop as the model was trained on, or a larger image of the same part of the body.
        region: where to look, instead of looking for it.
        model, options, device, progress: as in :func:`MedSegRegLib.segment.predict.segment`.

    Returns:
        For a larger image one structure a label and box, e.g. "left anterior hippocampus". A warning among the findings
        says when the template fits poorly.

    Raises:
        InputError, ModelError, DeviceUnavailable, NoOverlap, NonFiniteOutput, Cancelled.
    """
    if not isinstance(model, Model):
        model = load_model(model, device)
    if not isinstance(image, Image):
        image = join_channels(image, model.spec)
    if model.spec.find is not None and region is None:
        find = model.spec.find
        coarse = load_model(find.model, model.device)
        region = find_region(image, coarse, find.structures, find.margin_mm, options, progress.part(0.0, 0.3))
        return segment(image, model, options, region=region, progress=progress.part(0.3, 1.0))
    if model.spec.standard is not None:
        return _segment_in_standard_space(image, model, options, region, progress)
    boxes = model.spec.region
    if boxes is None or region is not None or not boxes.is_part_of(image.geometry):
        return segment(image, model, options, region=region, progress=progress)
    image, findings = check_image(image, Need("segment", channels=None), options.replace_nonfinite)
    transform, fit = place_template(image, boxes.template, model.device, progress.part(0.0, 0.6))
    parts = []
    for number, box in enumerate(boxes.boxes_ras_mm):
        corners = transform.map_points(np.array(list(itertools.product(*zip(*box, strict=True)))))
        start, stop = (0.6 + 0.4 * n / len(boxes.boxes_ras_mm) for n in (number, number + 1))
        parts.append(segment(image, model, options, region=corners, progress=progress.part(start, stop)))
    noticed = dict.fromkeys((*findings, *parts[0].findings, fit))
    return Segmentation(_join([part.labels for part in parts], boxes), tuple(noticed), parts[-1].provenance)


def plan_anywhere(model: Model, geometry: Geometry, region: np.ndarray | None = None, mirror: bool = False) -> Plan:
    """What :func:`segment_anywhere` will take after it has found where to look.

    Raises:
        NoOverlap: the region lies outside the volume.
    """
    spec = model.spec
    if region is not None:
        return make_plan(model, geometry, window_around(grid_of(geometry, spec), region), mirror)
    if spec.region is None or not spec.region.is_part_of(geometry):
        return make_plan(model, geometry, mirror=mirror)
    extent = np.ptp(np.array(spec.region.boxes_ras_mm), axis=1).max(axis=0)
    i, j, k = np.ceil(extent).astype(int).tolist()
    one = make_plan(model, geometry, grid_of(Geometry.from_spacing((i, j, k)), spec), mirror)
    count = len(spec.region.boxes_ras_mm)
    return replace(one, tiles=one.tiles * count, seconds=None if one.seconds is None else one.seconds * count)


def _segment_in_standard_space(
    image: Image, model: Model, options: SegmentationOptions, region: np.ndarray | None, progress: Progress
) -> Segmentation:
    """Place the template in the image, and segment the image as it lies in the template's space."""
    standard = model.spec.standard
    assert standard is not None
    image, _ = check_image(image, need_of(model.spec), options.replace_nonfinite)
    first = image.with_tensor(image.tensor[:1])
    transform, fit = place_template(first, standard.template, model.device, progress.part(0.0, 0.5))
    result = segment(
        image,
        model,
        options,
        region=region,
        to_standard=np.linalg.inv(transform.linear_part),
        progress=progress.part(0.5, 1.0),
    )
    return replace(result, findings=(*result.findings, fit))


def place_template(
    image: Image, template: str, device: torch.device, progress: Progress = SILENT
) -> tuple[Transform, Finding]:
    """Affine, points of a shipped template -> points of the image, by mutual information, and how well it fits.

    A quick look first; where that is not clear, a thorough one.
    """
    progress.update(0.0, f"loading the template {template}")
    _read_template(template)
    progress.check_cancelled()
    prepared = _prepare_template(template)
    progress.check_cancelled()
    study = prepare_study(image, None, torch.device("cpu"))
    matrix, alike = fit_template(prepared, study, progress)
    transform = Transform((Affine(matrix),))
    if alike < CLEAR_FIT:
        transform, alike = _register_template(image, template, device, progress)
    if alike < POOR_FIT:
        return transform, Finding.warn(
            f"The image fits the template {template} poorly (mutual information {alike:.2f})",
            "Check that it shows the whole region; the structures may be in the wrong place.",
        )
    return transform, Finding.info(f"Structures were looked for where {template} has them (fit {alike:.2f})")


@lru_cache(maxsize=2)
def _read_template(name: str) -> tuple[Image, Labels]:
    """The head, and where its brain is."""
    return read_image(sample_path(name)), read_labels(sample_path(f"{name}-mask"))


@lru_cache(maxsize=2)
def _prepare_template(name: str) -> Template:
    image, brain = _read_template(name)
    head, inside = (prepare_study(image, mask, torch.device("cpu")).coarsen(FINE_MM) for mask in (None, brain))
    return Template(head, inside)


def _register_template(image: Image, name: str, device: torch.device, progress: Progress) -> tuple[Transform, float]:
    """The whole head first, then only the brain.

    The brain alone serves images with and without skull, but needs the start that the head gives.
    """
    template, brain = _read_template(name)
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
    return fit.transform, fit.quality.after


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
