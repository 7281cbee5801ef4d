"""Local correlation of two images, for the same modality: values and forces as slabs of planes pass by."""

from __future__ import annotations

import torch

from .match import Match
from .window_sums import SlabLayout, WindowSums

SMALLEST_VARIANCE = 1e-5
LEAST_INSIDE = 1e-3
TINY = 1e-20
CENTRES_IN_ONE = 8  # a round centre makes sums of a constant background exact, so that it has no variance at all


class LocalCorrelation:
    """Weighted mean over all windows of the squared local correlation (LNCC; Avants 2008), 0..1.

    ``cov^2 / (var_f var_m)``, of windows of ``2 radius + 1`` voxels a side, clipped at the border. Moments are those
    of centred data. A window counts by the weight that lies in it, which makes the gradient three window sums:
    ``w (f sum(a) - m sum(b) - sum(a mean_f - b mean_m))``, ``a = 2 s cov / (var_f var_m)``, ``b = a cov / var_m``,
    with ``s`` = total weight / sum of the weights in all windows.

    Args:
        fixed: [C, K, J, I], intensities in 0..1.
        weight: [K, J, I] >= 0. One expanded number (all strides 0) must be 1: everything counts, at no memory.
        radius: in voxels, at least 1.
    """

    def __init__(self, fixed: torch.Tensor, weight: torch.Tensor, radius: int) -> None:
        self._fixed, self._weight = fixed, weight if any(weight.stride()) else None
        self._layout = SlabLayout((fixed.shape[1], fixed.shape[2], fixed.shape[3]), radius, fixed.device)
        self._moments, self._forces = (WindowSums(self._layout, 3, fixed) for _ in range(2))
        self._scratch = fixed.new_zeros((2, self._layout.length))
        self._windows: FullWindows | WeightedWindows
        if self._weight is None:
            self._windows = FullWindows(self._layout, fixed)
        else:
            self._windows = WeightedWindows(self._layout, self._moments, self._weight)
        total = fixed.new_tensor(fixed[0].numel()) if self._weight is None else self._weight.sum()
        self._twice_total = 2 * total.clamp_min(TINY)
        self._twice_share = 2 * total / self._windows.total.clamp_min(TINY)
        self._centres = round_centres(fixed)
        size = (len(fixed), self._layout.steps, self._layout.length)
        self._means, self._inverses = fixed.new_empty(size), fixed.new_zeros(size)
        for channel in range(len(fixed)):
            self._prepare_fixed(channel)

    def match(self, moved: torch.Tensor) -> Match:
        """See :class:`~.match.Similarity`."""
        gradient, curvature = torch.empty_like(moved), torch.empty_like(moved)
        values = []
        for channel, centre in enumerate(round_centres(moved)):
            self._moments.restart()
            self._forces.restart()
            for step in range(self._layout.steps):
                means = self._slab_means(channel, step, moved[channel], centre)
                values.append(self._correlate(channel, step, means))
                self._write_forces(channel, step, moved[channel], centre, (gradient[channel], curvature[channel]))
        return Match(torch.stack(values).sum() / self._twice_total, gradient, curvature)

    def _prepare_fixed(self, channel: int) -> None:
        """The means, and 2 s / variance: 0 where no window counts."""
        fixed, layout = self._fixed[channel], self._layout
        self._moments.restart()
        for step in range(layout.steps):
            mean, square, _ = self._slab_means(channel, step, fixed, self._centres[channel])
            self._means[channel, step] = mean
            variance = square.addcmul_(mean, mean, value=-1).clamp_min_(0).add_(SMALLEST_VARIANCE)
            _, slab = layout.overlap(step, layout.radius)
            inverse, counted = layout.inner(self._inverses[channel, step]), self._windows.counted(step)
            inverse[slab] = layout.inner(torch.where(counted, self._twice_share / variance, 0))[slab]

    def _slab_means(self, channel: int, step: int, moved: torch.Tensor, centre: torch.Tensor) -> torch.Tensor:
        """[3, length]: window means of m, m^2 and m f, ``radius`` planes late."""
        volume, slab = self._layout.overlap(step, 0)
        first, square, product = self._moments.flat
        fixed, weighted = self._scratch
        for source, middle, target in ((self._fixed[channel], self._centres[channel], fixed), (moved, centre, first)):
            inner = self._layout.inner(target)
            torch.sub(source[volume], middle, out=inner[slab])
            inner[slab.stop :].zero_()
        if self._weight is None:
            torch.mul(first, first, out=square)
            torch.mul(first, fixed, out=product)
        else:
            self._layout.inner(weighted)[slab].copy_(self._weight[volume])
            weighted.mul_(first)
            torch.mul(first, weighted, out=square)
            torch.mul(fixed, weighted, out=product)
            first.copy_(weighted)
        return self._moments.advance().div_(self._windows.weight(step))

    def _correlate(self, channel: int, step: int, means: torch.Tensor) -> torch.Tensor:
        """2 s times a slab's sum of squared correlations; a, b and ``a mean_f - b mean_m`` go to the next sums."""
        mean, square, product = means
        a, b, offset = self._forces.flat
        mean_fixed = self._means[channel, step]
        variance = square.addcmul_(mean, mean, value=-1).clamp_min_(0).add_(SMALLEST_VARIANCE)
        covariance = product.addcmul_(mean, mean_fixed, value=-1)
        torch.mul(covariance, self._inverses[channel, step], out=a)
        torch.mul(a.div_(variance), covariance, out=b)
        value = torch.dot(b, self._windows.weight(step))
        torch.mul(a, mean_fixed, out=offset)
        offset.addcmul_(b.div_(variance), mean, value=-1)
        return value

    def _write_forces(
        self,
        channel: int,
        step: int,
        moved: torch.Tensor,
        centre: torch.Tensor,
        forces: tuple[torch.Tensor, torch.Tensor],
    ) -> None:
        volume, slab = self._layout.overlap(step, 2 * self._layout.radius)
        a, b, offset = self._layout.inner(self._forces.advance())[:, slab]
        gradient, curvature = (force[volume] for force in forces)
        torch.sub(moved[volume], centre, out=curvature).mul_(b)
        torch.sub(self._fixed[channel, volume], self._centres[channel], out=gradient).mul_(a)
        gradient.sub_(curvature).sub_(offset)
        if self._weight is None:
            curvature.copy_(b)
        else:
            gradient.mul_(self._weight[volume])
            torch.mul(b, self._weight[volume], out=curvature)


class FullWindows:
    """How many voxels each window holds when all count: outer products, so nothing is stored for the volume."""

    def __init__(self, layout: SlabLayout, like: torch.Tensor) -> None:
        along_k, along_j, along_i = (_window_lengths(n, layout.radius, like) for n in layout.shape_kji)
        self.total = along_k.sum() * along_j.sum() * along_i.sum()
        self._in_plane = like.new_ones((layout.rows, layout.row))
        self._in_plane[: len(along_j), : len(along_i)] = along_j[:, None] * along_i
        self._planes = like.new_ones((layout.steps, layout.planes, 1, 1))
        for step in range(layout.steps):
            volume, slab = layout.overlap(step, layout.radius)
            self._planes[step, slab, 0, 0] = along_k[volume]
        self._counted = torch.ones((), dtype=torch.bool, device=like.device)

    def weight(self, step: int) -> torch.Tensor:
        """[length], of the windows whose centres lie ``radius`` planes before slab ``step``; positive everywhere."""
        return (self._planes[step] * self._in_plane).flatten()

    def counted(self, step: int) -> torch.Tensor:
        """Whether a window counts; broadcasts to [length]."""
        return self._counted


class WeightedWindows:
    """The weight in each window; one that has less than a thousandth of the most does not count."""

    def __init__(self, layout: SlabLayout, sums: WindowSums, weight: torch.Tensor) -> None:
        inside = weight.new_zeros((layout.steps, layout.length))
        for step in range(layout.steps):
            volume, slab = layout.overlap(step, 0)
            sums.voxels[0].zero_()[slab] = weight[volume]
            _, slab = layout.overlap(step, layout.radius)
            layout.inner(inside[step])[slab] = layout.inner(sums.advance()[0])[slab]
        self.total = inside.sum()
        self._counted = inside > LEAST_INSIDE * inside.max()
        self._inside = inside.masked_fill_(~self._counted, 1)

    def weight(self, step: int) -> torch.Tensor:
        """As that of :class:`FullWindows`."""
        return self._inside[step]

    def counted(self, step: int) -> torch.Tensor:
        """As that of :class:`FullWindows`."""
        return self._counted[step]


def round_centres(volumes: torch.Tensor) -> torch.Tensor:
    """[C, K, J, I] -> [C]: a number near each channel's mean that leaves few digits to sum."""
    return (volumes.mean(dim=(1, 2, 3)) * CENTRES_IN_ONE).round() / CENTRES_IN_ONE


def _window_lengths(n: int, radius: int, like: torch.Tensor) -> torch.Tensor:
    position = torch.arange(n, dtype=like.dtype, device=like.device)
    return (position + radius).clamp_max(n - 1) - (position - radius).clamp_min(0) + 1
