"""Where the tiles lie. Segmentation walk: preprocessed image -> [tiles] -> stream -> restore -> labels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch.nn import functional

from ..files.model_spec import ModelSpec

SMALLEST_WEIGHT = 1e-3
SMALLEST_EVEN_WEIGHT = 6e-9  # what half precision leaves of nnU-Net's corners
T = TypeVar("T")


@dataclass(frozen=True)
class Tiling:
    """Tiles over an image of one size, axes (k, j, i).

    Attributes:
        size: of the image, before padding.
        tile: voxels of a tile.
        before: voxels of padding before the image.
        starts: first voxels of the tiles along each axis, in the padded image.
        even: spread and weighted as nnU-Net does, else as MONAI does.
    """

    size: tuple[int, int, int]
    tile: tuple[int, int, int]
    before: tuple[int, int, int]
    starts: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    even: bool = False

    @property
    def count(self) -> int:
        """How many tiles."""
        return math.prod(len(starts) for starts in self.starts)

    @property
    def padded(self) -> tuple[int, int, int]:
        """Size of the padded image."""
        k, j, i = (max(n, t) for n, t in zip(self.size, self.tile, strict=True))
        return k, j, i

    def exchanged(self, order: tuple[int, int, int]) -> Tiling:
        """The same tiles over an image whose axes are these of (k, j, i)."""
        a, b, c = order

        def pick(values: tuple[T, T, T]) -> tuple[T, T, T]:
            return values[a], values[b], values[c]

        return Tiling(pick(self.size), pick(self.tile), pick(self.before), pick(self.starts), self.even)


def lay_tiles(spec: ModelSpec, size_kji: tuple[int, int, int]) -> Tiling:
    """The tiles of a model over an image of this size on the model's grid."""
    tile = spec.tile_ijk[::-1]
    padded = [max(n, t) for n, t in zip(size_kji, tile, strict=True)]
    place = spread_evenly if spec.tiling.placement == "even" else tile_starts
    k, j, i = (tuple(place(n, t, spec.tile_overlap)) for n, t in zip(padded, tile, strict=True))
    before = tuple((p - n) // 2 for p, n in zip(padded, size_kji, strict=True))
    return Tiling(size_kji, tile, before, (k, j, i), spec.tiling.placement == "even")  # type: ignore[arg-type]


def tile_starts(size: int, tile: int, overlap: float) -> list[int]:
    """First voxels of the tiles along one axis, a fixed step apart; the last tile ends with the axis.

    >>> tile_starts(100, 40, 0.5)
    [0, 20, 40, 60]
    """
    step = max(1, int(tile * (1 - overlap)))
    count = 1 if size <= tile else math.ceil((size - tile) / step) + 1
    return [min(n * step, size - tile) for n in range(count)]


def spread_evenly(size: int, tile: int, overlap: float) -> list[int]:
    """First voxels of the tiles along one axis, spread evenly with at least this overlap, as nnU-Net does.

    >>> spread_evenly(100, 40, 0.5)
    [0, 20, 40, 60]
    >>> spread_evenly(90, 40, 0.5)
    [0, 17, 33, 50]
    """
    room = size - tile
    intervals = math.ceil(room / (tile * (1 - overlap)))
    step = room / max(intervals, 1)
    return [round(step * n) for n in range(intervals + 1)]


def gaussian_weight(tile_kji: tuple[int, int, int], even: bool = False) -> torch.Tensor:
    """Weight of each voxel of a tile: a Gaussian of an eighth of the tile, 1 in the centre.

    As in MONAI it is symmetric and at least 1e-3; ``even``: as in nnU-Net its centre is voxel size // 2, and the
    corners weigh next to nothing.
    """
    weight = torch.ones(())
    for axis, size in enumerate(tile_kji):
        distance = (torch.arange(size) - (size // 2 if even else (size - 1) / 2)) / (size / 8)
        shape = [1, 1, 1]
        shape[axis] = size
        weight = weight * torch.exp(-0.5 * distance**2).reshape(shape)
    return weight.clamp(min=SMALLEST_EVEN_WEIGHT if even else SMALLEST_WEIGHT)


def pad_to_tiles(image: torch.Tensor, tiling: Tiling, padding: str) -> torch.Tensor:
    """[C, K, J, I] with ``edge`` values or ``zero`` around an image that is smaller than a tile."""
    pads: list[int] = []
    for n, padded, before in zip(tiling.size, tiling.padded, tiling.before, strict=True):
        pads = [before, padded - n - before, *pads]
    if not any(pads):
        return image
    return functional.pad(image[None], pads, mode="replicate" if padding == "edge" else "constant")[0]
