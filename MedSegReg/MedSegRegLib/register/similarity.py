"""How alike two images are, and how each voxel of the moved image should change: closed forms, no autograd.

Every measure is prepared once for a fixed image and then asked about moved images. The answer holds, beside the
value (larger is better), its gradient with respect to the moved intensities and a positive curvature, so that one
Gauss-Newton step serves the linear stage and the dense stage alike, whatever the measure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from ..geometry import Geometry
from .filters import box_axes, filter_axes
from .settings import DenseSimilarityName

SMALLEST_VARIANCE = 1e-5
BINS = 32
PARZEN_SIGMA_BINS = 0.8


@dataclass(frozen=True)
class Match:
    """An answer.

    Attributes:
        value: scalar tensor, larger is better; the sum over all channels.
        gradient: [C, K, J, I], of ``value * total weight`` by each moved voxel.
        curvature: [C, K, J, I], about minus the second derivative, never negative.
    """

    value: torch.Tensor
    gradient: torch.Tensor
    curvature: torch.Tensor


class Similarity(Protocol):
    """A measure prepared for one fixed image."""

    def match(self, moved: torch.Tensor) -> Match:
        """Compare with a moved image [C, K, J, I] of intensities in 0..1 on the fixed grid."""
        ...


def prepare_similarity(
    name: DenseSimilarityName, fixed: torch.Tensor, weight: torch.Tensor, geometry: Geometry, window_radius: int
) -> Similarity:
    """The named measure for a fixed image [C, K, J, I] in 0..1, with a weight [K, J, I] >= 0.

    ``mind`` is squared differences too: of the descriptors that the images have become before.
    """
    if name == "lncc":
        return LocalCorrelation(fixed, weight, geometry, window_radius)
    return MutualInformation(fixed, weight) if name == "mi" else SquaredDifferences(fixed, weight)


class SquaredDifferences:
    """Minus the weighted mean of squared differences."""

    def __init__(self, fixed: torch.Tensor, weight: torch.Tensor) -> None:
        self._fixed, self._weight = fixed, weight
        self._total = weight.sum()

    def match(self, moved: torch.Tensor) -> Match:
        """See :class:`Similarity`."""
        difference = self._fixed - moved
        weighted = difference * self._weight
        value = -torch.dot(weighted.flatten(), difference.flatten()) / self._total
        return Match(value, weighted.mul_(2), (2 * self._weight).expand_as(moved))


class LocalCorrelation:
    """Weighted mean over all windows of the squared local correlation (LNCC; Avants 2008), 0..1.

    Moments are taken of centred data in float32 with window sums (no running differences, so nothing cancels);
    windows without contrast have a correlation of 0 because variances are floored at 1e-5 of the squared range.
    A window counts by the weight that lies in it, which makes the gradient three window sums:
    ``w (f sum(a) - m sum(b) - sum(a mean_f - b mean_m))``, ``a = 2 cov / (var_f var_m)``, ``b = a cov / var_m``.
    """

    def __init__(self, fixed: torch.Tensor, weight: torch.Tensor, geometry: Geometry, radius: int) -> None:
        self._axes = box_axes(geometry, radius, fixed)
        self._weight = weight
        self._fixed = fixed - 0.5
        inside = filter_axes(weight, self._axes)
        self._total = inside.sum()
        self._counts = inside > 1e-3 * inside.max()
        self._per_window = torch.where(self._counts, 1 / inside, 0)
        self._window = inside * self._counts
        mean, square = self._means(torch.stack((self._fixed, self._fixed**2)))
        self._mean = mean
        self._variance = (square - mean**2).clamp_min_(0).add_(SMALLEST_VARIANCE)

    def match(self, moved: torch.Tensor) -> Match:
        """See :class:`Similarity`."""
        moved = moved - 0.5
        mean, square, product = self._means(torch.stack((moved, moved**2, moved * self._fixed)))
        variance = square.addcmul_(mean, mean, value=-1).clamp_min_(0).add_(SMALLEST_VARIANCE)
        covariance = product.addcmul_(mean, self._mean, value=-1)
        a = covariance / (self._variance * variance)
        value = (a * covariance * self._window).sum() / self._total
        a.mul_(2 * self._counts)
        b = a * covariance / variance
        sums = filter_axes(torch.stack((a, b, a * self._mean - b * mean)), self._axes)
        gradient = self._weight * (self._fixed * sums[0] - moved * sums[1] - sums[2])
        return Match(value, gradient, self._weight * sums[1])

    def _means(self, volumes: torch.Tensor) -> torch.Tensor:
        return filter_axes(volumes * self._weight, self._axes) * self._per_window


class MutualInformation:
    """Global mutual information in nats (Viola 1997, Mattes 2003) of 32 x 32 bins.

    Voxels are shared linearly between neighbouring bins of both images, alike, so that an image has no better match
    than itself. The Parzen window is then a small Gaussian on the joint histogram: its cost does not depend on the
    image. The gradient is the difference of neighbouring entries of ``log p(f, m) / p(m)``; the curvature is its mean
    square (the Fisher information).
    """

    def __init__(self, fixed: torch.Tensor, weight: torch.Tensor) -> None:
        self._weight = weight
        self._total = weight.sum()
        lower, self._share = _bin(fixed)
        channel = torch.arange(len(fixed), device=fixed.device)
        self._rows = (lower + channel[:, None, None, None] * BINS) * BINS
        position = torch.arange(BINS, dtype=torch.float64, device=fixed.device)
        window = torch.exp(-0.5 * ((position[:, None] - position) / PARZEN_SIGMA_BINS) ** 2)
        self._parzen = window / window.sum(dim=0)

    def match(self, moved: torch.Tensor) -> Match:
        """See :class:`Similarity`."""
        lower, share = _bin(moved)
        cell = self._rows + lower
        joint = self._parzen @ (self._count(cell, share) / self._total) @ self._parzen.T
        of_fixed, of_moved = joint.sum(dim=2, keepdim=True), joint.sum(dim=1, keepdim=True)
        tiny = 1e-12
        value = (joint * torch.log((joint + tiny) / (of_fixed * of_moved + tiny))).sum()
        table = self._parzen.T @ torch.log((joint + tiny) / (of_moved + tiny)) @ self._parzen
        slope = (table.roll(-1, dims=2) - table).flatten().to(moved.dtype) * (BINS - 1)
        gradient = self._weight * torch.lerp(slope[cell], slope[cell + BINS], self._share)
        information = (gradient * gradient).sum(dim=(1, 2, 3), keepdim=True) / self._total.clamp_min(tiny)
        return Match(value.to(moved.dtype), gradient, self._weight * information)

    def _count(self, cell: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
        size = len(cell) * BINS * BINS
        counts = torch.zeros(size, dtype=torch.float64, device=cell.device)
        for step, of_fixed in ((0, 1 - self._share), (BINS, self._share)):
            for more, of_moved in ((0, 1 - share), (1, share)):
                parts = (self._weight * of_fixed * of_moved).flatten().double()
                counts += torch.bincount((cell + step + more).flatten(), parts, minlength=size)
        return counts.reshape(-1, BINS, BINS)


def _bin(intensity: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The lower of the two bins of an intensity in 0..1, and the share of the upper one."""
    position = intensity.clamp(0, 1) * (BINS - 1)
    lower = position.floor().clamp_max(BINS - 2)
    return lower.long(), position - lower


def image_gradient(volume: torch.Tensor) -> torch.Tensor:
    """[K, J, I] -> [3, K, J, I]: central differences along i, j, k in intensity a voxel, one-sided at the border."""
    out = volume.new_empty((3, *volume.shape))
    for n, axis in enumerate((2, 1, 0)):
        length = volume.shape[axis]
        torch.sub(
            volume.narrow(axis, 2, length - 2),
            volume.narrow(axis, 0, length - 2),
            out=out[n].narrow(axis, 1, length - 2),
        )
        out[n].narrow(axis, 1, length - 2).mul_(0.5)
        for edge, inner in ((0, 1), (length - 1, length - 2)):
            sign = 1 if inner > edge else -1
            out[n].select(axis, edge).copy_(sign * (volume.select(axis, inner) - volume.select(axis, edge)))
    return out
