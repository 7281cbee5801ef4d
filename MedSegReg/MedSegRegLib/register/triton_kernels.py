"""What the dense stage does at every voxel, each as one kernel for the GPU: warp, compose, invert, slope times force.

Every function has a twin in plain torch that says what it computes, in :mod:`.comparison` or :mod:`.displacement`;
:func:`~.dispatch.use_kernels` decides between them. Importing this module needs triton.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ..sampling import ROUNDING_VOXELS

BLOCK = 256
OPTIONS = {"enable_fp_fusion": True}  # stated, because triton's default is about to change
ROUNDING = tl.constexpr(ROUNDING_VOXELS)


def warp(
    volume: torch.Tensor,
    field: torch.Tensor,
    places: torch.Tensor,
    shape_kji: tuple[int, int, int],
    zero_outside: bool = False,
) -> torch.Tensor:
    """A volume as it looks from another grid under a displacement on a third, coarser one; no coordinates are stored.

    Args:
        volume: [C, K, J, I] float32, any strides.
        field: [3, K', J', I'] float32; linear between its voxels, the border is repeated outside.
        places: [27] float32: the rows of the 3x4 matrix from voxels of the result to voxels of ``volume``; those of
            the 3x3 matrix from vectors of ``field`` to voxels of ``volume``; scale and offset along i, j, k from
            voxels of the result to voxels of ``field``.
        shape_kji: of the result.
        zero_outside: 0 where :func:`~MedSegRegLib.sampling.is_outside`; otherwise the border is repeated.

    Returns:
        [C, *shape_kji].
    """
    out = volume.new_empty((len(volume), *shape_kji))
    voxels = out[0].numel()
    _warp[triton.cdiv(voxels, BLOCK),](
        volume, field.contiguous(), places, out, len(volume), voxels, *shape_kji[1:], *field.shape[1:],
        *volume.shape[1:], *volume.stride(), zero_outside, BLOCK, **OPTIONS,
    )  # fmt: skip
    return out


def compose(outer: torch.Tensor, inner: torch.Tensor) -> torch.Tensor:
    """:func:`.displacement.compose` of two float32 fields [3, K, J, I]."""
    out = torch.empty_like(inner, memory_format=torch.contiguous_format)
    voxels = out[0].numel()
    fields = (outer.contiguous(), inner.contiguous())
    _compose[triton.cdiv(voxels, BLOCK),](*fields, out, voxels, *out.shape[1:], BLOCK, **OPTIONS)
    return out


def solve_inverse(
    field: torch.Tensor, places: torch.Tensor, start: torch.Tensor, iterations: int, tolerance_voxels: float
) -> torch.Tensor:
    """:func:`.displacement.solve_inverse` of float32 tensors; a point stops where it is within the tolerance."""
    places, start = places.contiguous(), start.contiguous()
    out = torch.empty_like(start)
    points = out.numel() // 3
    _solve_inverse[triton.cdiv(points, BLOCK),](
        field.contiguous(), places, start, out, points, *field.shape[1:], iterations, tolerance_voxels**2, BLOCK,
        **OPTIONS,
    )  # fmt: skip
    return out


def slope_terms(
    moved: torch.Tensor,
    gradient: torch.Tensor,
    curvature: torch.Tensor,
    metric: torch.Tensor | None,
    start: int,
    stop: int,
) -> torch.Tensor:
    """Force along i, j, k and steepness of the voxels of planes start..stop-1, summed over channels.

    Args:
        moved, gradient, curvature: [C, K, J, I] float32.
        metric: [3, 3] float32 to contravariant slopes; None is the identity.

    Returns:
        [4, stop - start, J, I].
    """
    out = moved.new_empty((4, stop - start, *moved.shape[2:]))
    voxels = out[0].numel()
    moved, gradient, curvature = (_dense_channels(volume) for volume in (moved, gradient, curvature))
    _slope_terms[triton.cdiv(voxels, BLOCK),](
        moved, gradient, curvature, metric, out, *moved.shape, moved.stride(0), gradient.stride(0),
        curvature.stride(0), start, voxels, BLOCK, **OPTIONS,
    )  # fmt: skip
    return out


def _dense_channels(volume: torch.Tensor) -> torch.Tensor:
    return volume if volume[0].is_contiguous() else volume.contiguous()


@triton.jit
def _warp(
    volume, field, places, out, channels, voxels, rows, columns,
    field_k, field_j, field_i, size_k, size_j, size_i, stride_c, stride_k, stride_j, stride_i,
    zero_outside: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    at = tl.program_id(0) * block + tl.arange(0, block)
    valid = at < voxels
    i, j, k = at % columns, at // columns % rows, at // columns // rows
    low_i, high_i, share_i = _between(i * tl.load(places + 21) + tl.load(places + 24), field_i)
    low_j, high_j, share_j = _between(j * tl.load(places + 22) + tl.load(places + 25), field_j)
    low_k, high_k, share_k = _between(k * tl.load(places + 23) + tl.load(places + 26), field_k)
    plane = field_i * field_j
    offsets = (low_i, high_i, low_j * field_i, high_j * field_i, low_k * plane, high_k * plane)
    shares = (share_i, share_j, share_k)
    u = _trilinear(field, offsets, shares, valid)
    v = _trilinear(field + plane * field_k, offsets, shares, valid)
    w = _trilinear(field + 2 * plane * field_k, offsets, shares, valid)
    x = _place(places, i, j, k) + _turn(places + 12, u, v, w)
    y = _place(places + 4, i, j, k) + _turn(places + 15, u, v, w)
    z = _place(places + 8, i, j, k) + _turn(places + 18, u, v, w)
    low_i, high_i, share_i = _between(x, size_i)
    low_j, high_j, share_j = _between(y, size_j)
    low_k, high_k, share_k = _between(z, size_k)
    offsets = (
        low_i * stride_i, high_i * stride_i, low_j * stride_j, high_j * stride_j, low_k * stride_k, high_k * stride_k,
    )  # fmt: skip
    shares = (share_i, share_j, share_k)
    read = valid
    if zero_outside:
        read = valid & ~(_beyond(x, size_i) | _beyond(y, size_j) | _beyond(z, size_k))
    for _ in range(channels):
        tl.store(out + at, _trilinear(volume, offsets, shares, read), mask=valid)
        volume += stride_c
        out += voxels


@triton.jit
def _compose(outer, inner, out, voxels, planes, rows, columns, block: tl.constexpr):
    at = tl.program_id(0) * block + tl.arange(0, block)
    valid = at < voxels
    u = tl.load(inner + at, mask=valid, other=0.0)
    v = tl.load(inner + voxels + at, mask=valid, other=0.0)
    w = tl.load(inner + 2 * voxels + at, mask=valid, other=0.0)
    low_i, high_i, share_i = _between(at % columns + u, columns)
    low_j, high_j, share_j = _between(at // columns % rows + v, rows)
    low_k, high_k, share_k = _between(at // columns // rows + w, planes)
    plane = rows * columns
    offsets = (low_i, high_i, low_j * columns, high_j * columns, low_k * plane, high_k * plane)
    shares = (share_i, share_j, share_k)
    tl.store(out + at, u + _trilinear(outer, offsets, shares, valid), mask=valid)
    tl.store(out + voxels + at, v + _trilinear(outer + voxels, offsets, shares, valid), mask=valid)
    tl.store(out + 2 * voxels + at, w + _trilinear(outer + 2 * voxels, offsets, shares, valid), mask=valid)


@triton.jit
def _solve_inverse(
    field, places, start, out, points, planes, rows, columns, iterations, tolerance, block: tl.constexpr
):  # fmt: skip
    at = tl.program_id(0) * block + tl.arange(0, block)
    valid = at < points
    x, y, z = _vector(places + 3 * at, valid)
    trial_u, trial_v, trial_w = _vector(start + 3 * at, valid)
    u, v, w = trial_u, trial_v, trial_w
    residue_u, residue_v, residue_w = _zeros(block), _zeros(block), _zeros(block)
    least, step = _zeros(block) + float("inf"), _zeros(block) + 1.0
    plane = rows * columns
    for _ in range(iterations):
        left = valid & (least > tolerance)
        low_i, high_i, share_i = _between(x + trial_u, columns)
        low_j, high_j, share_j = _between(y + trial_v, rows)
        low_k, high_k, share_k = _between(z + trial_w, planes)
        offsets = (low_i, high_i, low_j * columns, high_j * columns, low_k * plane, high_k * plane)
        shares = (share_i, share_j, share_k)
        miss_u = trial_u + _trilinear(field, offsets, shares, left)
        miss_v = trial_v + _trilinear(field + plane * planes, offsets, shares, left)
        miss_w = trial_w + _trilinear(field + 2 * plane * planes, offsets, shares, left)
        length = miss_u * miss_u + miss_v * miss_v + miss_w * miss_w
        better = left & (length < least)
        u, v, w = tl.where(better, trial_u, u), tl.where(better, trial_v, v), tl.where(better, trial_w, w)
        residue_u = tl.where(better, miss_u, residue_u)
        residue_v = tl.where(better, miss_v, residue_v)
        residue_w = tl.where(better, miss_w, residue_w)
        least, step = tl.where(better, length, least), tl.where(better, step, 0.5 * step)
        trial_u, trial_v, trial_w = u - step * residue_u, v - step * residue_v, w - step * residue_w
    tl.store(out + 3 * at, u, mask=valid)
    tl.store(out + 3 * at + 1, v, mask=valid)
    tl.store(out + 3 * at + 2, w, mask=valid)


@triton.jit
def _vector(here, valid):
    x = tl.load(here, mask=valid, other=0.0)
    return x, tl.load(here + 1, mask=valid, other=0.0), tl.load(here + 2, mask=valid, other=0.0)


@triton.jit
def _slope_terms(
    moved, gradient, curvature, metric, out, channels, planes, rows, columns, moved_c, gradient_c, curvature_c,
    start, voxels, block: tl.constexpr,
):  # fmt: skip
    at = tl.program_id(0) * block + tl.arange(0, block)
    valid = at < voxels
    plane = rows * columns
    i, j, k = at % columns, at // columns % rows, at // plane + start
    here = at + start * plane
    force_i, force_j, force_k, steepness = _zeros(block), _zeros(block), _zeros(block), _zeros(block)
    for _ in range(channels):
        slope_i = _slope(moved + here, i, columns, 1, valid)
        slope_j = _slope(moved + here, j, rows, columns, valid)
        slope_k = _slope(moved + here, k, planes, plane, valid)
        along_i, along_j, along_k = slope_i, slope_j, slope_k
        if metric is not None:
            along_i = _turn(metric, slope_i, slope_j, slope_k)
            along_j = _turn(metric + 3, slope_i, slope_j, slope_k)
            along_k = _turn(metric + 6, slope_i, slope_j, slope_k)
        force = tl.load(gradient + here, mask=valid, other=0.0)
        bend = tl.load(curvature + here, mask=valid, other=0.0)
        force_i += force * along_i
        force_j += force * along_j
        force_k += force * along_k
        steepness += bend * (slope_i * along_i + slope_j * along_j + slope_k * along_k)
        moved += moved_c
        gradient += gradient_c
        curvature += curvature_c
    tl.store(out + at, force_i, mask=valid)
    tl.store(out + voxels + at, force_j, mask=valid)
    tl.store(out + 2 * voxels + at, force_k, mask=valid)
    tl.store(out + 3 * voxels + at, steepness, mask=valid)


@triton.jit
def _zeros(block: tl.constexpr):
    return tl.zeros((block,), tl.float32)


@triton.jit
def _between(position, size):
    """The voxels on both sides and the share of the upper one; what is beyond the border, or NaN, is on it."""
    position = tl.minimum(tl.maximum(position, 0.0), size - 1.0)
    low = position.to(tl.int32)
    return low, tl.minimum(low + 1, size - 1), position - low


@triton.jit
def _beyond(position, size):
    return tl.abs(position - (0.5 * (size - 1) - ROUNDING)) > 0.5 * size


@triton.jit
def _place(row, i, j, k):
    """A row of a 3x4 matrix times (i, j, k, 1)."""
    return tl.load(row) * i + (tl.load(row + 1) * j + (tl.load(row + 2) * k + tl.load(row + 3)))


@triton.jit
def _turn(row, x, y, z):
    """A row of a 3x3 matrix times a vector."""
    return tl.load(row) * x + tl.load(row + 1) * y + tl.load(row + 2) * z


@triton.jit
def _trilinear(volume, offsets, shares, valid):
    """Between 8 voxels, at the sums of one of each pair of offsets (low, high along i, j, k); 0 where not valid."""
    low_i, high_i, low_j, high_j, low_k, high_k = offsets
    share_i, share_j, share_k = shares
    near = _lerp(
        _along_i(volume, low_i, high_i, low_j + low_k, share_i, valid),
        _along_i(volume, low_i, high_i, high_j + low_k, share_i, valid),
        share_j,
    )
    far = _lerp(
        _along_i(volume, low_i, high_i, low_j + high_k, share_i, valid),
        _along_i(volume, low_i, high_i, high_j + high_k, share_i, valid),
        share_j,
    )
    return _lerp(near, far, share_k)


@triton.jit
def _along_i(volume, low, high, row, share, valid):
    one = tl.load(volume + row + low, mask=valid, other=0.0)
    return _lerp(one, tl.load(volume + row + high, mask=valid, other=0.0), share)


@triton.jit
def _lerp(one, other, share):
    return one + share * (other - one)


@triton.jit
def _slope(here, position, size, stride, valid):
    """Central difference at a voxel, one-sided on the border, 0 along an axis of one voxel."""
    ahead, behind = tl.minimum(position + 1, size - 1), tl.maximum(position - 1, 0)
    difference = tl.load(here + (ahead - position) * stride, mask=valid, other=0.0) - tl.load(
        here + (behind - position) * stride, mask=valid, other=0.0
    )
    return tl.where(ahead - behind == 2, 0.5 * difference, difference)
