"""Dense fields in voxels: composing, exponentiating, inverting, and the one place where voxels become millimetres.

Inside the optimiser a field is ``[3, K, J, I]``: a vector (i, j, k) in voxels at every voxel of a
:class:`~MedSegRegLib.geometry.Geometry`, for the map ``x -> x + u(x)``.
"""

from __future__ import annotations

import math

import torch

from ..geometry import Geometry
from ..sampling import map_voxel_planes, plane_slabs, sample_linear, voxel_coordinates
from ..transform import Displacement
from .dispatch import use_kernels
from .filters import filter_axes, resize_axes

EXACT_STEP_VOXELS = 0.25
INVERSE_TOLERANCE_VOXELS = 1e-3
INVERSE_CHECKED_EVERY = 3
FINER = 2.0


def compose(outer: torch.Tensor, inner: torch.Tensor, identity: torch.Tensor) -> torch.Tensor:
    """The field of ``x -> outer(inner(x))``: ``inner(x) + outer(x + inner(x))``.

    Args:
        outer, inner: [3, K, J, I] in voxels of one grid; beyond it, ``outer`` continues with its border value.
        identity: [K, J, I, 3], the grid's own coordinates.
    """
    if use_kernels(outer):
        from . import triton_kernels  # noqa: PLC0415 - triton is there only beside a GPU

        return triton_kernels.compose(outer, inner)
    return inner + sample_linear(outer, identity + inner.movedim(0, -1))


def exponentiate(
    velocity: torch.Tensor,
    identity: torch.Tensor,
    longest_step_voxels: float = EXACT_STEP_VOXELS,
    squarings: int | None = None,
) -> torch.Tensor:
    """The displacement at time 1 of the flow of a stationary velocity, by scaling and squaring (Arsigny 2006).

    Diffeomorphic as long as the velocity is smooth on the scale of a voxel. ``exponentiate(-v)`` is the inverse.

    Args:
        velocity: [3, K, J, I] in voxels.
        identity: [K, J, I, 3], the grid's own coordinates.
        longest_step_voxels: of the first, straight piece of the path; four times longer is a third faster.
        squarings: so many instead of what the longest step asks for; nothing then waits for the device.
    """
    if squarings is None:
        squarings = count_squarings(velocity, longest_step_voxels)
    field = velocity / 2**squarings
    for _ in range(squarings):
        field = compose(field, field, identity)
    return field


def count_squarings(velocity: torch.Tensor, longest_step_voxels: float = EXACT_STEP_VOXELS) -> int:
    """How often :func:`exponentiate` doubles a first step of at most this length; 0 for a velocity below it."""
    return squarings_for(float(velocity.square().sum(dim=0).max().sqrt()), longest_step_voxels)


def squarings_for(longest_voxels: float, longest_step_voxels: float) -> int:
    """:func:`count_squarings` of a velocity whose longest vector is known."""
    return math.ceil(math.log2(longest_voxels / longest_step_voxels)) if longest_voxels > longest_step_voxels else 0


def invert(field: torch.Tensor, iterations: int = 60) -> torch.Tensor:
    """The inverse displacement at the voxels of the field's own grid.

    Args:
        field: [3, K, J, I] in voxels.
        iterations: see :func:`solve_inverse`.
    """
    places = grid_coordinates(field)
    return solve_inverse(field, places, -field.movedim(0, -1), iterations).movedim(-1, 0)


def solve_inverse(field: torch.Tensor, places: torch.Tensor, start: torch.Tensor, iterations: int) -> torch.Tensor:
    """Where ``x -> x + u(x)`` comes from, by fixed point, ``w <- w - step (w + u(x + w))`` (Chen 2008).

    The plain fixed point needs neighbouring vectors that differ by less than one voxel a voxel; a step of its own for
    every point, halved where the residue grows, serves wherever the field does not fold. Where it folds there is no
    inverse, and the nearest found is kept. Points that are done drop out every few rounds.

    Args:
        field: [3, K, J, I], u in voxels.
        places: points x [..., 3] in voxels.
        start: a guess of w at each, [..., 3].
        iterations: at most so many; a point is done at a residue below 0.001 voxel.

    Returns:
        w, [..., 3]: ``x + w`` is taken to x.
    """
    if use_kernels(field):
        from . import triton_kernels  # noqa: PLC0415 - triton is there only beside a GPU

        return triton_kernels.solve_inverse(field, places, start, iterations, INVERSE_TOLERANCE_VOXELS)
    found, places = start.reshape(-1, 3).clone(), places.reshape(-1, 3)
    active = torch.arange(len(places), device=places.device)
    trial, here = found, places
    best, residue = trial, torch.zeros_like(trial)
    least, step = torch.full_like(trial[:, 0], torch.inf), torch.ones_like(trial[:, 0])
    for iteration in range(iterations):
        trial_residue = trial + sample_linear(field, here + trial).T
        length = trial_residue.square().sum(dim=1)
        better = length < least
        best, residue = (torch.where(better[:, None], *both) for both in ((trial, best), (trial_residue, residue)))
        least, step = torch.where(better, length, least), torch.where(better, step, step / 2)
        if iteration % INVERSE_CHECKED_EVERY == 0:
            found[active] = best
            left = least > INVERSE_TOLERANCE_VOXELS**2
            if not bool(left.any()):
                break
            active, here = active[left], here[left]
            best, residue, least, step = best[left], residue[left], least[left], step[left]
        trial = best - step[:, None] * residue
    found[active] = best
    return found.view_as(start)


def inverse_displacement(
    field: torch.Tensor, guess: torch.Tensor, grid: Geometry, target: Geometry, iterations: int
) -> Displacement:
    """The inverse of a field, taken as linear between its voxels, at the voxels of another grid; on the CPU.

    Args:
        field: [3, K, J, I] in voxels of ``grid``.
        guess: of the inverse, in the same form.
        iterations: see :func:`solve_inverse`.
    """
    to_grid = torch.as_tensor(grid.ras_to_ijk @ target.ijk_to_ras).to(field)
    to_mm = torch.tensor(grid.ijk_to_ras[:3, :3]).to(field)
    vectors = field.new_empty((3, *target.shape_kji))
    for start, stop in plane_slabs(target.size_ijk, field.device):
        places = map_voxel_planes(to_grid, target.size_ijk, start, stop)
        near = sample_linear(guess, places).movedim(0, -1)
        vectors[:, start:stop] = (solve_inverse(field, places, near, iterations) @ to_mm.T).movedim(-1, 0)
    return Displacement(vectors.cpu(), target)


def finer(grid: Geometry) -> Geometry:
    """The grid of half the spacing; a single slice stays as thick as it is.

    Where a field compresses, its inverse varies within a voxel: on the field's own grid it would be wrong by tenths of
    a voxel between voxels.
    """
    i, j, k = (mm / FINER if n > 1 else mm for mm, n in zip(grid.spacing_mm, grid.size_ijk, strict=True))
    return grid.with_spacing((i, j, k))


def resize_field(field: torch.Tensor, source: Geometry, target: Geometry) -> torch.Tensor:
    """The same motion, displacement or velocity, in voxels of another grid with the same directions and centre."""
    ratio = [own / wanted for own, wanted in zip(source.spacing_mm, target.spacing_mm, strict=True)]
    return filter_axes(field, resize_axes(source, target, field)).mul_(field.new_tensor(ratio).reshape(3, 1, 1, 1))


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
