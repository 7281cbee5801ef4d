"""Local correlation by two kernels for the GPU: images to coefficients, coefficients to forces.

The twin in plain torch is :mod:`.correlation`, which says what is computed. A thread owns a column of voxels along k
and j and passes over the rows of all their windows, so window sums stay in registers, nothing is subtracted, and each
volume comes from memory about once. No moments are kept: those of the fixed image cost less to sum again than to read.
Importing this module needs triton.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from .correlation import LEAST_INSIDE, SMALLEST_VARIANCE, TINY, round_centres
from .filters import filter_axes
from .match import Match

SLAB_VOXELS = 1 << 21  # the coefficients of so many are held at a time
TILE_K, TILE_J, TILE_I = 4, 4, 32  # windows a program sums: 168 registers a thread, the next larger tile spills
OPTIONS = {"num_warps": TILE_I // 32, "enable_fp_fusion": True}


class FusedCorrelation:
    """:class:`~.correlation.LocalCorrelation` of float32 volumes: same arguments, same answers."""

    def __init__(self, fixed: torch.Tensor, weight: torch.Tensor, radius: int) -> None:
        self._fixed, self._radius = fixed.contiguous(), radius
        self._weight = weight.contiguous() if any(weight.stride()) else None
        along_k, along_j, along_i = (_in_window(n, radius, fixed) for n in fixed.shape[1:])
        if self._weight is None:
            total, least = fixed.new_tensor(fixed[0].numel()), fixed.new_zeros(())
            in_windows = along_k.sum() * along_j.sum() * along_i.sum()
        else:
            inside = filter_axes(self._weight, (along_k, along_j, along_i))
            total, in_windows, least = self._weight.sum(), inside.sum(), LEAST_INSIDE * inside.max()
        self._twice_total = 2 * total.clamp_min(TINY)
        self._limits = torch.stack((least, 2 * total / in_windows.clamp_min(TINY)))
        self._centres = round_centres(fixed)

    def match(self, moved: torch.Tensor) -> Match:
        """See :class:`~.match.Similarity`."""
        moved = moved.contiguous()
        gradient, curvature = torch.empty_like(moved), torch.empty_like(moved)
        centres = torch.stack((self._centres, round_centres(moved)), dim=1)
        planes = moved.shape[1]
        step = max(4 * self._radius, SLAB_VOXELS // moved[0, 0].numel())
        values = []
        for channel in range(len(moved)):
            images = (self._fixed[channel], moved[channel], centres[channel])
            for start in range(0, planes, step):
                stop = min(start + step, planes)
                first, last = max(0, start - self._radius), min(planes, stop + self._radius)
                forces, value = self._correlate(images, (first, last), (start, stop))
                values.append(value)
                answers = gradient[channel, start:stop], curvature[channel, start:stop]
                self._gather(images, forces, (first, start), answers)
        return Match(torch.cat(values).sum() / self._twice_total, gradient, curvature)

    def _correlate(
        self, images: tuple[torch.Tensor, ...], planes: tuple[int, int], counted: tuple[int, int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """a, b and ``a mean_f - b mean_m`` of windows on some planes, [3, k, J, I], and partial sums of the value."""
        moved = images[1]
        forces = moved.new_empty((3, planes[1] - planes[0], *moved.shape[1:]))
        tiles = _tiles(forces)
        values = moved.new_empty(tiles[0] * tiles[1] * tiles[2])
        _coefficients[tiles](
            *images, self._weight, self._limits, forces, values, *moved.shape, *planes, *counted,
            SMALLEST_VARIANCE, self._radius, TILE_K, TILE_J, TILE_I, **OPTIONS,
        )  # fmt: skip
        return forces, values

    def _gather(
        self,
        images: tuple[torch.Tensor, ...],
        forces: torch.Tensor,
        planes: tuple[int, int],
        answers: tuple[torch.Tensor, torch.Tensor],
    ) -> None:
        """Gradient and curvature [k, J, I] of windows on some planes; the first plane of ``forces`` and of them."""
        _forces[_tiles(answers[0])](
            *images, self._weight, forces, *answers, *forces.shape[1:], *planes, len(answers[0]),
            self._radius, TILE_K, TILE_J, TILE_I, **OPTIONS,
        )  # fmt: skip


def _tiles(volumes: torch.Tensor) -> tuple[int, int, int]:
    planes, rows, columns = volumes.shape[-3:]
    return triton.cdiv(columns, TILE_I), triton.cdiv(rows, TILE_J), triton.cdiv(planes, TILE_K)


def _in_window(n: int, radius: int, like: torch.Tensor) -> torch.Tensor:
    """[n, n]: 1 where a voxel along an axis lies in the window of another."""
    position = torch.arange(n, device=like.device)
    return ((position[:, None] - position).abs() <= radius).to(like)


@triton.jit
def _coefficients(
    fixed, moved, centres, weight, limits, forces, values, planes, rows, columns, first, last, counted_from, counted_to,
    least_variance, radius: tl.constexpr, tile_k: tl.constexpr, tile_j: tl.constexpr, tile_i: tl.constexpr,
):  # fmt: skip
    k0, j0 = first + tl.program_id(2) * tile_k, tl.program_id(1) * tile_j
    i = tl.program_id(0) * tile_i + tl.arange(0, tile_i)
    j, k = j0 + tl.arange(0, tile_j), k0 + tl.arange(0, tile_k)
    centre_f, centre_m = tl.load(centres), tl.load(centres + 1)
    inside = tl.zeros((tile_k, tile_j, tile_i), tl.float32)
    sum_f, sum_m, sum_ff, sum_mm, sum_fm = inside, inside, inside, inside, inside
    for plane in range(tl.maximum(k0 - radius, 0), tl.minimum(k0 + tile_k + radius, planes)):
        in_plane = tl.zeros((tile_j, tile_i), tl.float32)
        plane_f, plane_m, plane_ff, plane_mm, plane_fm = in_plane, in_plane, in_plane, in_plane, in_plane
        for row in range(tl.maximum(j0 - radius, 0), tl.minimum(j0 + tile_j + radius, rows)):
            in_row, row_f, row_m, row_ff, row_mm, row_fm = _row_moments(
                fixed, moved, weight, (plane * rows + row) * columns, i, columns, centre_f, centre_m, radius
            )
            near = tl.where(tl.abs(j - row) <= radius, 1.0, 0.0)[:, None]
            if weight is not None:
                in_plane += near * in_row[None]
            plane_f += near * row_f[None]
            plane_m += near * row_m[None]
            plane_ff += near * row_ff[None]
            plane_mm += near * row_mm[None]
            plane_fm += near * row_fm[None]
        near = tl.where(tl.abs(k - plane) <= radius, 1.0, 0.0)[:, None, None]
        if weight is not None:
            inside += near * in_plane[None]
        sum_f += near * plane_f[None]
        sum_m += near * plane_m[None]
        sum_ff += near * plane_ff[None]
        sum_mm += near * plane_mm[None]
        sum_fm += near * plane_fm[None]
    share = tl.load(limits + 1)
    if weight is not None:
        share = tl.where(inside > tl.load(limits), share, 0.0)
        inside = tl.where(inside > tl.load(limits), inside, 1.0)
    else:
        inside = (
            _length(k, planes, radius)[:, None, None]
            * (_length(j, rows, radius)[:, None] * _length(i, columns, radius)[None])[None]
        )
    mean_f, mean_m = sum_f / inside, sum_m / inside
    variance_f = tl.maximum(sum_ff / inside - mean_f * mean_f, 0.0) + least_variance
    variance_m = tl.maximum(sum_mm / inside - mean_m * mean_m, 0.0) + least_variance
    covariance = sum_fm / inside - mean_f * mean_m
    a = covariance * (share / variance_f) / variance_m
    correlation = a * covariance
    b = correlation / variance_m

    in_volume = (i < columns)[None, None] & (j < rows)[None, :, None] & (k < last)[:, None, None]
    at = forces + ((k - first)[:, None, None] * rows + j[None, :, None]) * columns + i[None, None]
    stride = (last - first) * rows * columns
    tl.store(at, a, mask=in_volume)
    tl.store(at + stride, b, mask=in_volume)
    tl.store(at + 2 * stride, a * mean_f - b * mean_m, mask=in_volume)
    counted = in_volume & ((k >= counted_from) & (k < counted_to))[:, None, None]
    value = tl.sum(tl.sum(tl.sum(tl.where(counted, correlation * inside, 0.0), axis=2), axis=1), axis=0)
    program = (tl.program_id(2) * tl.num_programs(1) + tl.program_id(1)) * tl.num_programs(0) + tl.program_id(0)
    tl.store(values + program, value)


@triton.jit
def _forces(
    fixed, moved, centres, weight, forces, gradient, curvature, planes, rows, columns, first, start, count,
    radius: tl.constexpr, tile_k: tl.constexpr, tile_j: tl.constexpr, tile_i: tl.constexpr,
):  # fmt: skip
    k0, j0 = start - first + tl.program_id(2) * tile_k, tl.program_id(1) * tile_j
    i = tl.program_id(0) * tile_i + tl.arange(0, tile_i)
    j, k = j0 + tl.arange(0, tile_j), k0 + tl.arange(0, tile_k)
    stride = planes * rows * columns
    sum_a = tl.zeros((tile_k, tile_j, tile_i), tl.float32)
    sum_b, sum_offset = sum_a, sum_a
    for plane in range(tl.maximum(k0 - radius, 0), tl.minimum(k0 + tile_k + radius, planes)):
        plane_a = tl.zeros((tile_j, tile_i), tl.float32)
        plane_b, plane_offset = plane_a, plane_a
        for row in range(tl.maximum(j0 - radius, 0), tl.minimum(j0 + tile_j + radius, rows)):
            row_a = tl.zeros((tile_i,), tl.float32)
            row_b, row_offset = row_a, row_a
            for shift in tl.static_range(2 * radius + 1):
                column = i + (shift - radius)
                present = (column >= 0) & (column < columns)
                at = forces + (plane * rows + row) * columns + column
                row_a += tl.load(at, mask=present, other=0.0)
                row_b += tl.load(at + stride, mask=present, other=0.0)
                row_offset += tl.load(at + 2 * stride, mask=present, other=0.0)
            near = tl.where(tl.abs(j - row) <= radius, 1.0, 0.0)[:, None]
            plane_a += near * row_a[None]
            plane_b += near * row_b[None]
            plane_offset += near * row_offset[None]
        near = tl.where(tl.abs(k - plane) <= radius, 1.0, 0.0)[:, None, None]
        sum_a += near * plane_a[None]
        sum_b += near * plane_b[None]
        sum_offset += near * plane_offset[None]
    here = k - (start - first)
    in_volume = (i < columns)[None, None] & (j < rows)[None, :, None] & (here < count)[:, None, None]
    at = ((k + first)[:, None, None] * rows + j[None, :, None]) * columns + i[None, None]
    f = tl.load(fixed + at, mask=in_volume, other=0.0) - tl.load(centres)
    m = tl.load(moved + at, mask=in_volume, other=0.0) - tl.load(centres + 1)
    pull = f * sum_a - m * sum_b - sum_offset
    if weight is not None:
        w = tl.load(weight + at, mask=in_volume, other=0.0)
        pull, sum_b = pull * w, sum_b * w
    at = (here[:, None, None] * rows + j[None, :, None]) * columns + i[None, None]
    tl.store(gradient + at, pull, mask=in_volume)
    tl.store(curvature + at, sum_b, mask=in_volume)


@triton.jit
def _row_moments(fixed, moved, weight, row, i, columns, centre_f, centre_m, radius: tl.constexpr):
    """Sums along i over windows: weight, and weighted f, m, f^2, m^2 and f m of centred intensities."""
    in_row = tl.zeros(i.shape, tl.float32)
    row_f, row_m, row_ff, row_mm, row_fm = in_row, in_row, in_row, in_row, in_row
    for shift in tl.static_range(2 * radius + 1):
        column = i + (shift - radius)
        present = (column >= 0) & (column < columns)
        f = tl.where(present, tl.load(fixed + row + column, mask=present, other=0.0) - centre_f, 0.0)
        m = tl.where(present, tl.load(moved + row + column, mask=present, other=0.0) - centre_m, 0.0)
        wf, wm = f, m
        if weight is not None:
            w = tl.load(weight + row + column, mask=present, other=0.0)
            wf, wm = w * f, w * m
            in_row += w
        row_f += wf
        row_m += wm
        row_ff += wf * f
        row_mm += wm * m
        row_fm += wf * m
    return in_row, row_f, row_m, row_ff, row_mm, row_fm


@triton.jit
def _length(position, size, radius: tl.constexpr):
    """Of windows about positions along an axis, clipped at its ends; 1 or more also beyond them."""
    ends = tl.minimum(position + radius, size - 1) - tl.maximum(position - radius, 0) + 1
    return tl.maximum(ends, 1).to(tl.float32)
