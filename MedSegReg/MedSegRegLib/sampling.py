"""Reading voxels between voxels, on any device: the only place that calls ``grid_sample``."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.nn import functional

from .geometry import ALIGN_CORNERS, ROUNDING_VOXELS, voxels_to_grid

POINTS_AT_ONCE = 1 << 18
POINTS_AT_ONCE_ON_A_GPU = 1 << 20  # an inverse holds about 110 bytes a point


def sample_linear(volume: torch.Tensor, ijk: torch.Tensor, fill: float | None = None) -> torch.Tensor:
    """Trilinear interpolation.

    Args:
        volume: [C, K, J, I], floating point.
        ijk: voxel coordinates [..., 3] in ``volume``.
        fill: value outside (:func:`is_outside`); None repeats the border voxel.

    Returns:
        [C, ...], with the dtype of ``volume``.
    """
    size_ijk = (volume.shape[3], volume.shape[2], volume.shape[1])
    # Planes as a batch: torch's CPU kernel runs only batches in parallel. Each would hold a gradient of the volume.
    batch = ijk.shape[0] if ijk.ndim > 2 and not volume.requires_grad else 1
    grid = voxels_to_grid(ijk.to(volume.dtype), size_ijk).reshape(batch, 1, 1, -1, 3)
    volumes = volume.expand(batch, -1, -1, -1, -1)
    values = functional.grid_sample(volumes, grid, padding_mode="border", align_corners=ALIGN_CORNERS)
    values = values.movedim(1, 0).reshape(volume.shape[0], *ijk.shape[:-1])
    return values if fill is None else values.masked_fill(is_outside(ijk, size_ijk), fill)


def sample_nearest(volume: torch.Tensor, ijk: torch.Tensor, fill: int = 0) -> torch.Tensor:
    """Nearest voxel, halves rounded up as in ITK; ``fill`` outside. Any dtype; [K, J, I] and [..., 3] -> [...]."""
    k, j, i = volume.shape
    nearest = torch.floor(ijk + (0.5 + ROUNDING_VOXELS)).long()
    index_i, index_j, index_k = (nearest[..., axis].clamp(0, n - 1) for axis, n in enumerate((i, j, k)))
    index = (index_k * j + index_j) * i + index_i
    return volume.reshape(-1)[index].masked_fill(is_outside(ijk, (i, j, k)), fill)


def is_outside(ijk: torch.Tensor, size_ijk: tuple[int, int, int]) -> torch.Tensor:
    """[..., 3] -> [...]: not in [-0.5, n - 0.5) on each axis, the edges of the outermost voxels, as in ITK."""
    beyond_i, beyond_j, beyond_k = (
        (index - ((n - 1) / 2 - ROUNDING_VOXELS)).abs() > n / 2
        for index, n in zip(ijk.unbind(-1), size_ijk, strict=True)
    )
    return beyond_i | beyond_j | beyond_k


def plane_slabs(size_ijk: tuple[int, int, int], device: torch.device | None = None) -> Iterator[tuple[int, int]]:
    """First and last + 1 of successive k planes that together hold as many voxels as the device's memory allows."""
    on_gpu = device is not None and device.type == "cuda"
    points = POINTS_AT_ONCE_ON_A_GPU if on_gpu else POINTS_AT_ONCE
    planes = max(1, points // (size_ijk[0] * size_ijk[1]))
    for start in range(0, size_ijk[2], planes):
        yield start, min(start + planes, size_ijk[2])


def voxel_coordinates(size_ijk: tuple[int, int, int], start_k: int, stop_k: int, like: torch.Tensor) -> torch.Tensor:
    """Coordinates (i, j, k) of the voxels of planes start_k..stop_k-1, [stop_k - start_k, J, I, 3]."""
    return map_voxel_planes(torch.eye(4, dtype=like.dtype, device=like.device), size_ijk, start_k, stop_k)


def map_voxel_planes(matrix: torch.Tensor, size_ijk: tuple[int, int, int], start_k: int, stop_k: int) -> torch.Tensor:
    """The 4x4 matrix applied to the voxel coordinates of planes start_k..stop_k-1, [stop_k - start_k, J, I, 3]."""
    i, j, k = (
        torch.arange(*ends, dtype=matrix.dtype, device=matrix.device)
        for ends in ((size_ijk[0],), (size_ijk[1],), (start_k, stop_k))
    )
    return _apply(matrix, i, j[:, None], k[:, None, None])


def map_affine(matrix: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Apply a 4x4 matrix to points [..., 3]."""
    return _apply(matrix, *points.unbind(-1))


def _apply(matrix: torch.Tensor, x: torch.Tensor, y: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    # Not a matrix product: that is ten times slower for 3 columns, and autocast or TF32 would round the coordinates.
    return torch.stack([row[0] * x + (row[1] * y + (row[2] * z + row[3])) for row in matrix[:3]]).movedim(0, -1)
