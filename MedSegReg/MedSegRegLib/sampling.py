"""Reading voxels between voxels, on any device: the only place that calls ``grid_sample``."""

from __future__ import annotations

import torch
from torch.nn import functional

from .geometry import ALIGN_CORNERS, voxels_to_grid


def sample_linear(volume: torch.Tensor, ijk: torch.Tensor, fill: float | None = None) -> torch.Tensor:
    """Trilinear interpolation.

    Args:
        volume: [C, K, J, I], floating point.
        ijk: voxel coordinates [..., 3] in ``volume``.
        fill: value more than half a voxel outside, as in ITK; None repeats the border voxel.

    Returns:
        [C, ...], with the dtype of ``volume``.
    """
    size_ijk = (volume.shape[3], volume.shape[2], volume.shape[1])
    grid = voxels_to_grid(ijk.to(volume.dtype), size_ijk).reshape(1, -1, 1, 1, 3)
    values = functional.grid_sample(volume[None], grid, padding_mode="border", align_corners=ALIGN_CORNERS)
    values = values.reshape(volume.shape[0], *ijk.shape[:-1])
    return values if fill is None else values.masked_fill(is_outside(ijk, size_ijk), fill)


def sample_nearest(volume: torch.Tensor, ijk: torch.Tensor, fill: int = 0) -> torch.Tensor:
    """Nearest voxel, halves rounded up as in ITK; ``fill`` outside. Any dtype; [K, J, I] and [..., 3] -> [...]."""
    k, j, i = volume.shape
    nearest = torch.floor(ijk + 0.5).long()
    index = (nearest[..., 2].clamp(0, k - 1) * j + nearest[..., 1].clamp(0, j - 1)) * i + nearest[..., 0].clamp(0, i - 1)
    return volume.reshape(-1)[index].masked_fill(is_outside(ijk, (i, j, k)), fill)


def is_outside(ijk: torch.Tensor, size_ijk: tuple[int, int, int]) -> torch.Tensor:
    """[..., 3] -> [...]: more than half a voxel (and rounding noise) beyond the outermost voxel centres."""
    margin = 0.5 + 1e-4
    upper = ijk.new_tensor(size_ijk) - 1 + margin
    return ((ijk < -margin) | (ijk > upper)).any(dim=-1)


def voxel_coordinates(size_ijk: tuple[int, int, int], start_k: int, stop_k: int, like: torch.Tensor) -> torch.Tensor:
    """Coordinates (i, j, k) of the voxels of planes start_k..stop_k-1, [stop_k - start_k, J, I, 3]."""
    i, j, _ = size_ijk
    axes = [torch.arange(n, dtype=like.dtype, device=like.device) for n in (i, j)]
    planes = torch.arange(start_k, stop_k, dtype=like.dtype, device=like.device)
    kk, jj, ii = torch.meshgrid(planes, axes[1], axes[0], indexing="ij")
    return torch.stack((ii, jj, kk), dim=-1)


def map_affine(matrix: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Apply a 4x4 matrix to points [..., 3]."""
    return points @ matrix[:3, :3].T + matrix[:3, 3]
