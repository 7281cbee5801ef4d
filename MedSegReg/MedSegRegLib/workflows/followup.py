"""Visits of one patient compared: what has grown, shrunk, come or gone, each with the error that it is known by.

The walk: visits -> space half-way between them (:mod:`.followup_midway`) -> motion and difference of intensities
(:mod:`.followup_change`) -> each structure and lesion (:mod:`.followup_compare`, on :mod:`.followup_volumes` and
:mod:`.followup_lesions`) -> [here] -> report (:mod:`.followup_report`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..errors import InvalidSetting
from ..image import Image
from ..progress import SILENT, Progress
from ..register.presets import PRESETS
from ..register.settings import RegistrationSettings
from ..report import Finding
from ..resample import resample_image
from ..transform import Affine, Transform
from .followup_change import find_motion
from .followup_compare import UNCHANGED, VERDICTS, Comparison, Interval, structures_of, with_shared_values
from .followup_lesions import Parts, is_lesion
from .followup_midway import Midway, Visit, find_midway
from .followup_volumes import measure_lesions, measure_size

RIGID_SHARE, SEEN_SHARE = 0.3, 0.9


@dataclass(frozen=True, eq=False)
class StructureVolumes:
    """One structure at all visits; None where a visit has no labels."""

    name: str
    value: int
    ml: tuple[float | None, ...]
    error_ml: tuple[float | None, ...]


@dataclass(frozen=True, eq=False)
class FollowUp:
    """All that was found.

    Attributes:
        names: of the visits.
        midway: the common space; ``midway.to_visit`` places the visits.
        images: each visit in the mid-way space, resampled once.
        volumes: each structure at each visit.
        intervals: between successive visits.
        sentence: the outcome in words.
        findings: what was noticed.
    """

    names: tuple[str, ...]
    midway: Midway
    images: tuple[Image, ...]
    volumes: tuple[StructureVolumes, ...]
    intervals: tuple[Interval, ...]
    sentence: str
    findings: tuple[Finding, ...]


def follow_up(
    visits: Sequence[Visit],
    settings: RegistrationSettings | None = None,
    *,
    lesions: Sequence[str] | None = None,
    border_mm: float | None = None,
    spacing_mm: float | None = None,
    device: torch.device | str = "cpu",
    progress: Progress = SILENT,
) -> FollowUp:
    """Compare two or more visits of one patient, oldest first. No visit is preferred: exchanging two gives the inverse.

    Args:
        visits: see :class:`~.followup_midway.Visit`; never changed. Structures of one name are one.
        settings: of the registration; None takes the preset ``followup``. Without a deformable part only labels and
            intensities are compared.
        lesions: names of the structures that are lesions; None goes by category and name.
        border_mm: standard deviation with which borders were drawn; None takes the voxel's side / sqrt(12).
        spacing_mm: of the mid-way grid; None takes the side of a cube as large as the visits' voxels.
        device, progress: as in :func:`~MedSegRegLib.register.run.register`.

    Raises:
        InputError: fewer than two visits. InvalidSetting: a spacing or a border's error that is none. Others as
            :func:`~MedSegRegLib.register.run.register`.
    """
    _require_lengths(spacing_mm, border_mm)
    settings, visits = settings or PRESETS["followup"], with_shared_values(visits)
    midway = find_midway(visits, settings, spacing_mm, device, progress.part(0.0, RIGID_SHARE))
    places = [Transform((Affine(matrix),)) for matrix in midway.to_visit]
    images = [
        resample_image(visit.image, midway.grid, place, fill=float("nan"))
        for visit, place in zip(visits, places, strict=True)
    ]
    share = (SEEN_SHARE - RIGID_SHARE) / (len(visits) - 1)
    intervals = []
    for later in range(1, len(visits)):
        part = progress.part(RIGID_SHARE + (later - 1) * share, RIGID_SHARE + later * share)
        rigid_error = float(np.linalg.norm(midway.rigid_error_mm[later - 1 : later + 1]))
        motion = find_motion(images[later - 1], images[later], settings, rigid_error, device, part)
        progress.update(RIGID_SHARE + later * share, "measuring the changes")
        intervals.append(Comparison(visits, midway, later, motion, border_mm, lesions).interval())
    progress.update(1.0, "done")
    names = _names(visits)
    volumes = _volumes(visits, border_mm, lesions)
    return FollowUp(
        names,
        midway,
        tuple(image.with_tensor(image.tensor.nan_to_num()) for image in images),
        volumes,
        tuple(intervals),
        _describe(names, intervals),
        (*midway.findings, *_findings(visits)),
    )


def _require_lengths(spacing_mm: float | None, border_mm: float | None) -> None:
    if (spacing_mm is not None and not spacing_mm > 0) or (border_mm is not None and not border_mm >= 0):
        raise InvalidSetting(
            f"The spacing is {spacing_mm} mm, the error of borders {border_mm} mm",
            "a spacing above 0 and an error of 0 or more, or neither",
            "correct them, or leave them out",
        )


def _volumes(
    visits: Sequence[Visit], border_mm: float | None, lesions: Sequence[str] | None
) -> tuple[StructureVolumes, ...]:
    parts = [None if visit.labels is None else Parts(visit.labels.numpy(), visit.labels.geometry) for visit in visits]
    volumes = []
    for structure in structures_of(visits):
        measure = measure_lesions if is_lesion(structure, lesions) else measure_size
        sizes = [None if one is None else measure(*one.mask([structure.value]), border_mm) for one in parts]
        ml = tuple(None if size is None else size.mm3 / 1000 for size in sizes)
        error_ml = tuple(None if size is None else size.error_ml for size in sizes)
        volumes.append(StructureVolumes(structure.name, structure.value, ml, error_ml))
    return tuple(volumes)


def _names(visits: Sequence[Visit]) -> tuple[str, ...]:
    """Of the images, made different where they are not."""
    names = [visit.image.name or f"visit {number}" for number, visit in enumerate(visits, start=1)]
    if len(set(names)) == len(names):
        return tuple(names)
    return tuple(f"{name} (visit {number})" for number, name in enumerate(names, start=1))


def _describe(names: Sequence[str], intervals: Sequence[Interval]) -> str:
    sentences = []
    for interval in intervals:
        lesions = [change.verdict for change in interval.changes if change.lesion]
        structures = [change for change in interval.changes if not change.lesion and change.verdict != UNCHANGED]
        parts = []
        if lesions:
            counts = [f"{lesions.count(verdict)} {verdict}" for verdict in VERDICTS if verdict in lesions]
            parts.append(f"{len(lesions)} lesions: {', '.join(counts)}")
        if structures:
            parts.append(f"beyond their error: {', '.join(f'{one.name} {one.verdict}' for one in structures[:5])}")
        parts = parts or ["no change beyond the error"]
        sentences.append(f"{names[interval.earlier]} to {names[interval.later]}: {'; '.join(parts)}.")
    return " ".join(sentences)


def _findings(visits: Sequence[Visit]) -> list[Finding]:
    drawn = [visit.labels is not None for visit in visits]
    if any(drawn) and not all(drawn):
        return [Finding.info("Where a visit has no labels, the deformation alone tells how volumes changed")]
    return []
