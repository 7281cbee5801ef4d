"""From a displacement back to a stationary velocity: how a start that is known as a field enters the dense stage."""

from __future__ import annotations

import torch

from ..evaluate.deformation import folding
from ..geometry import Geometry
from ..sampling import sample_linear
from .displacement import count_squarings, exponentiate, grid_coordinates, to_displacement
from .filters import filter_axes, gaussian_axes

ITERATIONS = 8
UPDATE_SIGMA_VOXELS = 0.7
UNFOLDING_SIGMAS_VOXELS = (1.0, 2.0, 4.0, 8.0)


def logarithm(field: torch.Tensor, iterations: int = ITERATIONS) -> tuple[torch.Tensor, torch.Tensor]:
    """The stationary velocity whose flow comes nearest to a displacement.

    What the flow still lacks, ``field - exp(v)``, is carried to the middle of the paths by ``exp(-v / 2)`` and added to
    the velocity. With the middle as the place the second-order terms of the Baker-Campbell-Hausdorff formula cancel
    (Bossa 2008 has it without), so that 8 rounds reach a few thousandths of a voxel where the field is itself a
    smooth flow. A field that folds, or is noisy on the scale of a voxel, is no flow: each round is smoothed, and the
    velocity is smoothed further, by up to 8 voxels, until its flow has no fold.

    Args:
        field: [3, K, J, I] in voxels of a grid, for the map ``x -> x + u(x)``.
        iterations: more follow finer detail.

    Returns:
        The velocity [3, K, J, I] in voxels, and what is left, ``field - exp(velocity)``, [3, K, J, I].
    """
    identity = grid_coordinates(field)
    grid = Geometry.from_spacing((field.shape[3], field.shape[2], field.shape[1]))
    axes = gaussian_axes(grid, UPDATE_SIGMA_VOXELS, field)
    squarings = count_squarings(field)
    velocity = filter_axes(field, axes)
    for _ in range(iterations):
        lacking = field - exponentiate(velocity, identity, squarings=squarings)
        to_middle = exponentiate(velocity / -2, identity, squarings=squarings)
        velocity = velocity + filter_axes(sample_linear(lacking, identity + to_middle.movedim(0, -1)), axes)
    for sigma in UNFOLDING_SIGMAS_VOXELS:
        reached = exponentiate(velocity, identity)
        if not folding(to_displacement(reached, grid)).voxels_any_corner:
            break
        velocity = filter_axes(velocity, gaussian_axes(grid, sigma, field))
    return velocity, field - exponentiate(velocity, identity)
