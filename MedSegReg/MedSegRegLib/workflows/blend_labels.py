"""Two label maps of one grid, and everything between them: what a frame between two key frames gets.

Each structure's border runs where the weighted mean of its signed distances is 0 (shape-based interpolation: Raya and
Udupa, IEEE TMI 1990); at every voxel the structure that is deepest inside wins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from scipy import ndimage

from ..image import Labels

MARGIN_VOXELS = 2


def blend_labels(maps: Sequence[Labels], weights: Sequence[float]) -> Labels:
    """The weighted mean of label maps, with the structures of the first one.

    Args:
        maps: on one grid, values meaning the same in all.
        weights: above 0, one a map.
    """
    if len(maps) == 1:
        return maps[0]
    arrays = [labels.numpy() for labels in maps]
    spacing = maps[0].geometry.spacing_mm[::-1]
    best = np.zeros(arrays[0].shape, np.float32)
    winner = np.zeros(arrays[0].shape, arrays[0].dtype)
    for value in sorted(set(np.unique(arrays)) - {0}):
        masks = [array == value for array in arrays]
        box = _box(np.logical_or.reduce(masks))
        depth = sum(
            (weight * _signed_distance(mask[box], spacing) for weight, mask in zip(weights, masks, strict=True)),
            np.float32(0),
        )
        deeper = depth > best[box]
        best[box][deeper], winner[box][deeper] = depth[deeper], value
    return replace(maps[0], tensor=torch.from_numpy(winner))


def _box(mask: np.ndarray) -> tuple[slice, ...]:
    (box,) = ndimage.find_objects(mask.astype(np.uint8))
    return tuple(slice(max(0, part.start - MARGIN_VOXELS), part.stop + MARGIN_VOXELS) for part in box)


def _signed_distance(mask: np.ndarray, spacing_kji: tuple[float, ...]) -> np.ndarray:
    """mm, positive inside; far outside everywhere for a structure that is not there."""
    if not mask.any():
        return np.full(mask.shape, -float(np.linalg.norm(np.multiply(mask.shape, spacing_kji))), np.float32)
    half = min(spacing_kji) / 2
    inside = ndimage.distance_transform_edt(mask, sampling=spacing_kji)
    outside = ndimage.distance_transform_edt(~mask, sampling=spacing_kji)
    return np.where(mask, inside - half, half - outside).astype(np.float32)
