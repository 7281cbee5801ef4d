"""What a finished registration says about itself: numbers to trust it by, and one plain sentence."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.linalg import polar

from ..evaluate.deformation import Folding, InverseConsistency, folding, inverse_consistency, sdlogj
from ..image import Image
from ..resample import resample_labels
from ..transform import Displacement, Transform
from .affine import PairMatch, evaluate_pair
from .displacement import from_displacement
from .guidance import Guidance
from .pyramid import Pair
from .settings import SimilarityName
from .solution import Solution


@dataclass(frozen=True)
class BeforeAfter:
    """A number at the initial transform, and at the result."""

    before: float
    after: float


@dataclass(frozen=True)
class Quality:
    """Attributes:
    similarity: name of the measure of ``before`` and ``after`` (larger is better), at the linear stage's scale.
    before: at the initial transform; None where nothing overlaps.
    after: at the result.
    overlap: fraction of the fixed image (inside its mask) that lies inside the moving one.
    folding: of the deformation; None for a linear result.
    sdlogj: standard deviation of the log Jacobian; 0 for a linear result.
    inverse_consistency: from the fixed field of view to the moving image and back.
    inverse_consistency_of_moving: from the moving field of view to the fixed image and back.
    mean_motion_mm, largest_motion_mm: of the deformation alone; 0 for a linear result.
    landmarks_mm: mean distance of the points given as guidance; None without.
    dice: of each structure given as guidance, by label value.
    """

    similarity: SimilarityName
    before: float | None
    after: float
    overlap: float
    folding: Folding | None
    sdlogj: float
    inverse_consistency: InverseConsistency
    inverse_consistency_of_moving: InverseConsistency
    mean_motion_mm: float
    largest_motion_mm: float
    landmarks_mm: BeforeAfter | None = None
    dice: dict[int, BeforeAfter] = field(default_factory=dict)


def measure_quality(
    pair: Pair, similarity: SimilarityName, initial: Transform, solution: Solution, guidance: Guidance
) -> Quality:
    """All numbers of a result.

    Args:
        pair: at a coarse scale, for the similarity.
        initial: where the registration began.
    """
    transform, grid = solution.transform, pair.fixed.geometry
    first, after = (_compare(pair, candidate, similarity) for candidate in (initial, transform))
    before = first.value if np.isfinite(first.value) else None
    dense = transform.stages[0]
    motion = dense.vectors_ras_mm.norm(dim=0) if isinstance(dense, Displacement) else torch.zeros(1)
    return Quality(
        similarity,
        before,
        after.value,
        after.overlap,
        folding(dense) if isinstance(dense, Displacement) else None,
        sdlogj(dense) if isinstance(dense, Displacement) else 0.0,
        inverse_consistency(transform, solution.inverse, grid),
        inverse_consistency(solution.inverse, transform, pair.moving.geometry),
        float(motion.mean()),
        float(motion.max()),
        _landmark_error(guidance, initial, transform),
        _overlaps(guidance, initial, transform),
    )


def _compare(pair: Pair, transform: Transform, similarity: SimilarityName) -> PairMatch:
    matrix = transform.matrix
    if matrix is not None:
        return evaluate_pair(pair, matrix, similarity)
    like = pair.fixed.intensity
    field = from_displacement(transform.to_displacement(pair.fixed.geometry, like.device))
    return evaluate_pair(pair, np.eye(4), similarity, field)


def _landmark_error(guidance: Guidance, initial: Transform, transform: Transform) -> BeforeAfter | None:
    if guidance.points is None:
        return None
    fixed, moving = guidance.points
    return BeforeAfter(
        *(
            float(np.linalg.norm(candidate.map_points(fixed) - moving, axis=1).mean())
            for candidate in (initial, transform)
        )
    )


def _overlaps(guidance: Guidance, initial: Transform, transform: Transform) -> dict[int, BeforeAfter]:
    fixed, moving = guidance.fixed_labels, guidance.moving_labels
    if fixed is None or moving is None:
        return {}
    carried = [resample_labels(moving, fixed.geometry, candidate).tensor for candidate in (initial, transform)]
    return {
        value: BeforeAfter(*(_dice(fixed.tensor == value, labels == value) for labels in carried))
        for value in guidance.shared_values
    }


def _dice(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


def describe_registration(fixed: Image, moving: Image, matrix: np.ndarray, quality: Quality) -> str:
    """One sentence: which study moves onto which, and by how much.

    Args:
        matrix: 4x4, fixed RAS to moving RAS; the sentence tells the way of the moving study, which is its inverse.
    """
    parts = describe_linear(matrix, fixed.geometry.centre_ras)
    if quality.folding is not None:
        folded = quality.folding.voxels_any_corner
        parts.append(
            f"a deformation of {quality.mean_motion_mm:.1f} mm on average and "
            f"{quality.largest_motion_mm:.1f} mm at most "
            f"({'no folding' if folded == 0 else f'{folded} folded voxels'})"
        )
    return (
        f"Moves {moving.name or 'the moving image'} onto {fixed.name or 'the fixed image'}: {', '.join(parts)}. "
        f"The inverse leads back within {quality.inverse_consistency.mean_mm:.3f} mm on average."
    )


def describe_linear(matrix: np.ndarray, centre_ras: np.ndarray) -> list[str]:
    """What a matrix, fixed RAS to moving RAS, does to the moving study: shift, rotation, and growth if there is any."""
    inverse = np.linalg.inv(matrix)
    shift = np.linalg.norm(matrix[:3, :3] @ centre_ras + matrix[:3, 3] - centre_ras)
    rotation, _ = polar(inverse[:3, :3])
    degrees = np.degrees(np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1, 1)))
    volume = 100 * (np.linalg.det(inverse[:3, :3]) - 1)
    parts = [f"a shift of {shift:.1f} mm at the centre, a rotation of {degrees:.1f} degrees"]
    if abs(volume) >= 0.05:
        parts.append(f"{'growth' if volume > 0 else 'shrinkage'} by {abs(volume):.1f} % in volume")
    return parts
