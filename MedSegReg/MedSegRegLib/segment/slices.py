"""Which planes of the model's grid a slice of the image needs, and where its voxels lie between them. For restore.

Slices are those of the image along the axis that runs most nearly along the planes' own axis, counted in the direction
in which the planes come.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import torch

from ..geometry import Geometry
from ..sampling import ROUNDING_VOXELS


@dataclass(frozen=True, eq=False)
class Axis:
    """Voxel coordinates along one axis of the planes; every tensor broadcasts to [slices, rows, columns].

    Attributes:
        low: index of the voxel at or before.
        x: the coordinate, float64; None where the axis is read by the nearest voxel.
        last: index of the last voxel, which is its own neighbour.
    """

    low: torch.Tensor
    x: torch.Tensor | None
    last: int


@dataclass(frozen=True, eq=False)
class Place:
    """Where the voxels of some slices lie in the planes that are held.

    Attributes:
        axes: of the grid, in the order i, j, k.
        inside: broadcasts to [slices, rows, columns]; False outside the grid.
    """

    axes: tuple[Axis, Axis, Axis]
    inside: torch.Tensor

    def index(self, shape_kji: torch.Size) -> torch.Tensor:
        """[slices, rows, columns] int64: number of each voxel's cell in the flattened planes."""
        i, j, k = self.axes
        return (k.low * shape_kji[1] + j.low) * shape_kji[2] + i.low

    def interpolate(self, features: torch.Tensor, voxels: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """[F, planes, J, I] read at the voxels (slices, rows, columns), N each, -> [F, N]."""
        _, _, rows, columns = features.shape
        flat = features.flatten(1)
        shape = np.broadcast_shapes(*(axis.low.shape for axis in self.axes), self.inside.shape)
        one = features.new_ones(())
        ends: list[list[tuple[torch.Tensor, torch.Tensor]]] = []
        for axis, stride in zip(self.axes, (1, columns, rows * columns), strict=True):
            low = _pick(axis.low, voxels, shape)
            if axis.x is None:
                ends.append([(low * stride, one)])
            else:
                share = (_pick(axis.x, voxels, shape) - low).to(features.dtype)
                high = (low + 1).clamp_(max=axis.last)
                ends.append([(low * stride, 1 - share), (high * stride, share)])
        total = features.new_zeros((features.shape[0], len(voxels[0])))
        for (k, weight_k), (j, weight_j) in itertools.product(ends[2], ends[1]):
            row, weight = k + j, weight_k * weight_j
            for i, weight_i in ends[0]:
                total.addcmul_(flat.index_select(1, row + i), weight * weight_i)
        return total


def covered_window(geometry: Geometry, grid: Geometry) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """First voxel and size (i, j, k) of the part of an image that may lie inside a grid; at least one voxel."""
    corners = geometry.map_points(grid.corners_ras())
    last = np.asarray(geometry.size_ijk) - 1
    low = np.clip(np.floor(corners.min(axis=0)), 0, last).astype(int)
    high = np.clip(np.ceil(corners.max(axis=0)), low, last).astype(int)
    i, j, k = (high - low + 1).tolist()
    return tuple(low.tolist()), (i, j, k)


def _pick(values: torch.Tensor, voxels: tuple[torch.Tensor, ...], shape: tuple[int, ...]) -> torch.Tensor:
    """[N] values at the voxels, of a tensor that broadcasts to ``shape``; one that varies along one axis is quicker."""
    varying = [n for n, size in enumerate(values.shape) if size > 1]
    if len(varying) == 1:
        return values.flatten().index_select(0, voxels[varying[0]])
    return values.expand(shape)[voxels]


class SliceMap:
    """Slices of an image in the order in which the planes of a grid complete them.

    Args:
        grid: planes follow one another along its k axis.
        geometry: of the image.
        nearest: axes of ``grid`` (0, 1, 2 of i, j, k) along which the nearest voxel is read.

    Attributes:
        linear_axes: axes of ``grid`` along which the image's voxels lie between voxels.
        slice_voxels: voxels of a slice.
    """

    def __init__(self, grid: Geometry, geometry: Geometry, nearest: tuple[int, ...] = ()) -> None:
        matrix = (grid.ras_to_ijk @ geometry.ijk_to_ras)[:3]
        size = geometry.size_ijk
        along = int(np.argmax(np.abs(matrix[2, :3]) / np.linalg.norm(matrix[:, :3], axis=0)))
        columns, rows = (axis for axis in range(3) if axis != along)
        self._backwards = bool(matrix[2, along] < 0)
        if self._backwards:  # count slices from the other end
            matrix = matrix.copy()
            matrix[:, 3] += matrix[:, along] * (size[along] - 1)
            matrix[:, along] *= -1
        self._axes, self._counts = (along, rows, columns), (size[along], size[rows], size[columns])
        self._matrix = matrix[:, [along, rows, columns, 3]]
        self._grid_size = grid.size_ijk
        self.slice_voxels = self._counts[1] * self._counts[2]
        self.linear_axes = tuple(n for n in range(3) if n not in nearest and not self._hits_voxels(n))
        self._lowest, self._highest = self._planes_of_slices()

    def slices_before(self, arrived: int) -> int:
        """How many slices the first ``arrived`` planes complete."""
        return int(np.searchsorted(self._highest, arrived))

    def first_plane(self, number: int) -> int:
        """The first plane that slice ``number`` and all later ones need."""
        return int(self._lowest[number]) if number < len(self._lowest) else self._grid_size[2]

    def view(self, volume: torch.Tensor, start: int, stop: int) -> torch.Tensor:
        """The part [slices, rows, columns] of [K, J, I] that slices start..stop-1 fill, in the volume's direction."""
        slices = volume.permute(*(2 - axis for axis in self._axes))
        return slices[self._counts[0] - stop : self._counts[0] - start] if self._backwards else slices[start:stop]

    def ordered(self, slices: torch.Tensor) -> torch.Tensor:
        """Slices in the volume's direction."""
        return slices.flip(0) if self._backwards else slices

    def locate(self, start: int, stop: int, first_plane: int, device: torch.device) -> Place:
        """Where the voxels of slices start..stop-1 lie, in planes that begin with ``first_plane``."""
        inside = torch.ones((1, 1, 1), dtype=torch.bool, device=device)
        axes = []
        for n, size in enumerate(self._grid_size):
            x = self._coordinates(n, start, stop, device)
            inside = inside & ((x - ((size - 1) / 2 - ROUNDING_VOXELS)).abs_() <= size / 2)
            linear = n in self.linear_axes
            first = first_plane if n == 2 else 0
            x = (x if linear else x.add_(0.5 + ROUNDING_VOXELS)).clamp_(0, size - 1).sub_(first)
            axes.append(Axis(x.long(), x if linear else None, size - 1 - first))
        shape = (stop - start, *self._counts[1:])
        i, j, k = axes
        return Place((i, j, k), inside.expand(shape))

    def _coordinates(self, axis: int, start: int, stop: int, device: torch.device) -> torch.Tensor:
        """Coordinates along an axis of the grid, float64, with one value where an axis of the slices has no part."""
        total = torch.full((1, 1, 1), float(self._matrix[axis, 3]), dtype=torch.float64, device=device)
        for part, (low, high) in enumerate(((start, stop), (0, self._counts[1]), (0, self._counts[2]))):
            factor = float(self._matrix[axis, part])
            if abs(factor) * self._counts[part] > ROUNDING_VOXELS / 10:
                shape = [1, 1, 1]
                shape[part] = high - low
                values = torch.arange(low, high, dtype=torch.float64, device=device)
                total = total + factor * values.reshape(shape)
        return total

    def _hits_voxels(self, axis: int) -> bool:
        """Whether every voxel of the image lies on a voxel of the grid along this axis, or would beyond its ends."""
        row = self._matrix[axis]
        moving = np.abs(row[:3]) * self._counts > ROUNDING_VOXELS / 10
        whole = np.abs(row - np.rint(row)) * np.array([*self._counts, 1]) < ROUNDING_VOXELS
        return bool(whole[3] and (whole[:3] | ~moving).all())

    def _planes_of_slices(self) -> tuple[np.ndarray, np.ndarray]:
        """First and last plane that each slice reads; both never fall."""
        row, last = self._matrix[2], self._grid_size[2] - 1
        middle = row[0] * np.arange(self._counts[0]) + row[3]
        reach = [np.sort((0.0, row[n] * (self._counts[n] - 1))) for n in (1, 2)]
        low = np.floor(middle + reach[0][0] + reach[1][0] - ROUNDING_VOXELS)
        high = np.floor(middle + reach[0][1] + reach[1][1] + 0.5 + ROUNDING_VOXELS) + 1
        return np.clip(low, 0, last).astype(int), np.clip(high, 0, last).astype(int)
