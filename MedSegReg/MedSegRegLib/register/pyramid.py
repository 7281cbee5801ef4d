"""The two images at one scale: smoothed, on coarser grids over the same field of view, with their weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch

from ..errors import EmptyVolume
from ..geometry import Geometry
from ..image import Image, Labels
from ..sampling import is_outside, map_affine, map_voxel_planes, plane_slabs, sample_linear
from .displacement import grid_coordinates
from .filters import filter_axes, resize_axes

FEWEST_VOXELS = 6
SMALLEST_WEIGHT = 1e-3
EQUAL_INTENSITY = 1e-5
FAINT_INTENSITY = 0.02
RANGE_PERCENTILES = (0.001, 0.999)
VOXELS_FOR_PERCENTILES = 1_000_000


@dataclass(frozen=True, eq=False)
class Study:
    """One image and the weight of its voxels.

    Attributes:
        intensity: [C, K, J, I] float32 in 0..1.
        weight: [K, J, I] float32; 0 where the image is to be ignored. A single expanded 1 means that all counts.
        geometry: the grid of both.
    """

    intensity: torch.Tensor
    weight: torch.Tensor
    geometry: Geometry

    @property
    def counts_everywhere(self) -> bool:
        """True when the weight is one expanded number."""
        return not any(self.weight.stride())

    def channel(self, number: int) -> Study:
        """With one of its channels only."""
        return replace(self, intensity=self.intensity[number : number + 1])

    def coarsen(self, spacing_mm: float) -> Study:
        """At about this spacing on every axis that is finer, never fewer than 6 voxels.

        Voxels are averaged by their weight, so what is ignored does not leak into its neighbours.
        """
        target = self.coarse_grid(spacing_mm)
        if target.size_ijk == self.geometry.size_ijk:
            return self
        axes = resize_axes(self.geometry, target, self.intensity, smooth=True)
        plain = filter_axes(self.intensity, axes)
        if self.counts_everywhere:
            return Study(plain, everywhere(plain), target)
        weighted, weight = (filter_axes(volume, axes) for volume in (self.intensity * self.weight, self.weight))
        return Study(torch.where(weight > SMALLEST_WEIGHT, weighted / weight, plain), weight, target)

    def coarse_grid(self, spacing_mm: float) -> Geometry:
        """The grid of :meth:`coarsen`."""
        size, own = np.asarray(self.geometry.size_ijk), np.asarray(self.geometry.spacing_mm)
        wanted = np.maximum(own, np.minimum(spacing_mm, own * size / FEWEST_VOXELS))
        return self.geometry.with_spacing((float(wanted[0]), float(wanted[1]), float(wanted[2])))

    def cropped(self, margin_mm: float) -> Study:
        """Without the planes on each side that show nothing: where the weight is 0 or the intensity is the lowest."""
        content = (self.intensity > FAINT_INTENSITY).any(dim=0).logical_and_(self.weight > 0)
        slices: list[slice] = []
        first_ijk: list[int] = []
        for axis, spacing in zip((2, 1, 0), self.geometry.spacing_mm, strict=True):
            filled = content.any(dim=[other for other in range(3) if other != axis]).nonzero()
            if not len(filled):
                return self
            margin = round(margin_mm / spacing)
            first = max(0, int(filled[0]) - margin)
            slices.insert(0, slice(first, min(content.shape[axis], int(filled[-1]) + 1 + margin)))
            first_ijk.append(first)
        along_k, along_j, along_i = slices
        weight = self.weight[along_k, along_j, along_i]
        k, j, i = weight.shape
        window = self.geometry.window((first_ijk[0], first_ijk[1], first_ijk[2]), (i, j, k))
        return Study(self.intensity[:, along_k, along_j, along_i], weight, window)

    def resampled(self, matrix: np.ndarray, grid: Geometry) -> Study:
        """On another grid, whose points a 4x4 matrix takes to this study's; its weight is 0 outside."""
        voxels = torch.as_tensor(self.geometry.ras_to_ijk @ matrix @ grid.ijk_to_ras).to(self.intensity)
        intensity, weight = [], []
        for start, stop in plane_slabs(grid.size_ijk):
            points = map_voxel_planes(voxels, grid.size_ijk, start, stop)
            intensity.append(sample_linear(self.intensity, points))
            weight.append(self.weight_at(points))
        return Study(torch.cat(intensity, dim=1), torch.cat(weight), grid)

    def at(self, voxels: torch.Tensor) -> torch.Tensor:
        """Intensities [C, ...] at voxel coordinates [..., 3]; the border is repeated outside."""
        return sample_linear(self.intensity, voxels)

    def weight_at(self, voxels: torch.Tensor) -> torch.Tensor:
        """The weight at voxel coordinates [..., 3], 0 outside."""
        outside = is_outside(voxels, self.geometry.size_ijk)
        if self.counts_everywhere:
            return (~outside).to(voxels)
        return sample_linear(self.weight[None], voxels)[0].masked_fill_(outside, 0)


def everywhere(intensity: torch.Tensor) -> torch.Tensor:
    """The weight of a study [C, K, J, I] all of which counts: [K, J, I], at the memory of one number."""
    return intensity.new_ones(()).expand(intensity.shape[1:])


def prepare_study(image: Image, mask: Labels | None, device: torch.device, ignore: Labels | None = None) -> Study:
    """Each channel scaled to 0..1 between its 0.1 and 99.9 percentiles where it counts.

    Args:
        mask: only voxels above 0 have a weight of 1; all have without.
        ignore: voxels above 0 have a weight of 0.

    Raises:
        EmptyVolume: nothing has a weight.
    """
    intensity = image.tensor.to(device, torch.float32)
    weight = everywhere(intensity)
    if mask is not None:
        weight = (mask.tensor.to(device) > 0).to(intensity)
    if ignore is not None:
        weight = weight * (ignore.tensor.to(device) == 0)
    if not bool(weight.any()):
        raise EmptyVolume(
            f"Nothing of {image.name or 'the image'} is left to look at",
            "at least one voxel inside the mask that is not ignored",
            "make the ignored region smaller, or the mask larger",
        )
    return Study(torch.stack([_scaled(channel, weight) for channel in intensity]), weight, image.geometry)


def _scaled(channel: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    counted = channel[weight > 0] if any(weight.stride()) else channel.flatten()
    step = max(1, counted.numel() // VOXELS_FOR_PERCENTILES)
    low, high = np.quantile(counted[::step].cpu().numpy(), RANGE_PERCENTILES).tolist()  # torch sorts: four times slower
    if high <= low:
        low, high = float(channel.min()), float(channel.max())
    return (channel - low).div_(high - low).clamp_(0, 1)


@dataclass(frozen=True, eq=False)
class Pair:
    """Fixed and moving at one scale."""

    fixed: Study
    moving: Study

    @cached_property
    def coordinates(self) -> torch.Tensor:
        """[K, J, I, 3]: of the fixed voxels."""
        return grid_coordinates(self.fixed.weight)

    @classmethod
    def at(cls, fixed: Study, moving: Study, spacing_mm: float) -> Pair:
        """Both at about this spacing."""
        return cls(fixed.coarsen(spacing_mm), moving.coarsen(spacing_mm))

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
