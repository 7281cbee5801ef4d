"""Correcting a registration by hand, the whole in one screen: it goes on from where it stands, near what was placed."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch

from ..errors import FoldingError, InputError
from ..evaluate.deformation import folding
from ..image import Image, Labels
from ..progress import SILENT, Progress
from ..report import Finding
from ..transform import Affine, Displacement, Transform
from .confine import Confined, distance_to_points, fading
from .correction_plan import CorrectionPlan, plan_correction
from .deformable import STOPPED, DeformableLevel, LevelReport, flow_domain, flow_grid
from .dense import MARGIN_MM, DenseTask, make_parts, working_spacing
from .displacement import from_displacement, to_displacement
from .fill import fill_smoothly
from .flow import DisplacementField
from .guidance import Guidance
from .linear import spacing_for
from .pyramid import Pair, Study, prepare_study
from .quality import Quality, describe_registration, measure_quality
from .run import Registration, check_inputs
from .settings import DeformableSettings, RegistrationSettings
from .settle import lacking_mm, settle
from .solution import Solution

NOT_MET_MM = 1.0
IMAGE_ITERATIONS = 15
HELD_VOXELS = 2.0  # of the motion's grid around a point, which the images do not move
MOST_VOXELS = 1_000_000
LEVELS = 2  # what was placed, and the images
LED_SHARE, SOLVED_SHARE = 0.1, 0.7


def correct(
    fixed: Image,
    moving: Image,
    found: Registration | Transform,
    guidance: Guidance,
    settings: RegistrationSettings | None = None,
    *,
    fixed_mask: Labels | None = None,
    moving_mask: Labels | None = None,
    device: torch.device | str = "cpu",
    progress: Progress = SILENT,
    on_level: Callable[[Transform, LevelReport], None] | None = None,
) -> Registration:
    """Go on from a registration with what a person has added to it, and change nothing farther away.

    Points are led to their targets at once, with 40 mm around them giving way smoothly and without folds; then the
    images say, under these points, how the surroundings should lie. Inside an ignored region the motion is
    filled from around it, and the images do not count; a rigid region takes its best rigid motion. Regions act on
    20 mm around them. The grid of the motion stays, and with it every vector outside; so do the linear part and
    ``found``.

    Args:
        fixed, moving: as they were registered.
        found: what ``register`` or this function found, or its transform, fixed RAS to moving RAS. Chains that are
            not one displacement followed by linear stages become one first.
        guidance: points, all that were ever placed: those that are met already are kept and nothing is done around
            them; rigid and ignored regions; labels and features count beside the images.
        settings: of the similarity and the smoothness; those of ``found`` when None.
        fixed_mask, moving_mask: on the grid of their image; only voxels above 0 are looked at.
        device: where to compute; the result is on the CPU.
        progress: told how far it is; asked for cancelling and stopping at every iteration.
        on_level: called with the transform as soon as the points are met, and when the images have been asked; before
            inverse and quality are known.

    Returns:
        The new transform with inverse and quality, in which ``before`` stands for ``found``.

    Raises:
        InputError: as in ``register``; settings without a deformable part; a point outside the field; two pairs of
            points that contradict each other.
        FoldingError: the result would fold where ``found`` did not.
        Cancelled: asked for through ``progress``.
    """
    began = time.perf_counter()
    if settings is None:
        settings = found.settings if isinstance(found, Registration) else RegistrationSettings()
    before, dense = found.transform if isinstance(found, Registration) else found, _local_settings(settings)
    composed = settings.model_copy(update={"deformable": dense})
    findings = check_inputs(fixed, moving, fixed_mask, moving_mask, composed, guidance)
    device = torch.device("cpu" if torch.device(device).type == "mps" else device)
    studies = (
        prepare_study(fixed, fixed_mask, device, guidance.ignore),
        prepare_study(moving, moving_mask, device),
    )
    standing, matrix, noticed = _as_field(before, studies[0], dense)
    findings += noticed
    plan, noticed = plan_correction(standing, matrix, guidance)
    findings += noticed
    flow = standing
    if plan is not None:
        task = DenseTask(*studies, matrix, dense, guidance)

        def report(flow: DisplacementField, level: LevelReport) -> None:
            if on_level is not None:
                on_level(Solution(matrix, flow).transform, level)

        flow, noticed = _solve(plan, standing, task, progress.part(LED_SHARE, SOLVED_SHARE), report)
        findings += noticed
    progress.update(SOLVED_SHARE, "measuring the quality")
    solution = Solution(matrix, flow)
    pair = Pair.at(*studies, spacing_for(studies[0], settings.linear_voxels))
    quality = measure_quality(pair, settings.linear_similarity, before, solution, guidance)
    _refuse_new_folds(standing, quality)
    sentence = describe_registration(fixed, moving, matrix, quality)
    progress.update(1.0, "done")
    return Registration(
        solution.transform, solution.inverse, quality, sentence, tuple(findings), settings, time.perf_counter() - began
    )


def _local_settings(settings: RegistrationSettings) -> DeformableSettings:
    """Those of a registration that begins at a dense start, as a composition of small steps."""
    if settings.deformable is None:
        raise InputError(
            "The settings have no deformable part",
            "settings that a motion can be bent with",
            "take a deformable preset",
        )
    stiffness = 1.0 if settings.deformable.stiffness == "auto" else settings.deformable.stiffness
    return settings.deformable.scaled(stiffness).model_copy(update={"model": "composition", "symmetric": False})


def _as_field(
    transform: Transform, fixed: Study, settings: DeformableSettings
) -> tuple[DisplacementField, np.ndarray, list[Finding]]:
    """The transform as a displacement, on its own grid if it has one, and a matrix after it."""
    matrix, like = transform.linear_part, fixed.intensity
    if transform.stages and isinstance(transform.stages[0], Displacement):
        dense, after = transform.stages[0], Transform(transform.stages[1:])
        if after.matrix is not None:
            return DisplacementField(from_displacement(dense).to(like), dense.geometry), matrix, []
    image = fixed.cropped(MARGIN_MM).coarse_grid(working_spacing(fixed, settings) * settings.coarsening[-1])
    grid = flow_grid(flow_domain(image, settings.field_coarsening), image, settings.field_coarsening)
    before_matrix = transform.then(Transform((Affine(matrix).inverse(),)))
    field = from_displacement(before_matrix.to_displacement(grid, like.device)).to(like)
    noticed = Finding.info("The transform was not one displacement before a matrix, and was drawn as such first")
    return DisplacementField(field, grid), matrix, [noticed]


def _solve(
    plan: CorrectionPlan,
    standing: DisplacementField,
    task: DenseTask,
    progress: Progress,
    on_level: Callable[[DisplacementField, LevelReport], None],
) -> tuple[DisplacementField, list[Finding]]:
    """What was placed first; then what the images say around it; then what that has disturbed of the former."""
    window, orders = plan.window, plan.orders
    before = window.taken_from(standing)
    filled = fill_smoothly(before, plan.ignored, window.geometry)
    led = DisplacementField(settle(filled, before, window, orders), window.geometry)
    level, spacing_mm = _image_level(plan, task, led)
    on_level(window.put_into(standing, led.vectors), LevelReport(0, LEVELS, spacing_mm, level.value(led)))
    improved, value, findings = level.optimise(led, IMAGE_ITERATIONS, progress)
    vectors = settle(improved.vectors, before, window, orders)
    flow = window.put_into(standing, vectors)
    on_level(flow, LevelReport(1, LEVELS, spacing_mm, value))
    if progress.wants_result():
        findings.append(STOPPED)
    return flow, findings + _name_unmet(vectors, plan)


def _name_unmet(vectors: torch.Tensor, plan: CorrectionPlan) -> list[Finding]:
    landmarks = plan.orders.landmarks
    if landmarks is None:
        return []
    left = lacking_mm(vectors, plan.window.geometry, landmarks)
    return [
        Finding.warn(
            f"The landmark at {np.round(place, 1).tolist()} could not be met: {lacking:.1f} mm are left",
            "Check this pair, and what holds it: other landmarks near it, or a rigid region.",
        )
        for place, lacking in zip(landmarks.fixed_ras, left, strict=True)
        if lacking > NOT_MET_MM
    ]


def _image_level(plan: CorrectionPlan, task: DenseTask, start: DisplacementField) -> tuple[DeformableLevel, float]:
    """The images over the window, at the finest scale that stays within a million voxels, and its spacing in mm.

    Where a point has been led, the motion is held as it was then.
    """
    grid, settings = plan.window.geometry, task.settings
    own = grid.finest_spacing_mm / settings.field_coarsening
    affordable = (grid.voxel_volume_mm3 * np.prod(grid.size_ijk) / MOST_VOXELS) ** (1 / 3)
    spacing_mm = max(own, affordable, task.fixed.geometry.finest_spacing_mm)
    i, j, k = (spacing_mm if n > 1 else spacing for spacing, n in zip(grid.spacing_mm, grid.size_ijk, strict=True))
    fixed = task.fixed.coarsen(spacing_mm).resampled(np.eye(4), grid.with_spacing((i, j, k)))
    parts = make_parts(fixed, task, spacing_mm)
    pairs = [Pair.at(part.fixed, part.moving, spacing_mm) for part in parts]
    weight = plan.window.weight
    if plan.orders.landmarks is not None:
        distance_mm = distance_to_points(grid, plan.orders.landmarks.fixed_ras, weight)
        weight = weight * (1 - fading(distance_mm, HELD_VOXELS * max(grid.spacing_mm)))
    return DeformableLevel(parts, pairs, grid, settings, None, plan.rigid, Confined(start.vectors, weight)), spacing_mm


def _refuse_new_folds(standing: DisplacementField, quality: Quality) -> None:
    before = folding(to_displacement(standing.vectors.cpu(), standing.geometry)).voxels_any_corner
    after = 0 if quality.folding is None else quality.folding.voxels_any_corner
    if after > before:
        raise FoldingError(
            f"The correction would fold {after - before} voxels",
            "a motion that can be undone",
            "move apart landmarks that ask for very different motions close by, or make rigid regions smaller",
        )
