"""The linear stage of a registration: from two studies to one matrix, coarse to fine. Called by ``run``."""

from __future__ import annotations

import numpy as np

from ..errors import NoOverlap
from ..progress import Progress
from ..report import Finding
from .affine import LEAST_OVERLAP, evaluate_pair, optimise_linear
from .plausibility import check_plausibility
from .pyramid import Pair, Study
from .settings import LinearModel, RegistrationSettings, SimilarityName
from .starts import find_start

COARSENING = (4.0, 2.0, 1.0)
ITERATIONS = 30
STEPS: dict[LinearModel, tuple[LinearModel, ...]] = {
    "none": (),
    "rigid": ("rigid",),
    "similarity": ("rigid", "similarity"),
    "affine": ("rigid", "affine"),
}


def register_linear(
    studies: tuple[Study, Study], settings: RegistrationSettings, start: np.ndarray | None, progress: Progress
) -> tuple[np.ndarray, list[Finding]]:
    """The 4x4 matrix, fixed RAS to moving RAS, of the model that the settings ask for.

    Args:
        start: where to begin; None searches.
        progress: filled from 0 to 1.

    Returns:
        The matrix, and what was noticed on the way.

    Raises:
        NoOverlap: the images cannot be brought together, or are apart under a given start.
        Diverged: a similarity is not a number.
        Cancelled: asked for through ``progress``.
    """
    if start is None and not settings.linear_search:
        start = np.eye(4)
    pairs = _pairs(studies, settings.linear_voxels)
    findings = _check_overlap(pairs[0], settings, start)
    steps, similarity = STEPS[settings.linear], settings.linear_similarity
    if not steps:
        return np.eye(4) if start is None else start, findings
    if start is None:
        progress.update(0.0, "looking for a start")
        start = find_start(pairs[0], similarity, progress, model=settings.linear, judge=pairs[1]).matrix
    known, matrix = [start], start
    for number, pair in enumerate(pairs):
        for model in steps if number == 0 else steps[-1:]:
            progress.update(
                (number + 1) / (len(pairs) + 1), f"{model} at {pair.fixed.geometry.finest_spacing_mm:.1f} mm"
            )
            begin = _best(pair, known, similarity)
            matrix, _ = optimise_linear(pair, begin, model, similarity, iterations=ITERATIONS, progress=progress)
            known.append(matrix)
    return matrix, findings + check_plausibility(pairs[1], matrix)


def _best(pair: Pair, matrices: list[np.ndarray], similarity: SimilarityName) -> np.ndarray:
    """By the similarity at this scale: what looked better at a coarser one may have gone astray there."""
    values = [evaluate_pair(pair, matrix, similarity).value for matrix in matrices]
    return matrices[int(np.argmax(values))]


def spacing_for(study: Study, voxels: int) -> float:
    """The spacing in mm, of equal sides, at which a study has at most so many voxels; at least its own finest."""
    size, spacing = np.asarray(study.geometry.size_ijk), np.asarray(study.geometry.spacing_mm)
    extent = (size * spacing)[size > 1]
    return max(study.geometry.finest_spacing_mm, float((np.prod(extent) / voxels) ** (1 / len(extent))))


def _pairs(studies: tuple[Study, Study], voxels: int) -> list[Pair]:
    """Coarsest first, each made from the next finer one."""
    spacing = spacing_for(studies[0], voxels)
    pairs: list[Pair] = []
    for coarsening in sorted(COARSENING):
        pairs.insert(0, Pair.at(*studies, spacing * coarsening))
        studies = pairs[0].fixed, pairs[0].moving
    return pairs


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
