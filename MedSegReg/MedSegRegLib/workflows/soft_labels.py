"""Labels through a transform without staircases: the nearest border decides, not the nearest voxel.

Each structure becomes its signed distance in mm, which is interpolated; at every voxel the structure that is deepest
inside wins, the background among them (shape-based interpolation: Raya and Udupa, IEEE TMI 1990).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from scipy import ndimage

from ..geometry import Geometry
from ..image import Labels
from ..progress import SILENT, Progress
from ..resample import moving_voxels
from ..sampling import is_outside, sample_linear
from ..transform import Transform

BLOCK = 96
WINDOW_MARGIN = 4
STRUCTURE_MARGIN = 2
REACH = 0.6


def transfer_labels(labels: Labels, geometry: Geometry, transform: Transform, progress: Progress = SILENT) -> Labels:
    """Labels (moving) at the voxels of ``geometry`` (fixed), block by block, so that memory stays small.

    Where all eight voxels around a point are of one structure it is the same as the nearest voxel; between structures
    the border runs where their distances are equal, which keeps smooth surfaces smooth on finer, coarser and turned
    grids, and thin or small structures where they are. 0 outside the moving labels.

    Args:
        transform: fixed RAS to moving RAS.

    Raises:
        Cancelled: asked for through ``progress``.
    """
    out = torch.zeros(geometry.shape_kji, dtype=labels.tensor.dtype)
    source, spacing = labels.numpy(), labels.geometry.spacing_mm[::-1]
    blocks = list(_blocks(geometry))
    for number, (start, size) in enumerate(blocks):
        progress.update(number / len(blocks), "carrying the labels")
        window = geometry.window(start, size)
        near = moving_voxels(labels.geometry, window, transform, torch.empty(()))
        voxels = torch.cat([ijk for _, ijk in near])
        i, j, k = start
        out[k : k + size[2], j : j + size[1], i : i + size[0]] = _block_labels(source, voxels, spacing, out.dtype)
    return replace(labels, tensor=out, geometry=geometry)


def _blocks(geometry: Geometry) -> Iterator[tuple[tuple[int, int, int], tuple[int, int, int]]]:
    """First voxel and size (i, j, k) of the blocks of a grid."""
    for i, j, k in itertools.product(*(range(0, n, BLOCK) for n in geometry.size_ijk)):
        size = [min(BLOCK, n - at) for at, n in zip((i, j, k), geometry.size_ijk, strict=True)]
        yield (i, j, k), (size[0], size[1], size[2])


def _block_labels(
    source: np.ndarray, voxels: torch.Tensor, spacing_kji: tuple[float, ...], dtype: torch.dtype
) -> torch.Tensor:
    """The labels at voxel coordinates [..., 3] of ``source`` [K, J, I]."""
    k, j, i = source.shape
    inside = ~is_outside(voxels, (i, j, k))
    decided = torch.zeros(inside.shape, dtype=dtype)
    points = voxels[inside].clamp(min=0).minimum(voxels.new_tensor((i - 1, j - 1, k - 1)))
    if not len(points):
        return decided
    low = (points.min(dim=0).values.floor().int() - WINDOW_MARGIN).clamp(min=0).tolist()
    high = (points.max(dim=0).values.ceil().int() + 1 + WINDOW_MARGIN).tolist()
    window = source[low[2] : high[2], low[1] : high[1], low[0] : high[0]]
    points = points - points.new_tensor(low)
    plain, mixed = _settled(window, points)
    if bool(mixed.any()):
        plain[mixed] = torch.from_numpy(_nearest_border(window, points[mixed], spacing_kji)).to(dtype)
    decided[inside] = plain.to(dtype)
    return decided


def _settled(window: np.ndarray, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The label at the voxel before each point, and whether the eight voxels around it differ."""
    highest, lowest = window, window
    for axis, n in enumerate(window.shape):
        following = np.minimum(np.arange(n) + 1, n - 1)
        highest = np.maximum(highest, highest.take(following, axis))
        lowest = np.minimum(lowest, lowest.take(following, axis))
    i, j, k = points.floor().long().unbind(-1)
    index = ((k * window.shape[1] + j) * window.shape[2] + i).numpy()
    mixed = torch.from_numpy((highest != lowest).reshape(-1)[index])
    return torch.from_numpy(np.ascontiguousarray(window).reshape(-1)[index]), mixed


def _nearest_border(window: np.ndarray, points: torch.Tensor, spacing_kji: tuple[float, ...]) -> np.ndarray:
    """[N]: of the labels in a window, the one whose interpolated signed distance is largest at each point [N, 3]."""
    values, numbers = np.unique(window, return_inverse=True)
    numbers = numbers.reshape(window.shape)
    best = torch.full((len(points),), -torch.inf)
    winner = torch.zeros(len(points), dtype=torch.long)
    for number, box in enumerate(ndimage.find_objects(numbers + 1)):
        begin = [max(0, part.start - STRUCTURE_MARGIN) for part in box]
        end = [min(n, part.stop + STRUCTURE_MARGIN) for part, n in zip(box, window.shape, strict=True)]
        local = points - points.new_tensor(begin[::-1])
        last = points.new_tensor([stop - start - 1 for start, stop in zip(begin, end, strict=True)][::-1])
        near = ((local >= 0) & (local <= last)).all(dim=-1).nonzero()[:, 0]
        if not len(near):
            continue
        crop = numbers[tuple(slice(*ends) for ends in zip(begin, end, strict=True))] == number
        depth = sample_linear(_signed_distance(crop, spacing_kji)[None], local[near])[0]
        deeper = depth > best[near]
        best[near[deeper]] = depth[deeper]
        winner[near[deeper]] = number
    return values[winner.numpy()]


def _signed_distance(mask: np.ndarray, spacing_kji: tuple[float, ...]) -> torch.Tensor:
    """[K, J, I] float32 mm: positive inside, 0 half a (smallest) voxel before the nearest voxel of the other side.

    Cut off at a little more than half of the largest spacing: between thick slices, the distance to a slice that shows
    nothing would else outweigh the small cross-section beside it.
    """
    half, most = min(spacing_kji) / 2, REACH * max(spacing_kji)
    if mask.all():
        return torch.full(mask.shape, most)
    inside = ndimage.distance_transform_edt(mask, sampling=spacing_kji)
    outside = ndimage.distance_transform_edt(~mask, sampling=spacing_kji)
    depth = np.where(mask, inside - half, half - outside).clip(-most, most)
    return torch.from_numpy(depth.astype(np.float32))
