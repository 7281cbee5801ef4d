"""How well behaved a deformation is: local volume change, folding, and whether the inverse leads back."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import torch

from ..geometry import Geometry
from ..image import Labels
from ..transform import Displacement, Transform

SMALLEST_JACOBIAN = 1e-3


@dataclass(frozen=True)
class Folding:
    """Voxels whose neighbourhood the map ``x + u`` turns inside out (determinant <= 0).

    Attributes:
        voxels, percent: by central differences, the figure most papers print.
        voxels_any_corner, percent_any_corner: by the smallest of the 8 one-sided determinants, which central
            differences can hide (digital diffeomorphism; Liu 2022). Never below the former by much.
    """

    voxels: int
    percent: float
    voxels_any_corner: int
    percent_any_corner: float


@dataclass(frozen=True)
class InverseConsistency:
    """Distance in mm between a point and where transform and inverse lead it."""

    mean_mm: float
    p99_mm: float
    max_mm: float


def jacobian_determinant(displacement: Displacement) -> torch.Tensor:
    """Local volume change of ``x + u(x)``: 1 keeps the volume, <= 0 folds.

    Central differences (one-sided on the border, 0 along an axis of one voxel) in voxels, turned into derivatives by
    RAS mm with the whole grid matrix: right on oblique, anisotropic, left-handed and sheared grids.

    Returns:
        [K, J, I], dtype of the field.

    >>> grow = Displacement(torch.zeros(3, 4, 4, 4), Geometry.from_spacing((4, 4, 4)))
    >>> float(jacobian_determinant(grow).mean())
    1.0
    """
    vectors = displacement.vectors_ras_mm
    slopes = [
        torch.gradient(vectors, dim=axis)[0] if vectors.shape[axis] > 1 else torch.zeros_like(vectors)
        for axis in (3, 2, 1)
    ]
    return _determinant(slopes, displacement.geometry)


def folding(displacement: Displacement) -> Folding:
    """Count folded voxels both ways. An axis of one voxel cannot fold."""
    central = int((jacobian_determinant(displacement) <= 0).sum())
    smallest = smallest_corner_determinant(displacement)
    anywhere, total = int((smallest <= 0).sum()), smallest.numel()
    return Folding(central, 100 * central / total, anywhere, 100 * anywhere / total)


def sdlogj(displacement: Displacement, mask: Labels | None = None) -> float:
    """Standard deviation of log |J| (Learn2Reg's smoothness score), determinants clipped below at 0.001.

    Args:
        mask: on the displacement's grid; only voxels above 0 count.
    """
    log_jacobian = jacobian_determinant(displacement).clamp_min(SMALLEST_JACOBIAN).log()
    counted = log_jacobian if mask is None else log_jacobian[mask.tensor > 0]
    return float(counted.std(correction=0))


def inverse_consistency(
    transform: Transform, inverse: Transform, grid: Geometry, mask: Labels | None = None
) -> InverseConsistency:
    """How far ``inverse(transform(x))`` is from x, over the voxels of a grid (of the fixed image).

    Args:
        mask: on ``grid``; only voxels above 0 count.
    """
    both = transform.then(inverse)
    like = torch.empty((), dtype=torch.float32)
    errors = []
    for start, ras, back, _ in both.map_grid(grid, like):
        distance = (back - ras).norm(dim=-1)
        errors.append(distance.flatten() if mask is None else distance[mask.tensor[start : start + ras.shape[0]] > 0])
    all_errors = torch.cat(errors).numpy()
    if all_errors.size == 0:
        return InverseConsistency(0.0, 0.0, 0.0)
    return InverseConsistency(float(all_errors.mean()), float(np.percentile(all_errors, 99)), float(all_errors.max()))


def smallest_corner_determinant(displacement: Displacement) -> torch.Tensor:
    """Minimum over the 8 ways to take the differences of the axes forward or backward; the border has one way."""
    vectors = displacement.vectors_ras_mm
    sides: list[tuple[torch.Tensor, ...]] = []
    for axis in (3, 2, 1):
        if vectors.shape[axis] == 1:
            sides.append((torch.zeros_like(vectors),))
            continue
        step = vectors.diff(dim=axis)
        last, first = step.narrow(axis, step.shape[axis] - 1, 1), step.narrow(axis, 0, 1)
        sides.append((torch.cat((step, last), dim=axis), torch.cat((first, step), dim=axis)))
    smallest = torch.full_like(vectors[0], torch.inf)
    for slopes in itertools.product(*sides):
        torch.minimum(smallest, _determinant(list(slopes), displacement.geometry), out=smallest)
    return smallest


def _determinant(slopes: list[torch.Tensor], geometry: Geometry) -> torch.Tensor:
    """det(A + [du/di du/dj du/dk]) / det(A), where A is the grid's matrix: the Jacobian in world coordinates."""
    matrix = geometry.ijk_to_ras[:3, :3]
    a, b, c = (slope + slope.new_tensor(matrix[:, n]).reshape(3, 1, 1, 1) for n, slope in enumerate(slopes))
    return (torch.linalg.cross(a, b, dim=0) * c).sum(dim=0) / float(np.linalg.det(matrix))
