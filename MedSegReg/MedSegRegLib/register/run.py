"""The whole registration: two images in, a transform with its inverse out. The walk's middle, in one screen."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from ..check_image import Need, check_image, check_mask
from ..errors import FoldingError, InputError, NoOverlap
from ..image import Image, Labels
from ..progress import SILENT, Progress
from ..report import Finding
from ..transform import Affine, Transform
from .affine import LEAST_OVERLAP, evaluate_pair, optimise_linear
from .deformable import optimise_deformable
from .pyramid import Pair, Study, prepare_study
from .quality import Quality, describe_registration, measure_quality
from .self_similarity import describe_studies
from .settings import DeformableSettings, LinearModel, RegistrationSettings
from .solution import Solution, VelocityField
from .starts import find_start

LINEAR_COARSENING = (4.0, 2.0, 1.0)
LINEAR_ITERATIONS = 30
LINEAR_STEPS: dict[LinearModel, tuple[LinearModel, ...]] = {
    "none": (),
    "rigid": ("rigid",),
    "similarity": ("rigid", "similarity"),
    "affine": ("rigid", "affine"),
}
LINEAR_SHARE = 0.3
LEVELS_SHARE = 0.95
ALIKE_CORRELATION = 0.3


@dataclass(frozen=True, eq=False)
class Registration:
    """A result.

    Attributes:
        transform: fixed RAS to moving RAS: a displacement on a grid over the fixed field of view (if asked for),
            then an affine.
        inverse: moving RAS to fixed RAS: the inverse affine, then ``exp(-v)`` on the same grid.
        quality: numbers to trust it by.
        sentence: which study moves onto which, and by how much.
        findings: what was noticed about inputs and on the way.
        settings: what was asked for.
        seconds: wall time.
    """

    transform: Transform
    inverse: Transform
    quality: Quality
    sentence: str
    findings: tuple[Finding, ...]
    settings: RegistrationSettings
    seconds: float


def register(
    fixed: Image,
    moving: Image,
    settings: RegistrationSettings | None = None,
    *,
    fixed_mask: Labels | None = None,
    moving_mask: Labels | None = None,
    initial: Transform | None = None,
    device: torch.device | str = "cpu",
    progress: Progress = SILENT,
    on_level: Callable[[Transform, int], None] | None = None,
) -> Registration:
    """Find where each point of ``fixed`` lies in ``moving``.

    Args:
        fixed, moving: one channel each, on any grids; never changed.
        settings: affine and deformable for one modality when None; see ``settings.PRESETS``.
        fixed_mask, moving_mask: on the grid of their image; only voxels above 0 are looked at.
        initial: linear stages to begin with instead of a search; fixed RAS to moving RAS.
        device: where to compute; the result is on the CPU.
        progress: told how far it is; its cancelling is asked at every iteration.
        on_level: called with the transform so far after each dense level, and the level's number.

    Returns:
        Deterministic on the CPU: nothing is drawn at random.

    Raises:
        InputError: an image, mask or initial transform that cannot be worked on.
        NoOverlap: the images cannot be brought together.
        Diverged: a similarity is not a number.
        FoldingError: more folding than the settings allow.
        Cancelled: asked for through ``progress``.
    """
    began = time.perf_counter()
    settings, device = settings or RegistrationSettings(), torch.device(device)
    findings = _check_inputs(fixed, moving, fixed_mask, moving_mask)
    start = _linear_part(initial)
    if device.type == "mps":
        device = torch.device("cpu")
        findings.append(Finding.info("Registered on the CPU: Apple's MPS has no float64, which histograms need"))
    studies = prepare_study(fixed, fixed_mask, device), prepare_study(moving, moving_mask, device)

    linear_share = LINEAR_SHARE if settings.deformable else LEVELS_SHARE
    matrix, noticed = _register_linear(studies, settings, start, progress.part(0, linear_share))
    findings += noticed
    solution = Solution(matrix)
    if settings.deformable is not None:
        part = progress.part(LINEAR_SHARE, LEVELS_SHARE)
        solution, noticed = _register_deformable(studies, settings.deformable, matrix, part, on_level)
        findings += noticed

    progress.update(LEVELS_SHARE, "measuring the quality")
    quality = _final_quality(studies, settings, np.eye(4) if start is None else start, solution)
    sentence = describe_registration(fixed, moving, matrix, quality)
    progress.update(1.0, "done")
    return Registration(
        solution.transform, solution.inverse, quality, sentence, tuple(findings), settings, time.perf_counter() - began
    )


def _check_inputs(fixed: Image, moving: Image, fixed_mask: Labels | None, moving_mask: Labels | None) -> list[Finding]:
    findings: list[Finding] = []
    for image, mask in ((fixed, fixed_mask), (moving, moving_mask)):
        _, noticed = check_image(image, Need("register", minimum_size=4))
        findings += noticed
        if mask is not None:
            check_mask(mask, image)
    return findings


def _linear_part(initial: Transform | None) -> np.ndarray | None:
    """The product of the stages of an initial transform; None without one."""
    if initial is None:
        return None
    matrix = np.eye(4)
    for stage in initial.stages:
        if not isinstance(stage, Affine):
            raise InputError(
                "The initial transform has a displacement field",
                "linear stages only",
                "give its linear part, or resample the moving image through the field first",
            )
        matrix = stage.matrix @ matrix
    return matrix


def _register_linear(
    studies: tuple[Study, Study], settings: RegistrationSettings, start: np.ndarray | None, progress: Progress
) -> tuple[np.ndarray, list[Finding]]:
    spacing = spacing_for(studies[0], settings.linear_voxels)
    pairs = [Pair.at(*studies, spacing * coarsening) for coarsening in LINEAR_COARSENING]
    findings = _check_overlap(pairs[0], settings, start)
    steps = LINEAR_STEPS[settings.linear]
    if start is None:
        progress.update(0.0, "looking for a start")
        start = find_start(pairs[0], settings.linear_similarity, progress).matrix if steps else np.eye(4)
    matrix = start
    for number, pair in enumerate(pairs):
        for model in steps if number == 0 else steps[-1:]:
            progress.update((number + 1) / (len(pairs) + 1), f"{model} at {min(pair.fixed.geometry.spacing_mm):.1f} mm")
            matrix, _ = optimise_linear(
                pair, matrix, model, settings.linear_similarity, iterations=LINEAR_ITERATIONS, progress=progress
            )
    if (
        steps
        and evaluate_pair(pairs[-1], matrix, settings.linear_similarity).value
        < evaluate_pair(pairs[-1], start, settings.linear_similarity).value
    ):
        findings.append(
            Finding.warn(
                "The linear stage found nothing better than its start",
                "Check the result, or give an initial transform.",
            )
        )
        matrix = start
    return matrix, findings + _check_alike(pairs[-1], settings, matrix)


def _check_overlap(pair: Pair, settings: RegistrationSettings, start: np.ndarray | None) -> list[Finding]:
    """Row 50 of the fault catalogue: without common space, search if that is allowed, else refuse."""
    overlap = evaluate_pair(pair, np.eye(4) if start is None else start, settings.linear_similarity).overlap
    if overlap >= LEAST_OVERLAP:
        return []
    found = f"Fixed and moving share {100 * overlap:.1f} % of the fixed image"
    if start is not None or settings.linear == "none":
        raise NoOverlap(
            f"{found} under the given start",
            "at least 1 %",
            "give another initial transform, or none, or choose a linear stage",
        )
    return [
        Finding.warn(
            f"{found} where they are; they were centred on each other first",
            "Check that both are of the same body region.",
        )
    ]


def _check_alike(pair: Pair, settings: RegistrationSettings, matrix: np.ndarray) -> list[Finding]:
    """Row 52: squared differences need equal intensities for equal tissue."""
    measures = {settings.linear_similarity, settings.deformable.similarity if settings.deformable else None}
    if "ssd" not in measures:
        return []
    voxels = pair.moving_voxels(matrix)
    inside = pair.weight(voxels) > 0
    correlation = float(
        torch.corrcoef(torch.stack((pair.fixed.intensity[0, inside], pair.moved(voxels)[0, inside])))[0, 1]
    )
    if correlation >= ALIKE_CORRELATION:
        return []
    return [
        Finding.warn(
            f"The images do not look alike (correlation {correlation:.2f}) for squared differences",
            "Use mutual information ('mi') for different modalities.",
        )
    ]


def _register_deformable(
    studies: tuple[Study, Study],
    settings: DeformableSettings,
    matrix: np.ndarray,
    progress: Progress,
    on_level: Callable[[Transform, int], None] | None,
) -> tuple[Solution, list[Finding]]:
    spacing = working_spacing(studies[0], settings)
    aligned = matrix
    if settings.similarity == "mind":
        studies, aligned = describe_studies(*studies, matrix, spacing), np.eye(4)

    def report(flow: VelocityField, number: int) -> None:
        if on_level is not None:
            on_level(Solution(matrix, flow).transform, number)

    flow, findings = optimise_deformable(
        lambda coarsening: Pair.at(*studies, spacing * coarsening),
        aligned,
        settings,
        progress=progress,
        on_level=report,
    )
    return Solution(matrix, flow), findings


def working_spacing(study: Study, settings: DeformableSettings) -> float:
    """Voxel size in mm that a coarsening of 1 means."""
    return settings.working_spacing_mm or spacing_for(study, settings.working_voxels)


def spacing_for(study: Study, voxels: int) -> float:
    """The spacing in mm, of equal sides, at which a study has at most so many voxels; at least its own finest."""
    volume = study.weight.numel() * study.geometry.voxel_volume_mm3
    return max(min(study.geometry.spacing_mm), float((volume / voxels) ** (1 / 3)))


def _final_quality(
    studies: tuple[Study, Study], settings: RegistrationSettings, start: np.ndarray, solution: Solution
) -> Quality:
    dense = settings.deformable
    if dense is None:
        pair = Pair.at(*studies, spacing_for(studies[0], settings.linear_voxels))
        return measure_quality(pair, settings.linear_similarity, start, solution)
    pair = Pair.at(*studies, working_spacing(studies[0], dense) * dense.coarsening[-1])
    measure = settings.linear_similarity if dense.similarity == "mind" else dense.similarity
    quality = measure_quality(pair, measure, start, solution)
    if quality.folding is not None and quality.folding.percent_any_corner > dense.folding_limit_percent:
        raise FoldingError(
            f"{quality.folding.percent_any_corner:.3f} % of the voxels fold",
            f"at most {dense.folding_limit_percent:g} %",
            "raise field_sigma_voxels or update_sigma_voxels",
        )
    return quality
