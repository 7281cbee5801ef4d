"""Sums over cubic windows of volumes that pass by in slabs of planes: what local measures are made of.

Volumes lie flat in memory with zeros between rows and planes, so that a neighbour is a shifted copy whatever the axis,
and a window of ``w`` voxels is built from windows of 1, 2, 4, ... in about ``log2 w`` additions. Nothing is
subtracted, so nothing cancels; nothing is as large as the volume; slabs that fit a processor's cache make it fast.
"""

from __future__ import annotations

import torch

SLAB_VOXELS = 1 << 18
SLAB_VOXELS_CUDA = 1 << 20  # 38 volumes of a slab are held: 160 MB


def slab_voxels(device: torch.device) -> int:
    """How many voxels to work on at a time."""
    return SLAB_VOXELS if device.type == "cpu" else SLAB_VOXELS_CUDA


class SlabLayout:
    """How a volume [K, J, I] is cut into slabs of planes, and how a slab lies in memory.

    A window sum answers ``radius`` planes late, and a sum of sums ``2 radius`` planes: there are slabs enough for that.

    Attributes:
        radius: of the windows; they have ``2 radius + 1`` voxels a side.
        planes: a slab has so many planes.
        steps: so many slabs pass by.
        plane: elements of a padded plane.
        length: elements of a slab, ``planes * plane``.
    """

    def __init__(self, shape_kji: tuple[int, int, int], radius: int, device: torch.device) -> None:
        self.shape_kji, self.radius = shape_kji, radius
        planes, rows, columns = shape_kji
        self.row, self.rows = columns + radius, rows + radius
        self.plane = self.row * self.rows
        self.planes = min(max(1, slab_voxels(device) // self.plane), planes + 2 * radius)
        self.steps = -(-(planes + 2 * radius) // self.planes)
        self.length = self.planes * self.plane

    def inner(self, flat: torch.Tensor) -> torch.Tensor:
        """[..., length] -> the view [..., planes, J, I] of its voxels."""
        _, rows, columns = self.shape_kji
        return flat.unflatten(-1, (self.planes, self.rows, self.row))[..., :rows, :columns]

    def overlap(self, step: int, late: int) -> tuple[slice, slice]:
        """Planes of the volume that slab ``step`` holds, ``late`` planes behind, and where it holds them."""
        first = step * self.planes - late
        start, stop = max(first, 0), min(first + self.planes, self.shape_kji[0])
        stop = max(start, stop)
        return slice(start, stop), slice(start - first, stop - first)


class WindowSums:
    """Window sums of a stack of volumes. Fill ``flat`` or ``voxels``, then :meth:`advance`, slab after slab.

    Attributes:
        flat: [count, length], the next slab; what lies between its voxels must stay 0.
        voxels: [count, planes, J, I], the same.
    """

    def __init__(self, layout: SlabLayout, count: int, like: torch.Tensor) -> None:
        width, plane, length = 2 * layout.radius + 1, layout.plane, layout.length
        margin = layout.radius * (1 + layout.row)
        source = like.new_zeros((count, length + 2 * margin))
        self.flat = source[:, margin : margin + length]
        self.voxels = layout.inner(self.flat)
        kept = 2 * layout.radius * plane
        self._passing = like.new_zeros((count, kept + length))
        self._sums = like.new_empty((count, length))
        scratch = [like.new_empty((count, max(length + 2 * margin, length + kept))) for _ in range(3)]
        along_i = scratch[2][:, : length + 2 * margin - 2 * layout.radius]
        self._in_plane = _additions(source, width, 1, scratch, along_i)
        self._in_plane += _additions(along_i, width, layout.row, scratch, self._passing[:, kept:])
        self._across = _additions(self._passing, width, plane, scratch, self._sums)
        self._moves = [
            (self._passing[:, start : start + size], self._passing[:, start + length : start + length + size])
            for start in range(0, kept, length)
            for size in (min(length, kept - start),)
        ]

    def restart(self) -> None:
        """Forget the slabs before: the next one is the first."""
        self._passing.zero_()

    def advance(self) -> torch.Tensor:
        """[count, length]: sums over the windows whose centres lie ``radius`` planes before this slab's voxels.

        Overwritten by the next call. Between the voxels it is finite but means nothing.
        """
        for ahead, behind in self._moves:
            ahead.copy_(behind)
        for one, other, out in self._in_plane:
            torch.add(one, other, out=out)
        for one, other, out in self._across:
            torch.add(one, other, out=out)
        return self._sums


def _additions(
    source: torch.Tensor, width: int, step: int, scratch: list[torch.Tensor], out: torch.Tensor
) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Which views to add in turn so that ``out[:, t]`` is the sum of ``source[:, t + n step]``, n = 0..width - 1.

    The width must be odd and at least 3.
    """
    length = source.shape[1] - (width - 1) * step
    power, size, summed, done = source, 1, source, 1
    additions = []
    while 2 * size <= width:
        shorter = power.shape[1] - size * step
        doubled = scratch[size.bit_length() % 2][:, :shorter]
        additions.append((power[:, :shorter], power[:, size * step :], doubled))
        power, size = doubled, 2 * size
        if width & size:
            additions.append((summed[:, :length], power[:, done * step : done * step + length], out))
            summed, done = out, done + size
    return additions
