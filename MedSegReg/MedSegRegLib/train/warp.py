"""Random changes of place. Training walk: chance -> [warp] -> voxel coordinates at which an example is read."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch.nn import functional

from ..sampling import map_affine, sample_linear, voxel_coordinates
from .chance import Chance

SQUARINGS = 5
COARSE = 4  # a velocity is integrated on a grid of a quarter of the patch's voxels along each axis
Size = tuple[int, int, int]


def random_matrix(
    chance: Chance,
    rotation_degrees: float,
    scale: float,
    shear: float = 0.0,
    mirror_axes: Sequence[int] = (),
    axes: Sequence[int] = (0, 1, 2),
) -> torch.Tensor:
    """[3, 3] on the CPU: a turn about each axis, a scaling of each, a shear, and mirrored axes (each with 1/2).

    ``axes`` are those that move: with (0, 1) all stays within the slice, and the only turn is about the third.
    """
    matrix = torch.eye(3)
    for axis in range(3) if len(axes) == 3 else (2,):
        angle = math.radians(chance.uniform(-rotation_degrees, rotation_degrees))
        first, second = (axis + 1) % 3, (axis + 2) % 3
        turn = torch.eye(3)
        turn[first, first] = turn[second, second] = math.cos(angle)
        turn[first, second], turn[second, first] = -math.sin(angle), math.sin(angle)
        matrix = matrix @ turn
    stretch = torch.eye(3)
    for axis in axes:
        stretch[axis, axis] = chance.uniform(1 - scale, 1 + scale)
    if shear:
        stretch = stretch + torch.tensor(
            [[0.0 if row == column else chance.uniform(-shear, shear) for column in range(3)] for row in range(3)]
        )
    matrix = matrix @ stretch
    for axis in mirror_axes:
        if chance.happens(0.5):
            matrix[axis] *= -1
    return matrix


def patch_coordinates(
    matrix: torch.Tensor,
    centre_ijk: Sequence[float],
    patch_kji: Size,
    displacement: torch.Tensor | None,
    like: torch.Tensor,
) -> torch.Tensor:
    """Where the voxels of a patch are read in its example.

    Args:
        matrix: [3, 3] on the CPU, from voxels of the patch, counted from its centre, to voxels of the example.
        centre_ijk: where in the example the patch's centre is read.
        patch_kji: size of the patch.
        displacement: [3, K, J, I] in voxels of the patch, order (i, j, k), applied before the matrix.
        like: gives dtype and device.

    Returns:
        [K, J, I, 3], voxel coordinates (i, j, k).
    """
    middle = torch.tensor([(n - 1) / 2 for n in patch_kji[::-1]])
    affine = torch.eye(4)
    affine[:3, :3] = matrix
    affine[:3, 3] = torch.as_tensor(centre_ijk, dtype=torch.float32) - matrix @ middle
    ijk = voxel_coordinates(patch_kji[::-1], 0, patch_kji[0], like)
    if displacement is not None:
        ijk = ijk + displacement.movedim(0, -1)
    return map_affine(affine.to(like, non_blocking=True), ijk)


def random_velocity(chance: Chance, patch_kji: Size, control: Size, std_voxels: float) -> torch.Tensor:
    """A smooth stationary velocity on a coarse grid over the patch, [3, k, j, i], in voxels of the patch."""
    coarse = tuple(max(2, n // COARSE) for n in patch_kji)
    return upsample(chance.normal_noise((3, *control)) * std_voxels, coarse)


def diffeomorphic_displacement(velocity: torch.Tensor, patch_kji: Size) -> torch.Tensor:
    """The flow of a stationary velocity after time 1, by scaling and squaring (Arsigny et al., MICCAI 2006).

    Args:
        velocity: [3, k, j, i] on a coarse grid over the patch, in voxels of the patch, order (i, j, k).
        patch_kji: size of the patch.

    Returns:
        [3, K, J, I] displacement in voxels of the patch.
    """
    k, j, i = velocity.shape[1:]
    ijk = voxel_coordinates((i, j, k), 0, k, velocity)
    step = torch.tensor([coarse / fine for coarse, fine in zip((i, j, k), patch_kji[::-1], strict=True)])
    step = step.to(velocity, non_blocking=True)
    displacement = velocity / 2**SQUARINGS
    for _ in range(SQUARINGS):
        displacement = displacement + sample_linear(displacement, ijk + displacement.movedim(0, -1) * step)
    return upsample(displacement, patch_kji)


def upsample(coarse: torch.Tensor, size_kji: Sequence[int]) -> torch.Tensor:
    """[C, k, j, i] -> [C, K, J, I], trilinear over the same field of view."""
    return functional.interpolate(coarse[None], tuple(size_kji), mode="trilinear", align_corners=False)[0]
