"""A network over a volume, tile by tile. Segmentation walk: preprocessed image -> [tiles] -> scores.

Overlapping tiles, blended with a Gaussian weight (as in nnU-Net and MONAI, ``sigma = tile / 8``).
"""

from __future__ import annotations

import itertools
import math

import torch
from torch.nn import functional

from ..errors import NonFiniteOutput
from ..progress import SILENT, Progress


def predict_scores(
    network: torch.nn.Module,
    image: torch.Tensor,
    tile_kji: tuple[int, int, int],
    overlap: float,
    progress: Progress = SILENT,
) -> torch.Tensor:
    """Class scores of the whole image.

    Args:
        network: [1, C, *tile] -> [1, classes, *tile].
        image: [C, K, J, I] on the network's device; an axis shorter than the tile is padded with its border values.
        tile_kji: size of a tile in voxels.
        overlap: share of a tile that is covered by the next one, 0..1 (excluded).

    Returns:
        [classes, K, J, I] float32: weighted means of the scores before softmax.

    Raises:
        NonFiniteOutput: a score is NaN or infinite.
        Cancelled: between two tiles.
    """
    padded, crop = _pad_to_tile(image, tile_kji)
    weight = gaussian_weight(tile_kji).to(padded)
    axes = zip(padded.shape[1:], tile_kji, strict=True)
    starts = list(itertools.product(*(tile_starts(size, tile, overlap) for size, tile in axes)))
    total: torch.Tensor | None = None
    weights = padded.new_zeros(padded.shape[1:])
    with torch.inference_mode():
        for number, start in enumerate(starts):
            progress.update(number / len(starts), f"tile {number + 1} of {len(starts)}")
            window = tuple(slice(s, s + t) for s, t in zip(start, tile_kji, strict=True))
            scores = network(padded[None, :, window[0], window[1], window[2]])[0].float()
            if total is None:
                total = padded.new_zeros((scores.shape[0], *padded.shape[1:]))
            total[:, window[0], window[1], window[2]] += scores * weight
            weights[window] += weight
        assert total is not None
        total /= weights
    if not torch.isfinite(total).all():
        raise NonFiniteOutput(
            "The network gave NaN or infinite scores",
            "finite scores",
            "check the intensities of the image (units, NaN) and the model",
        )
    return total[:, crop[0], crop[1], crop[2]]


def tile_starts(size: int, tile: int, overlap: float) -> list[int]:
    """First voxels of the tiles along one axis; the last tile ends with the axis.

    >>> tile_starts(100, 40, 0.5)
    [0, 20, 40, 60]
    """
    step = max(1, int(tile * (1 - overlap)))
    count = 1 if size <= tile else math.ceil((size - tile) / step) + 1
    return [min(n * step, size - tile) for n in range(count)]


def gaussian_weight(tile_kji: tuple[int, int, int]) -> torch.Tensor:
    """Weight of each voxel of a tile, 1 in the centre, at least 1e-3."""
    weight = torch.ones(())
    for axis, size in enumerate(tile_kji):
        distance = (torch.arange(size) - (size - 1) / 2) / (size / 8)
        shape = [1, 1, 1]
        shape[axis] = size
        weight = weight * torch.exp(-0.5 * distance**2).reshape(shape)
    return weight.clamp(min=1e-3)


def _pad_to_tile(image: torch.Tensor, tile_kji: tuple[int, int, int]) -> tuple[torch.Tensor, tuple[slice, ...]]:
    pads: list[int] = []
    crop = []
    for size, tile in zip(image.shape[1:], tile_kji, strict=True):
        missing = max(0, tile - size)
        pads = [missing // 2, missing - missing // 2, *pads]
        crop.append(slice(missing // 2, missing // 2 + size))
    return functional.pad(image[None], pads, mode="replicate")[0], tuple(crop)
