"""How alike two images are, and how each voxel of the moved image should change: closed forms, no autograd.

Every measure is prepared once for a fixed image and then asked about moved images. The answer holds, beside the
value (larger is better), its gradient with respect to the moved intensities and a positive curvature, so that one
Gauss-Newton step serves the linear stage and the dense stage alike, whatever the measure.
"""

from __future__ import annotations

from typing import Literal

import torch

from ..geometry import Geometry
from .correlation import LocalCorrelation
from .dispatch import use_kernels
from .information import MutualInformation, region_blocks
from .match import Match, Similarity

__all__ = [
    "LocalCorrelation",
    "Match",
    "MeasureName",
    "MutualInformation",
    "Similarity",
    "SquaredDifferences",
    "image_gradient",
    "prepare_similarity",
]

MeasureName = Literal["lncc", "mind", "mi", "nmi", "lmi", "ssd"]


def prepare_similarity(
    name: MeasureName,
    fixed: torch.Tensor,
    weight: torch.Tensor,
    geometry: Geometry,
    window_radius: int,
) -> Similarity:
    """The named measure for a fixed image [C, K, J, I] in 0..1.

    Args:
        name: ``lncc`` local correlation, ``mi``, ``nmi`` and ``lmi`` global, normalised and local mutual information,
            ``ssd`` squared differences, and ``mind`` too: of the descriptors that the images have become before.
        weight: [K, J, I] >= 0. One expanded number (all strides 0) must be 1: everything counts.
        geometry: of both.
        window_radius: of ``lncc``, in voxels.
    """
    if name == "lncc" and use_kernels(fixed):
        from .triton_correlation import FusedCorrelation  # noqa: PLC0415 - triton is there only beside a GPU

        return FusedCorrelation(fixed, weight, window_radius)
    if name == "lncc":
        return LocalCorrelation(fixed, weight, window_radius)
    if name == "lmi":
        return MutualInformation(fixed, weight, block_kji=region_blocks(geometry))
    if name in ("mi", "nmi"):
        return MutualInformation(fixed, weight, normalised=name == "nmi")
    return SquaredDifferences(fixed, weight)


class SquaredDifferences:
    """Minus the weighted mean of squared differences."""

    def __init__(self, fixed: torch.Tensor, weight: torch.Tensor) -> None:
        self._fixed, self._weight = fixed, weight
        self._total = weight.sum().clamp_min(1e-20)

    def match(self, moved: torch.Tensor) -> Match:
        """See :class:`Similarity`."""
        difference = self._fixed - moved
        weighted = difference * self._weight
        value = -torch.dot(weighted.flatten(), difference.flatten()) / self._total
        return Match(value, weighted.mul_(2), (2 * self._weight).expand_as(moved))


def image_gradient(volume: torch.Tensor) -> torch.Tensor:
    """[K, J, I] -> [3, K, J, I]: central differences along i, j, k in intensity a voxel.

    One-sided at the border, and 0 along an axis of one voxel.
    """
    out = volume.new_empty((3, *volume.shape))
    for slope, axis in zip(out, (2, 1, 0), strict=True):
        length = volume.shape[axis]
        if length == 1:
            slope.zero_()
            continue
        inner = slope.narrow(axis, 1, length - 2)
        torch.sub(volume.narrow(axis, 2, length - 2), volume.narrow(axis, 0, length - 2), out=inner).mul_(0.5)
        for edge in (0, length - 1):
            after = max(edge, 1)
            torch.sub(volume.select(axis, after), volume.select(axis, after - 1), out=slope.select(axis, edge))
    return out
