"""Large motion, found by trying all displacements: where the dense stage begins when the linear part is far off.

Coupled-convex optimisation (Heinrich, WBIR 2014; ConvexAdam, Siebert, TMI 2024): the cost of every displacement of a
lattice is computed once for every control point. Then rounds alternate between choosing displacements that are cheap
and near a smooth field, and smoothing what was chosen, while the field pulls more and more. Here the choice is the mean
of the displacements by ``softmax(-cost)`` and its spread is what it is trusted by (normalised convolution, Knutsson
1993): sub-voxel, and where nothing is to be seen the neighbours decide.

Two scales: the whole reach on a grid of twice the spacing, then two voxels more on the grid itself. The costs are
matrix products of lines of voxels, written as float16 into one volume [points, displacements]: nothing is unfolded.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch

from ..geometry import Geometry
from ..sampling import map_affine, sample_linear
from .displacement import compose, grid_coordinates, resize_field
from .filters import filter_axes, gaussian_axes
from .pyramid import Study
from .self_similarity import describe_study

REACH_MM = 30.0
SPACING_MM = 4.0
MOST_POINTS = 150_000
FINE_REACH_VOXELS = 2
SHARPNESS = 40.0  # of the softmax, for costs whose mean between unrelated voxels is 1
LEAST_SPREAD = 0.1  # voxels^2
PULLS = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2)  # to the smooth field, by voxel^2
SIGMAS_VOXELS = (2.5, 2.5, 2.2, 2.0, 2.0, 1.7, 1.5, 1.5, 1.2, 1.0)
EXTENSION_VOXELS = 1.0
FAR = 1e-20
COSTS_AT_ONCE = 1 << 21


def search_motion(
    fixed: Study, moving: Study, matrix: np.ndarray, reach_mm: float = REACH_MM, spacing_mm: float = SPACING_MM
) -> tuple[torch.Tensor, Geometry]:
    """The displacement that brings two studies of any contrasts together, up to ``reach_mm`` along each voxel axis.

    Both are described by their self-similarity, each by its own weight: a mask says where to look, and masks that do
    not yet overlap are no harm. The moving study is described on a grid that is wider by the reach.

    Args:
        fixed, moving: of one channel.
        matrix: 4x4, fixed RAS to moving RAS; the displacement goes before it.
        spacing_mm: of the displacement; larger where it would have more than 150,000 voxels.

    Returns:
        The field [3, K, J, I] in voxels of the grid that is returned with it. It may drift by some voxels in empty
        corners, where no tissue is near. Smooth, but not free of folds: take its
        :func:`~MedSegRegLib.register.logarithm.logarithm`.
    """
    volume_mm3 = fixed.geometry.voxel_volume_mm3 * math.prod(fixed.geometry.size_ijk)
    spacing_mm = max(spacing_mm, (volume_mm3 / MOST_POINTS) ** (1 / 3))
    halved = fixed.coarsen(spacing_mm / 2)
    wider = _widened(halved.geometry, _steps(halved.geometry, reach_mm))
    features = describe_study(halved, spacing_mm)
    searched = describe_study(moving.coarsen(spacing_mm / 2).resampled(matrix, wider), spacing_mm)
    return search_displacement(features, searched, reach_mm), features.geometry


def search_displacement(fixed: Study, moving: Study, reach_mm: float) -> torch.Tensor:
    """The displacement between two studies with equal channels of any kind, compared by squared differences.

    Args:
        fixed: features on a coarse grid; up to some 150,000 voxels are searched in seconds.
        moving: features in the same space. Its grid may be another; where it ends or has no weight, nothing is known.
        reach_mm: the largest displacement along each axis of the grid.

    Returns:
        [3, K, J, I] in voxels of the fixed grid.
    """
    spacing = 2 * max(fixed.geometry.spacing_mm)
    coarse = fixed.coarsen(spacing)
    nothing = fixed.weight.new_zeros((3, *coarse.weight.shape))
    found = _search(coarse, moving.coarsen(spacing), nothing, _steps(coarse.geometry, reach_mm))
    start = resize_field(found, coarse.geometry, fixed.geometry)
    return _search(fixed, moving, start, _steps(fixed.geometry, FINE_REACH_VOXELS * min(fixed.geometry.spacing_mm)))


def _search(fixed: Study, moving: Study, start: torch.Tensor, steps: tuple[int, int, int]) -> torch.Tensor:
    """A field [3, K, J, I] improved by at most so many voxels along i, j, k."""
    moved = _moved_features(fixed.geometry, moving, start, steps)
    costs = _displacement_costs(fixed, moved, steps)
    return compose(start, _couple(costs, fixed, steps), grid_coordinates(start))


def _moved_features(grid: Geometry, moving: Study, start: torch.Tensor, steps: tuple[int, int, int]) -> Study:
    """The moving study under the start, on the fixed grid widened by the steps."""
    wider = _widened(grid, steps)
    voxels = grid_coordinates(start.new_empty(wider.shape_kji)) - start.new_tensor(steps)
    voxels = voxels + sample_linear(start, voxels).movedim(0, -1)
    voxels = map_affine(torch.as_tensor(moving.geometry.ras_to_ijk @ grid.ijk_to_ras).to(voxels), voxels)
    return Study(sample_linear(moving.intensity, voxels), moving.weight_at(voxels), wider)


def _displacement_costs(fixed: Study, moved: Study, steps: tuple[int, int, int]) -> torch.Tensor:
    """Squared differences [K J I, displacements] float16, in units of what unrelated voxels differ by.

    A weight makes its voxel count less.
    """
    (k, j, i), (di, dj, dk) = fixed.weight.shape, (2 * step + 1 for step in steps)
    # |f - m|^2 as a product of two vectors: (-2 f, 1, |f|^2) and (m, |m|^2, 1)
    ours = _stacked(fixed.intensity * -2, torch.ones_like(fixed.weight), fixed.intensity.square().sum(dim=0))
    theirs = _stacked(moved.intensity, moved.intensity.square().sum(dim=0), torch.ones_like(moved.weight))
    ours *= fixed.weight
    mean = (theirs * moved.weight).mean(dim=(1, 2, 3)) / moved.weight.mean().clamp_min(1e-6)
    unrelated = torch.einsum("ckji,c->", ours, mean) / fixed.weight.sum().clamp_min(1e-6)
    rounding = 1e-3 * (mean[-2] + 1e-6)
    lines = (ours / (unrelated + rounding)).permute(1, 2, 3, 0).reshape(k * j, i, -1)
    theirs = _extended(theirs, mean, moved)
    theirs = theirs.permute(1, 2, 0, 3).contiguous()
    width = theirs.shape[-1]
    costs = ours.new_empty((k * j, i, dk, dj, di), dtype=torch.float16)
    for at_k in range(dk):
        for at_j in range(dj):
            beside = theirs[at_k : at_k + k, at_j : at_j + j].flatten(0, 1)
            products = torch.bmm(lines, beside)  # every voxel of a line with every voxel of the other line
            costs[:, :, at_k, at_j] = products.as_strided((k * j, i, di), (i * width, width + 1, 1))
    return costs.flatten(2).flatten(0, 1)


def _extended(features: torch.Tensor, mean: torch.Tensor, study: Study) -> torch.Tensor:
    """Where the study has no weight, the mean of the features around, so that no direction is better for it."""
    axes = gaussian_axes(study.geometry, EXTENSION_VOXELS * max(study.geometry.spacing_mm), features)
    near = filter_axes(torch.cat((features * study.weight, study.weight[None])), axes)
    near = (near[:-1] + FAR * mean.reshape(-1, 1, 1, 1)) / (near[-1] + FAR)
    return torch.lerp(near, features, study.weight)


def _couple(costs: torch.Tensor, fixed: Study, steps: tuple[int, int, int]) -> torch.Tensor:
    """The smooth displacement [3, K, J, I] that is cheap."""
    grid = fixed.geometry
    displacements = _lattice(steps).to(fixed.weight)
    relative = displacements.new_tensor(grid.spacing_mm) / min(grid.spacing_mm)
    scaled = displacements * relative[:, None]
    lengths = scaled.square().sum(dim=0, keepdim=True)
    pulled = torch.cat((-2 * scaled * relative[:, None], lengths))  # |d - u|^2 less |u|^2, as a product with (u, 1)
    measured = torch.cat((displacements, lengths)).T
    field = fixed.weight.new_zeros((3, *fixed.weight.shape))
    for pull, sigma in zip(PULLS, SIGMAS_VOXELS, strict=True):
        target = pull * torch.cat((field, torch.ones_like(field[:1]))).flatten(1).T
        chosen = torch.cat(
            [
                torch.addmm(costs[points].to(target), target[points], pulled).mul_(-SHARPNESS).softmax(dim=1) @ measured
                for points in _blocks(costs)
            ]
        ).T
        mean, square = chosen[:3], chosen[3]
        spread = square - (mean * relative[:, None]).square().sum(dim=0)
        trust = 1 / (spread.clamp_min(0) + LEAST_SPREAD)
        weighted = (torch.cat((mean, torch.ones_like(mean[:1]))) * trust).view(4, *fixed.weight.shape)
        sums = filter_axes(weighted, gaussian_axes(grid, sigma * min(grid.spacing_mm), field))
        field = sums[:3] / sums[3]
    return field


def _blocks(costs: torch.Tensor) -> Iterator[slice]:
    points = max(1, COSTS_AT_ONCE // costs.shape[1])
    for start in range(0, costs.shape[0], points):
        yield slice(start, start + points)


def _lattice(steps: tuple[int, int, int]) -> torch.Tensor:
    """[3, displacements]: (i, j, k) from -steps to steps, i fastest."""
    k, j, i = torch.meshgrid(*(torch.arange(-step, step + 1) for step in reversed(steps)), indexing="ij")
    return torch.stack((i, j, k)).flatten(1)


def _steps(grid: Geometry, reach_mm: float) -> tuple[int, int, int]:
    """Voxels along i, j, k that reach so far; none along an axis of one voxel."""
    i, j, k = (
        min(math.ceil(reach_mm / spacing - 1e-6), n - 1)
        for n, spacing in zip(grid.size_ijk, grid.spacing_mm, strict=True)
    )
    return i, j, k


def _widened(grid: Geometry, steps: tuple[int, int, int]) -> Geometry:
    (i, j, k), (di, dj, dk) = grid.size_ijk, steps
    return grid.window((-di, -dj, -dk), (i + 2 * di, j + 2 * dj, k + 2 * dk))


def _stacked(*parts: torch.Tensor) -> torch.Tensor:
    return torch.cat([part if part.ndim == 4 else part[None] for part in parts])
