"""The two images at one scale: smoothed, on coarser grids over the same field of view, with their weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ..geometry import Geometry
from ..image import Image, Labels
from ..sampling import is_outside, map_affine, sample_linear
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
        intensity: [K, J, I] float32 in 0..1.
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
        size, own = np.asarray(self.geometry.size_ijk), np.asarray(self.geometry.spacing_mm)
        wanted = np.maximum(own, np.minimum(spacing_mm, own * size / FEWEST_VOXELS))
        target = self.geometry.with_spacing((float(wanted[0]), float(wanted[1]), float(wanted[2])))
        axes = resize_axes(self.geometry, target, self.intensity, smooth=True)
        volumes = torch.stack((self.intensity * self.weight, self.weight, self.intensity))
        weighted, weight, plain = filter_axes(volumes, axes)
        return Study(torch.where(weight > SMALLEST_WEIGHT, weighted / weight, plain), weight, target)


def prepare_study(image: Image, mask: Labels | None, device: torch.device) -> Study:
    """Intensities scaled to 0..1 between the 0.1 and 99.9 percentiles in the mask; its weight is 1, 0 elsewhere."""
    intensity = image.tensor[0].to(device)
    weight = torch.ones_like(intensity) if mask is None else (mask.tensor > 0).to(intensity)
    counted = intensity.flatten() if mask is None else intensity[weight > 0]
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
        return cls(coarse, moving.coarsen(spacing_mm), grid_coordinates(coarse.intensity))

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
        """Moving intensities at these places, [K, J, I]; the border is repeated outside."""
        return sample_linear(self.moving.intensity[None], moving_voxels)[0]

    def is_matched(self, moved: torch.Tensor, weight: torch.Tensor) -> bool:
        """True when the moved image is the fixed one, voxel by voxel: nothing is left to do."""
        return bool(((moved - self.fixed.intensity) * weight).abs().max() < EQUAL_INTENSITY)

    def weight(self, moving_voxels: torch.Tensor) -> torch.Tensor:
        """What counts on both sides, [K, J, I]: fixed weight times moving weight, 0 outside the moving image."""
        size_ijk = self.moving.geometry.size_ijk
        theirs = sample_linear(self.moving.weight[None], moving_voxels)[0]
        return (self.fixed.weight * theirs).masked_fill_(is_outside(moving_voxels, size_ijk), 0)
