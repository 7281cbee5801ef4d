"""Dense fields in voxels: composing, exponentiating, inverting, and the one place where voxels become millimetres.

Inside the optimiser a field is ``[3, K, J, I]``: a vector (i, j, k) in voxels at every voxel of a
:class:`~MedSegRegLib.geometry.Geometry`, for the map ``x -> x + u(x)``.
"""

from __future__ import annotations

import math

import torch

from ..geometry import Geometry
from ..sampling import sample_linear, voxel_coordinates
from ..transform import Displacement

EXACT_STEP_VOXELS = 0.25


def compose(outer: torch.Tensor, inner: torch.Tensor, identity: torch.Tensor) -> torch.Tensor:
    """The field of ``x -> outer(inner(x))``: ``inner(x) + outer(x + inner(x))``.

    Args:
        outer, inner: [3, K, J, I] in voxels of one grid; beyond it, ``outer`` continues with its border value.
        identity: [K, J, I, 3], the grid's own coordinates.
    """
    return inner + sample_linear(outer, identity + inner.movedim(0, -1))


def exponentiate(
    velocity: torch.Tensor, identity: torch.Tensor, longest_step_voxels: float = EXACT_STEP_VOXELS
) -> torch.Tensor:
    """The displacement at time 1 of the flow of a stationary velocity, by scaling and squaring (Arsigny 2006).

    Diffeomorphic as long as the velocity is smooth on the scale of a voxel. ``exponentiate(-v)`` is the inverse.

    Args:
        velocity: [3, K, J, I] in voxels.
        identity: [K, J, I, 3], the grid's own coordinates.
        longest_step_voxels: of the first, straight piece of the path; four times longer is a third faster.
    """
    longest = float(velocity.square().sum(dim=0).max().sqrt())
    squarings = math.ceil(math.log2(longest / longest_step_voxels)) if longest > longest_step_voxels else 0
    field = velocity / 2**squarings
    for _ in range(squarings):
        field = compose(field, field, identity)
    return field


def invert(field: torch.Tensor, iterations: int = 30) -> torch.Tensor:
    """The inverse displacement by fixed point, ``w <- -u(x + w)`` (Chen 2008).

    Converges where neighbouring vectors of ``field`` differ by less than one voxel a voxel.
    """
    identity = grid_coordinates(field)
    inverse = -field
    for _ in range(iterations):
        inverse = -sample_linear(field, identity + inverse.movedim(0, -1))
    return inverse


def grid_coordinates(field: torch.Tensor) -> torch.Tensor:
    """[K, J, I, 3]: the coordinates (i, j, k) of the voxels of a field or volume [..., K, J, I]."""
    k, j, i = field.shape[-3:]
    return voxel_coordinates((i, j, k), 0, k, field)


def to_displacement(field: torch.Tensor, geometry: Geometry) -> Displacement:
    """Voxels to RAS millimetres."""
    matrix = torch.tensor(geometry.ijk_to_ras[:3, :3]).to(field)
    return Displacement(torch.einsum("rc,ckji->rkji", matrix, field), geometry)


def from_displacement(displacement: Displacement) -> torch.Tensor:
    """RAS millimetres to voxels of the displacement's own grid."""
    vectors = displacement.vectors_ras_mm
    matrix = torch.as_tensor(displacement.geometry.ras_to_ijk[:3, :3]).to(vectors)
    return torch.einsum("cr,rkji->ckji", matrix, vectors)
