"""Smoothing and resizing as small matrices, one a voxel axis: what every step of a registration is made of.

A separable linear filter of a volume is three matrix products. That is several times faster than a convolution on
a CPU, has no limit on the width of the kernel, treats the border by rows that sum to one, and its adjoint is the
transposed matrices.
"""

from __future__ import annotations

import torch

from ..geometry import Geometry

AxisMatrices = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def filter_axes(volume: torch.Tensor, matrices: AxisMatrices) -> torch.Tensor:
    """Apply one matrix along each voxel axis.

    Args:
        volume: [..., K, J, I].
        matrices: for axes k, j, i; each [outputs, inputs].

    Returns:
        [..., K', J', I'].
    """
    along_k, along_j, along_i = matrices
    out = torch.matmul(along_j, torch.matmul(volume, along_i.T))
    return torch.matmul(along_k, out.flatten(-2)).unflatten(-1, out.shape[-2:])


def gaussian_axes(geometry: Geometry, sigma_mm: float, like: torch.Tensor) -> AxisMatrices:
    """Gaussian smoothing of a standard deviation in mm; the weights inside the grid sum to one."""
    k, j, i = (_gaussian(n, sigma_mm / spacing, like) for n, spacing in _axes(geometry))
    return k, j, i


def resize_axes(source: Geometry, target: Geometry, like: torch.Tensor, smooth: bool = False) -> AxisMatrices:
    """Linear interpolation from one grid to another with the same directions and centre.

    Args:
        smooth: before going to a coarser grid, remove with a Gaussian what that grid cannot hold.
    """
    matrices = []
    for (n, spacing), (m, wanted) in zip(_axes(source), _axes(target), strict=True):
        ratio = wanted / spacing
        position = (torch.arange(m, dtype=torch.float64) - (m - 1) / 2) * ratio + (n - 1) / 2
        distance = position.clamp(0, n - 1)[:, None] - torch.arange(n, dtype=torch.float64)
        matrix = (1 - distance.abs()).clamp_min(0).to(like)
        if smooth and ratio > 1:
            matrix = matrix @ _gaussian(n, 0.5 * (ratio**2 - 1) ** 0.5, like)
        matrices.append(matrix)
    return matrices[0], matrices[1], matrices[2]


def gathering_axes(source: Geometry, target: Geometry, sigma_mm: float, like: torch.Tensor) -> AxisMatrices:
    """Sums over Gaussian neighbourhoods (weight 1 in the middle) of one grid's voxels about each voxel of another.

    Args:
        target: same directions and centre as ``source``.
    """
    matrices = []
    for (n, spacing), (m, apart) in zip(_axes(source), _axes(target), strict=True):
        voxels = (torch.arange(n, dtype=torch.float64) - (n - 1) / 2) * spacing
        centres = (torch.arange(m, dtype=torch.float64) - (m - 1) / 2) * apart
        matrices.append(torch.exp(-0.5 * ((centres[:, None] - voxels) / sigma_mm) ** 2).to(like))
    return matrices[0], matrices[1], matrices[2]


def _gaussian(n: int, sigma_voxels: float, like: torch.Tensor) -> torch.Tensor:
    position = torch.arange(n, dtype=torch.float64)
    weights = torch.exp(-0.5 * ((position[:, None] - position) / max(sigma_voxels, 1e-3)) ** 2)
    return (weights / weights.sum(dim=1, keepdim=True)).to(like)


def _axes(geometry: Geometry) -> list[tuple[int, float]]:
    return list(zip(geometry.size_ijk, geometry.spacing_mm, strict=True))[::-1]
