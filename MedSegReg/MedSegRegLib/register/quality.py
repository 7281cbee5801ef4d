"""What a finished registration says about itself: numbers to trust it by, and one plain sentence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import polar

from ..evaluate.deformation import Folding, InverseConsistency, folding, inverse_consistency, sdlogj
from ..image import Image
from ..transform import Displacement
from .affine import evaluate_pair
from .pyramid import Pair
from .settings import SimilarityName
from .solution import Solution


@dataclass(frozen=True)
class Quality:
    """Attributes:
    similarity: name of the measure of ``before`` and ``after`` (larger is better).
    before: at the initial transform; None where nothing overlaps.
    after: at the result.
    overlap: fraction of the fixed image (inside its mask) that lies inside the moving one.
    folding: of the deformation; None for a linear result.
    sdlogj: standard deviation of the log Jacobian; 0 for a linear result.
    inverse_consistency: over the fixed field of view.
    mean_motion_mm, largest_motion_mm: of the deformation alone; 0 for a linear result.
    """

    similarity: SimilarityName
    before: float | None
    after: float
    overlap: float
    folding: Folding | None
    sdlogj: float
    inverse_consistency: InverseConsistency
    mean_motion_mm: float
    largest_motion_mm: float


def measure_quality(pair: Pair, similarity: SimilarityName, initial: np.ndarray, solution: Solution) -> Quality:
    """All numbers of a result.

    Args:
        pair: at the scale of the solution's flow, if it has one.
        initial: 4x4, where the registration began.
    """
    flow, transform = solution.flow, solution.transform
    first = evaluate_pair(pair, initial, similarity)
    after = evaluate_pair(pair, solution.matrix, similarity, None if flow is None else flow.displacement())
    before = first.value if np.isfinite(first.value) else None
    grid = pair.fixed.geometry
    consistency = inverse_consistency(transform, solution.inverse, grid)
    dense = transform.stages[0]
    if not isinstance(dense, Displacement):
        return Quality(similarity, before, after.value, after.overlap, None, 0.0, consistency, 0.0, 0.0)
    length = dense.vectors_ras_mm.norm(dim=0)
    return Quality(
        similarity,
        before,
        after.value,
        after.overlap,
        folding(dense),
        sdlogj(dense),
        consistency,
        float(length.mean()),
        float(length.max()),
    )


def describe_registration(fixed: Image, moving: Image, matrix: np.ndarray, quality: Quality) -> str:
    """One sentence: which study moves onto which, and by how much.

    Args:
        matrix: 4x4, fixed RAS to moving RAS; the sentence tells the way of the moving study, which is its inverse.
    """
    centre_ras = fixed.geometry.centre_ras
    inverse = np.linalg.inv(matrix)
    shift = np.linalg.norm(matrix[:3, :3] @ centre_ras + matrix[:3, 3] - centre_ras)
    rotation, _ = polar(inverse[:3, :3])
    degrees = np.degrees(np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1, 1)))
    volume = 100 * (np.linalg.det(inverse[:3, :3]) - 1)
    parts = [f"a shift of {shift:.1f} mm at the centre, a rotation of {degrees:.1f} degrees"]
    if abs(volume) >= 0.05:
        parts.append(f"{'growth' if volume > 0 else 'shrinkage'} by {abs(volume):.1f} % in volume")
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
