"""Mutual information of two images, for different modalities: of all voxels, or of overlapping regions."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ..geometry import Geometry
from .filters import AxisMatrices, filter_axes
from .match import Match
from .window_sums import slab_voxels

BINS, REGION_BINS = 32, 16
LEVELS_A_BIN, REGION_LEVELS_A_BIN = 4, 2
PARZEN_SIGMA_BINS = 0.8
BLOCK_MM, BLOCK_VOXELS = 20.0, 6
UNITS = 1 << 20  # of a voxel: counts are whole numbers, so that their sums do not depend on the order
TINY = 1e-12


def region_blocks(geometry: Geometry) -> tuple[int, int, int]:
    """Voxels (k, j, i) of a block of about 20 mm, at least 6 voxels, for local mutual information."""
    k, j, i = (max(BLOCK_VOXELS, round(BLOCK_MM / spacing)) for spacing in reversed(geometry.spacing_mm))
    return k, j, i


class MutualInformation:
    """Mutual information in nats (Viola 1997, Mattes 2003), global or local, or normalised (Studholme 1999).

    Intensities are counted on more levels than there are bins: the moved one shared linearly between two levels, the
    fixed one on the nearest. A matrix makes bins of levels, linear shares and a small Gaussian Parzen window in one, so
    its width costs nothing. The gradient by a moved voxel is the difference of neighbouring levels of
    ``log p(f, m) / p(m)``, brought back to levels by the same matrix; the curvature is its mean square (the Fisher
    information). The normalised one is ``(H(f) + H(m)) / H(f, m)``, 1..2.

    Local (Studholme 2006, Klein 2008): the mean of the mutual information of overlapping regions by their weight,
    indifferent to slow changes of intensity. Voxels are counted once, in the block where they are; a region is the
    (1, 2, 1) mean of blocks along each axis.

    Args:
        fixed: [C, K, J, I], intensities in 0..1.
        weight: [K, J, I] >= 0; see :class:`~.correlation.LocalCorrelation`.
        block_kji: size of a block in voxels; None counts all voxels as one region.
    """

    def __init__(
        self,
        fixed: torch.Tensor,
        weight: torch.Tensor,
        *,
        normalised: bool = False,
        block_kji: tuple[int, int, int] | None = None,
    ) -> None:
        self._weight, self._normalised = weight if any(weight.stride()) else None, normalised
        bins, finer = (BINS, LEVELS_A_BIN) if block_kji is None else (REGION_BINS, REGION_LEVELS_A_BIN)
        self._levels = bins * finer
        self._to_bins = _parzen(bins, self._levels, fixed.device)
        self._fixed = fixed.clamp(0, 1).mul_(self._levels - 1).round_().to(torch.uint8)
        shape = fixed.shape[1:]
        sizes = block_kji or shape
        self._blocks = [torch.arange(n, device=fixed.device) // size for n, size in zip(shape, sizes, strict=True)]
        self._grid = [-(-n // size) for n, size in zip(shape, sizes, strict=True)]
        k, j, i = (_overlapping(n, fixed.device) for n in self._grid)
        self._to_regions, self._to_blocks = (k, j, i), (k.T, j.T, i.T)

    def match(self, moved: torch.Tensor) -> Match:
        """See :class:`~.match.Similarity`."""
        gradient, curvature, values = torch.empty(moved.shape, dtype=moved.dtype, device=moved.device), [], []
        for channel, volume in enumerate(moved):
            value, slopes, bend = self._inform(self._count(channel, volume))
            table = slopes.to(moved.dtype).flatten()
            for planes, cell, _ in self._cells(channel, volume):
                torch.index_select(table, 0, cell, out=gradient[channel, planes].view(-1))
            values.append(value.to(moved.dtype))
            curvature.append(self._at_voxels(bend.to(moved.dtype)))
        if self._weight is not None:
            gradient.mul_(self._weight)
        return Match(torch.stack(values).sum(), gradient, torch.stack(curvature))

    def _inform(self, counts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Of the joint histograms of blocks [k, j, i, levels, levels].

        Returns:
            The value; its slope by the moved intensity times the total weight, shaped as the histograms; and the mean
            square of that around each block [k, j, i].
        """
        joint = _filter_blocks(self._to_bins @ counts @ self._to_bins.T, self._to_regions)
        total = joint.sum(dim=(-2, -1), keepdim=True)
        joint = joint / total.clamp_min(TINY)
        of_fixed, of_moved = joint.sum(dim=-1, keepdim=True), joint.sum(dim=-2, keepdim=True)
        log_joint, log_moved = torch.log(joint + TINY), torch.log(of_moved + TINY)
        entropy = -(joint * log_joint).sum(dim=(-2, -1), keepdim=True)
        separate = -((of_fixed * torch.log(of_fixed + TINY)).sum(dim=-2, keepdim=True))
        separate -= (of_moved * log_moved).sum(dim=-1, keepdim=True)
        if self._normalised:
            scale = entropy.clamp_min(TINY)
            value = separate / scale
            gain = (value * log_joint - log_moved) / scale
        else:
            scale, value, gain = torch.ones_like(entropy), separate - entropy, log_joint - log_moved
        levels = self._to_bins.T @ _filter_blocks(gain, self._to_blocks) @ self._to_bins
        slopes = torch.nn.functional.pad(levels.diff(dim=-1), (0, 1)) * (self._levels - 1)
        around = _filter_blocks((slopes.square() * counts).sum(dim=(-2, -1), keepdim=True), self._to_regions)
        bend = _filter_blocks(scale * around / total.clamp_min(TINY), self._to_blocks)[..., 0, 0]
        return (value * total).sum() / total.sum().clamp_min(TINY), slopes, bend

    def _count(self, channel: int, moved: torch.Tensor) -> torch.Tensor:
        """Joint histograms of blocks, [k, j, i, levels, levels] in float64."""
        size = (*self._grid, self._levels, self._levels)
        counts = torch.zeros(size, dtype=torch.int64, device=moved.device).flatten()
        for planes, cell, share in self._cells(channel, moved):
            if self._weight is None:
                upper = share.mul_(UNITS).round_().long()
                lower = UNITS - upper
            else:
                units = (self._weight[planes] * UNITS).flatten()
                upper = share.mul_(units).round_().long()
                lower = units.round_().long() - upper
            counts.scatter_add_(0, cell, lower)
            counts.scatter_add_(0, cell.add_(1), upper)
        return counts.reshape(size).double() / UNITS

    def _cells(self, channel: int, moved: torch.Tensor) -> Iterator[tuple[slice, torch.Tensor, torch.Tensor]]:
        """Slabs of planes: where their voxels are counted in the histograms, and the share of the next level."""
        levels = self._levels
        along_k, along_j, along_i = self._blocks
        in_plane = ((along_j[:, None] * self._grid[2] + along_i) * levels**2).int()
        step = max(1, slab_voxels(moved.device) // in_plane.numel())
        for start in range(0, len(moved), step):
            planes = slice(start, start + step)
            position = moved[planes].clamp(0, 1).mul_(levels - 1)
            lower = position.int().clamp_(0, levels - 2)
            position -= lower
            cell = lower.add_(self._fixed[channel, planes], alpha=levels).add_(in_plane)
            cell = cell + (along_k[planes] * (self._grid[1] * self._grid[2] * levels**2))[:, None, None]
            yield planes, cell.flatten(), position.flatten()

    def _at_voxels(self, of_blocks: torch.Tensor) -> torch.Tensor:
        """[k, j, i] -> [K, J, I], times the weight."""
        if of_blocks.numel() == 1:
            everywhere = of_blocks.expand(self._fixed.shape[1:])
        else:
            k, j, i = self._blocks
            everywhere = of_blocks[k[:, None, None], j[:, None], i]
        return everywhere if self._weight is None else everywhere * self._weight


def _parzen(bins: int, levels: int, device: torch.device) -> torch.Tensor:
    """[bins, levels]: levels shared linearly between bins, then a Gaussian; columns sum to one."""
    bin_of_level = torch.linspace(0, bins - 1, levels, dtype=torch.float64, device=device)
    position = torch.arange(bins, dtype=torch.float64, device=device)
    shares = (1 - (position[:, None] - bin_of_level).abs()).clamp_min(0)
    window = torch.exp(-0.5 * ((position[:, None] - position) / PARZEN_SIGMA_BINS) ** 2)
    return window / window.sum(dim=0) @ shares


def _overlapping(blocks: int, device: torch.device) -> torch.Tensor:
    """[regions, blocks]: a region is a block and half of each neighbour; columns sum to one."""
    position = torch.arange(blocks, dtype=torch.float64, device=device)
    shares = (1 - (position[:, None] - position).abs() / 2).clamp_min(0)
    return shares / shares.sum(dim=0)


def _filter_blocks(tables: torch.Tensor, matrices: AxisMatrices) -> torch.Tensor:
    """Apply one matrix along each of the first three axes of [k, j, i, f, m]."""
    return filter_axes(tables.permute(3, 4, 0, 1, 2), matrices).permute(2, 3, 4, 0, 1)
