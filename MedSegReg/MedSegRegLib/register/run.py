"""The whole registration: two images in, a transform with its inverse out. The walk's middle, in one screen."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from ..check_image import Need, check_image, check_mask
from ..errors import FoldingError, InputError
from ..image import Image, Labels
from ..progress import SILENT, Progress
from ..report import Finding
from ..transform import Transform
from .deformable import LevelReport
from .dense import DenseTask, register_dense
from .flow import Flow
from .guidance import Guidance
from .landmarks import fit_landmarks
from .linear import register_linear, spacing_for
from .pyramid import Pair, Study, prepare_study
from .quality import Quality, describe_registration, measure_quality
from .settings import RegistrationSettings
from .solution import Solution

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
    guidance: Guidance | None = None,
    device: torch.device | str = "cpu",
    progress: Progress = SILENT,
    on_level: Callable[[Transform, LevelReport], None] | None = None,
) -> Registration:
    """Find where each point of ``fixed`` lies in ``moving``.

    Args:
        fixed, moving: on any grids, with as many channels, which count alike; both volumes or both single slices.
            Never changed.
        settings: affine and deformable for one modality when None; see ``settings.PRESETS``.
        fixed_mask, moving_mask: on the grid of their image; only voxels above 0 are looked at.
        initial: where to begin instead of a search, fixed RAS to moving RAS. Linear stages are refined by the linear
            stage; with a displacement field among them the linear part is kept, and the dense stage begins there.
        guidance: points, labels, features, rigid and ignored regions.
        device: where to compute; the result is on the CPU.
        progress: told how far it is; its cancelling is asked at every iteration.
        on_level: called with the transform so far and a report after each dense level.

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
    settings, guidance, device = settings or RegistrationSettings(), guidance or Guidance(), torch.device(device)
    findings = check_inputs(fixed, moving, fixed_mask, moving_mask, settings, guidance)
    if device.type == "mps":
        device = torch.device("cpu")
        findings.append(Finding.info("Registered on the CPU: Apple's MPS has no float64, which histograms need"))
    studies = (
        prepare_study(fixed, fixed_mask, device, guidance.ignore),
        prepare_study(moving, moving_mask, device),
    )

    start = None if initial is None else initial.matrix
    if guidance.points is not None:
        fit = fit_landmarks(*guidance.points, settings.linear)
        guidance = guidance.with_points(fit.inliers)
        findings += fit.findings
        start = fit.matrix if initial is None else start
    linear_share = LINEAR_SHARE if settings.deformable else LEVELS_SHARE
    matrix, noticed = _align(studies, settings, initial, start, progress.part(0, linear_share))
    findings += noticed
    solution = Solution(matrix)
    if settings.deformable is not None:
        task = DenseTask(*studies, matrix, settings.deformable, guidance, _dense_start(initial))

        def report(flow: Flow, level: LevelReport) -> None:
            if on_level is not None:
                on_level(Solution(matrix, flow).transform, level)

        flow, noticed = register_dense(task, progress.part(LINEAR_SHARE, LEVELS_SHARE), report)
        findings += noticed
        solution = Solution(matrix, flow)

    progress.update(LEVELS_SHARE, "measuring the quality")
    quality = _final_quality(studies, settings, initial or Transform(), solution, guidance)
    sentence = describe_registration(fixed, moving, matrix, quality)
    progress.update(1.0, "done")
    return Registration(
        solution.transform, solution.inverse, quality, sentence, tuple(findings), settings, time.perf_counter() - began
    )


def _dense_start(initial: Transform | None) -> Transform | None:
    return initial if initial is not None and initial.matrix is None else None


def _align(
    studies: tuple[Study, Study],
    settings: RegistrationSettings,
    initial: Transform | None,
    start: np.ndarray | None,
    progress: Progress,
) -> tuple[np.ndarray, list[Finding]]:
    """The linear part: found from a start, or that of a dense initial transform as it is."""
    if initial is not None and _dense_start(initial) is not None:
        return initial.linear_part, [Finding.info("The linear part of the initial transform was kept as it is")]
    matrix, findings = register_linear(studies, settings, start, progress)
    pair = Pair.at(*studies, spacing_for(studies[0], settings.linear_voxels))
    return matrix, findings + _check_alike(pair, settings, matrix)


def check_inputs(
    fixed: Image,
    moving: Image,
    fixed_mask: Labels | None,
    moving_mask: Labels | None,
    settings: RegistrationSettings,
    guidance: Guidance,
) -> list[Finding]:
    """Refuse what cannot be registered, before any work; see :func:`register`."""
    findings: list[Finding] = []
    slices = all(min(image.geometry.size_ijk) == 1 for image in (fixed, moving))
    need = Need("register", channels=None, minimum_size=4, allow_single_slice=slices)
    for image, mask in ((fixed, fixed_mask), (moving, moving_mask)):
        _, noticed = check_image(image, need)
        findings += noticed
        if mask is not None:
            check_mask(mask, image)
    if len(fixed.tensor) != len(moving.tensor):
        raise InputError(
            f"The fixed image has {len(fixed.tensor)} channels, the moving image {len(moving.tensor)}",
            "as many in both, in the same order",
            "choose the same channels of both",
        )
    guidance.check(fixed)
    if guidance.rigid is not None and settings.linear in ("similarity", "affine"):
        findings.append(
            Finding.warn(
                f"Rigid regions are rigid in the deformation only; the {settings.linear} part stretches them too",
                "Choose settings with the linear model 'rigid' to keep their size and shape.",
            )
        )
    if guidance.rigid is not None and (settings.deformable is None or settings.deformable.model != "composition"):
        raise InputError(
            "Rigid regions were given to a registration that cannot keep them",
            "a deformable registration with the model 'composition'",
            "choose a deformable preset other than 'followup', or leave the rigid regions out",
        )
    return findings


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


def _final_quality(
    studies: tuple[Study, Study],
    settings: RegistrationSettings,
    initial: Transform,
    solution: Solution,
    guidance: Guidance,
) -> Quality:
    pair = Pair.at(*studies, spacing_for(studies[0], settings.linear_voxels))
    quality = measure_quality(pair, settings.linear_similarity, initial, solution, guidance)
    dense = settings.deformable
    if dense and quality.folding and quality.folding.percent_any_corner > dense.folding_limit_percent:
        raise FoldingError(
            f"{quality.folding.percent_any_corner:.3f} % of the voxels fold",
            f"at most {dense.folding_limit_percent:g} %",
            "raise stiffness, field_sigma_voxels or update_sigma_voxels",
        )
    return quality
