"""The two images at one scale: smoothed, on coarser grids over the same field of view, with their weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ..geometry import Geometry
from ..image import Image, Labels
from ..sampling import is_outside, map_affine, map_voxel_planes, plane_slabs, sample_linear
from .displacement import grid_coordinates
from .filters import filter_axes, resize_axes

FEWEST_VOXELS = 6
SMALLEST_WEIGHT = 1e-3
EQUAL_INTENSITY = 1e-5
RANGE_PERCENTILES = (0.001, 0.999)
VOXELS_FOR_PERCENTILES = 1_000_000


@dataclass(frozen=True, eq=False)
class Study:
    """One image and the weight of its voxels.

    Attributes:
        intensity: [C, K, J, I] float32 in 0..1.
        weight: [K, J, I] float32; 0 where the image is to be ignored.
        geometry: the grid of both.
    """

    intensity: torch.Tensor
    weight: torch.Tensor
    geometry: Geometry

    def coarsen(self, spacing_mm: float) -> Study:
        """At about this spacing on every axis that is finer, never fewer than 6 voxels.

        Voxels are averaged by their weight, so what is ignored does not leak into its neighbours.
        """
        target = self.coarse_grid(spacing_mm)
        if target.size_ijk == self.geometry.size_ijk:
            return self
        axes = resize_axes(self.geometry, target, self.intensity, smooth=True)
        weighted, weight, plain = (
            filter_axes(volume, axes) for volume in (self.intensity * self.weight, self.weight, self.intensity)
        )
        return Study(torch.where(weight > SMALLEST_WEIGHT, weighted / weight, plain), weight, target)

    def coarse_grid(self, spacing_mm: float) -> Geometry:
        """The grid of :meth:`coarsen`."""
        size, own = np.asarray(self.geometry.size_ijk), np.asarray(self.geometry.spacing_mm)
        wanted = np.maximum(own, np.minimum(spacing_mm, own * size / FEWEST_VOXELS))
        return self.geometry.with_spacing((float(wanted[0]), float(wanted[1]), float(wanted[2])))

    def resampled(self, matrix: np.ndarray, grid: Geometry) -> Study:
        """On another grid, whose points a 4x4 matrix takes to this study's; its weight is 0 outside."""
        voxels = torch.as_tensor(self.geometry.ras_to_ijk @ matrix @ grid.ijk_to_ras).to(self.intensity)
        intensity, weight = [], []
        for start, stop in plane_slabs(grid.size_ijk):
            points = map_voxel_planes(voxels, grid.size_ijk, start, stop)
            intensity.append(sample_linear(self.intensity, points))
            weight.append(self.weight_at(points))
        return Study(torch.cat(intensity, dim=1), torch.cat(weight), grid)

    def weight_at(self, voxels: torch.Tensor) -> torch.Tensor:
        """The weight at voxel coordinates [..., 3], 0 outside."""
        weight = sample_linear(self.weight[None], voxels)[0]
        return weight.masked_fill_(is_outside(voxels, self.geometry.size_ijk), 0)


def prepare_study(image: Image, mask: Labels | None, device: torch.device) -> Study:
    """Intensities scaled to 0..1 between the 0.1 and 99.9 percentiles in the mask; its weight is 1, 0 elsewhere."""
    intensity = image.tensor.to(device)
    weight = torch.ones_like(intensity[0]) if mask is None else (mask.tensor > 0).to(intensity)
    counted = intensity.flatten() if mask is None else intensity[0, weight > 0]
    step = max(1, counted.numel() // VOXELS_FOR_PERCENTILES)
    low, high = torch.quantile(counted[::step], intensity.new_tensor(RANGE_PERCENTILES))
    if high <= low:
        low, high = intensity.min(), intensity.max()
    return Study(((intensity - low) / (high - low)).clamp_(0, 1), weight, image.geometry)


@dataclass(frozen=True, eq=False)
class Pair:
    """Fixed and moving at one scale."""

    fixed: Study
    moving: Study
    coordinates: torch.Tensor

    @classmethod
    def at(cls, fixed: Study, moving: Study, spacing_mm: float) -> Pair:
        """Both at about this spacing."""
        coarse = fixed.coarsen(spacing_mm)
        return cls(coarse, moving.coarsen(spacing_mm), grid_coordinates(coarse.weight))

    def moving_voxels(self, matrix: np.ndarray, field: torch.Tensor | None = None) -> torch.Tensor:
        """Where the fixed voxels lie in the moving grid, [K, J, I, 3].

        Args:
            matrix: 4x4, fixed RAS to moving RAS.
            field: [3, K, J, I] displacement in fixed voxels that goes before it.
        """
        voxels = self.moving.geometry.ras_to_ijk @ matrix @ self.fixed.geometry.ijk_to_ras
        points = self.coordinates if field is None else self.coordinates + field.movedim(0, -1)
        return map_affine(torch.as_tensor(voxels, dtype=points.dtype, device=points.device), points)

    def moved(self, moving_voxels: torch.Tensor) -> torch.Tensor:
        """Moving intensities at these places, [C, K, J, I]; the border is repeated outside."""
        return sample_linear(self.moving.intensity, moving_voxels)

    def is_matched(self, moved: torch.Tensor, weight: torch.Tensor) -> bool:
        """True when the moved image is the fixed one, voxel by voxel: nothing is left to do."""
        return bool(((moved - self.fixed.intensity) * weight).abs().max() < EQUAL_INTENSITY)

    def weight(self, moving_voxels: torch.Tensor) -> torch.Tensor:
        """What counts on both sides, [K, J, I]: fixed weight times moving weight, 0 outside the moving image."""
        return self.fixed.weight * self.moving.weight_at(moving_voxels)
