"""From two studies and their linear alignment to a flow: what is compared, where it starts, what it must respect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch

from ..geometry import Geometry
from ..progress import Progress
from ..report import Finding
from ..transform import Affine, Transform
from .deformable import DeformableLevel, LevelReport, Part, optimise_deformable
from .discrete import search_motion
from .displacement import from_displacement, resize_field
from .filters import filter_axes, gaussian_axes
from .flow import DisplacementField, Flow, VelocityField
from .guidance import Guidance, label_study
from .landmarks import spline_displacement
from .linear import spacing_for
from .pyramid import Pair, Study, prepare_study
from .self_similarity import describe_studies
from .settings import DeformableSettings
from .stiffness import choose_stiffness
from .terms import LandmarkTerm, RigidRegions

MARGIN_MM = 10.0
MIND_VOXELS = 1_200_000  # 12 channels of each image are kept
SEARCH_SHARE, STIFFNESS_SHARE = 0.1, 0.3
SEARCH_SIGMA_MM = 10.0


@dataclass(frozen=True, eq=False)
class DenseTask:
    """Everything the dense stage works on.

    Attributes:
        fixed, moving: at full resolution.
        matrix: 4x4, fixed RAS to moving RAS; applied after the flow.
        initial: a map to begin with, fixed RAS to moving RAS, its linear part included; None begins with no motion.
    """

    fixed: Study
    moving: Study
    matrix: np.ndarray
    settings: DeformableSettings
    guidance: Guidance
    initial: Transform | None = None


def register_dense(
    task: DenseTask, progress: Progress, on_level: Callable[[Flow, LevelReport], None]
) -> tuple[Flow, list[Finding]]:
    """The flow that goes before the matrix, on a grid of its own, and what was noticed."""
    fixed, settings, guidance = task.fixed.cropped(MARGIN_MM), task.settings, task.guidance
    spacing = working_spacing(fixed, settings)
    landmarks = None
    if guidance.points is not None:
        targets = Transform((Affine(task.matrix).inverse(),)).map_points(guidance.points[1])
        landmarks = LandmarkTerm(guidance.points[0], targets)
    parts = make_parts(fixed, task, spacing)

    @cache
    def search(reach_mm: float) -> tuple[torch.Tensor, Geometry]:
        progress.update(0.0, "trying large motions")
        return search_motion(fixed, task.moving, task.matrix, reach_mm)

    def start(grid: Geometry) -> Flow:
        return _start(task, landmarks, parts, grid, search)

    findings = []
    stiffness = settings.stiffness
    if stiffness == "auto" and task.initial is not None:
        stiffness = 1.0
    if stiffness == "auto":
        share = progress.part(SEARCH_SHARE, STIFFNESS_SHARE)
        stiffness, chosen = choose_stiffness(parts, settings, spacing, start, share)
        findings.append(chosen)
    flow, noticed = optimise_deformable(
        parts,
        settings.scaled(stiffness),
        spacing,
        start=start,
        landmarks=landmarks,
        rigid=None if guidance.rigid is None else RigidRegions(guidance.rigid),
        progress=progress.part(STIFFNESS_SHARE, 1.0),
        on_level=on_level,
    )
    return flow, findings + noticed


def working_spacing(study: Study, settings: DeformableSettings) -> float:
    """Voxel size in mm that a coarsening of 1 means."""
    return settings.working_spacing_mm or spacing_for(study, settings.working_voxels)


def make_parts(fixed: Study, task: DenseTask, spacing: float) -> list[Part]:
    """What a task asks to compare over the field of view of a fixed study, for levels of this spacing in mm."""
    parts = []
    for name, weight in task.settings.similarities.items():
        if name == "mind":
            described_mm = max(spacing, spacing_for(fixed, MIND_VOXELS))
            for channel in range(len(fixed.intensity)):
                one, other = (study.channel(channel) for study in (fixed, task.moving))
                described = describe_studies(one, other, task.matrix, described_mm)
                parts.append(Part(*described, np.eye(4), name, weight / len(fixed.intensity)))
        else:
            parts.append(Part(fixed, task.moving, task.matrix, name, weight))
    guidance, weight = task.guidance, task.settings.label_weight
    device = fixed.intensity.device
    if guidance.fixed_labels is not None and guidance.moving_labels is not None:
        ours, theirs = (
            label_study(labels, guidance.shared_values, spacing, device)
            for labels in (guidance.fixed_labels, guidance.moving_labels)
        )
        parts.append(Part(_onto(ours, fixed, spacing), theirs, task.matrix, "ssd", weight))
    if guidance.fixed_features is not None and guidance.moving_features is not None:
        ours, theirs = (
            prepare_study(features, None, device).coarsen(spacing)
            for features in (guidance.fixed_features, guidance.moving_features)
        )
        parts.append(Part(_onto(ours, fixed, spacing), theirs, task.matrix, "ssd", weight))
    return parts


def _onto(study: Study, fixed: Study, spacing: float) -> Study:
    """On the fixed grid, coarsened."""
    return study.resampled(np.eye(4), fixed.coarse_grid(spacing))


def _start(
    task: DenseTask,
    landmarks: LandmarkTerm | None,
    parts: list[Part],
    grid: Geometry,
    search: Callable[[float], tuple[torch.Tensor, Geometry]],
) -> Flow:
    """The flow to begin with: what was given, else a spline through points, else a search if it is better than none."""
    kind = VelocityField if task.settings.model == "velocity" else DisplacementField
    like = task.fixed.intensity
    if task.initial is not None:
        before = task.initial.then(Transform((Affine(task.matrix).inverse(),)))
        field = from_displacement(before.to_displacement(grid, like.device))
        return kind.from_displacement(field.to(like), grid)
    if landmarks is not None:
        field = spline_displacement(landmarks.fixed_ras, landmarks.target_ras, grid, like)
        return kind.from_displacement(field, grid)
    nothing = kind(like.new_zeros((3, *grid.shape_kji)), grid)
    if task.settings.search_reach_mm is None:
        return nothing
    field, coarse = search(task.settings.search_reach_mm)
    # As rough as it is found, it would look better than all that the elastic smoothing makes of it.
    smooth = filter_axes(resize_field(field, coarse, grid), gaussian_axes(grid, SEARCH_SIGMA_MM, like))
    found = kind.from_displacement(smooth, grid)
    pairs = [Pair.at(part.fixed, part.moving, min(grid.spacing_mm) / task.settings.field_coarsening) for part in parts]
    level = DeformableLevel(parts, pairs, grid, task.settings)
    return max((nothing, found), key=level.value)
