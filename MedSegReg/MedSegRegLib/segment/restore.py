"""Back to the image's own grid while planes arrive. Segmentation walk: stream -> [restore] -> labels.

Scores are interpolated linearly before the class is chosen, exactly, but only where that can matter: where all corners
of a cell of the model's grid have one label, every point in it has that label, because the scores with which a label
wins are a convex set. So most voxels are looked up, and features are read at the borders of structures alone.
"""

from __future__ import annotations

import torch

from ..geometry import Geometry
from .decide import Decision
from .slices import SliceMap, covered_window
from .stream import Planes

MIXED, LEFT_OUT = -1, -2
VOXELS_AT_ONCE = 1 << 19
BORDER_VOXELS_AT_ONCE, BORDER_VOXELS_AT_ONCE_ON_A_GPU = 1 << 13, 1 << 20  # on a CPU they stay in its cache


class Restorer:
    """Takes finished planes of the model's grid, in their order, and writes labels on another grid.

    Args:
        grid: of the planes, which follow one another along its k axis.
        geometry: of the result; any orientation, spacing and shear.
        decision: from features to labels.
        nearest: axes (0, 1, 2 of i, j, k of ``grid``) along which the nearest voxel is taken.
        confidence: also fill ``confidence``; then every voxel is interpolated.

    Attributes:
        labels: [K, J, I] on ``geometry``, on the CPU, uint8 (int32 beyond 255 labels); 0 outside the grid and where no
            tile was run.
        confidence: [2, K, J, I] uint8, margin and entropy (:meth:`Decision.confidence`); None unless asked for.
    """

    def __init__(
        self,
        grid: Geometry,
        geometry: Geometry,
        decision: Decision,
        *,
        nearest: tuple[int, ...] = (),
        confidence: bool = False,
    ) -> None:
        start, size = covered_window(geometry, grid)
        self._window = tuple(slice(s, s + n) for s, n in zip(start[::-1], size[::-1], strict=True))
        self._decision, self._map = decision, SliceMap(grid, geometry.window(start, size), nearest)
        largest = max(decision.regions) if decision.regions else decision.classes - 1
        self.labels = torch.zeros(geometry.shape_kji, dtype=torch.uint8 if largest <= 255 else torch.int32)
        self.confidence = torch.zeros((2, *geometry.shape_kji), dtype=torch.uint8) if confidence else None
        self._next_slice = 0
        self._first_plane = 0
        self._held: tuple[torch.Tensor, torch.Tensor] | None = None

    def add(self, planes: Planes) -> None:
        """Take the next planes and write the slices of the result that they complete."""
        features = planes.features
        codes = self._decision.labels(features.flatten(1)).reshape(features.shape[1:])
        if planes.covered is not None:
            codes.masked_fill_(~planes.covered, LEFT_OUT)
        if self._held is not None:
            features, codes = torch.cat((self._held[0], features), dim=1), torch.cat((self._held[1], codes))
        cells = self._cells(codes)
        ready = self._map.slices_before(self._first_plane + codes.shape[0])
        at_once = max(1, VOXELS_AT_ONCE // self._map.slice_voxels)
        for start in range(self._next_slice, ready, at_once):
            self._write(start, min(start + at_once, ready), features, cells)
        self._next_slice = max(self._next_slice, ready)
        gone = min(max(self._map.first_plane(self._next_slice) - self._first_plane, 0), codes.shape[0])
        self._held = features[:, gone:].clone(), codes[gone:].clone()
        self._first_plane += gone

    def _cells(self, codes: torch.Tensor) -> torch.Tensor:
        """The label that all corners of the cell after each voxel share, else MIXED; LEFT_OUT if one is. [n, J, I]."""
        for axis in self._map.linear_axes:
            dim = 2 - axis
            after = torch.cat(
                (codes.narrow(dim, 1, codes.shape[dim] - 1), codes.narrow(dim, codes.shape[dim] - 1, 1)), dim
            )
            codes = torch.where(codes == after, codes, torch.minimum(codes, after).clamp(max=MIXED))
        return codes

    def _write(self, start: int, stop: int, features: torch.Tensor, cells: torch.Tensor) -> None:
        """Slices start..stop-1, counted in the order in which planes complete them."""
        place = self._map.locate(start, stop, self._first_plane, cells.device)
        index = place.index(cells.shape)
        labels = torch.where(place.inside, cells.flatten()[index], LEFT_OUT)
        where = (labels == MIXED if self.confidence is None else labels != LEFT_OUT).nonzero(as_tuple=True)
        doubts = None if self.confidence is None else labels.new_zeros((2, *labels.shape), dtype=torch.uint8)
        at_once = BORDER_VOXELS_AT_ONCE if cells.device.type == "cpu" else BORDER_VOXELS_AT_ONCE_ON_A_GPU
        for part in zip(*(axis.split(at_once) for axis in where), strict=True):
            mixed = place.interpolate(features, part)
            labels[part] = self._decision.labels(mixed)
            if doubts is not None:
                doubts[:, part[0], part[1], part[2]] = self._decision.confidence(mixed)
        self._map.view(self.labels[self._window], start, stop)[:] = self._map.ordered(labels.clamp_(min=0)).to(
            self.labels.dtype
        )
        if self.confidence is not None and doubts is not None:
            for kind in range(2):
                self._map.view(self.confidence[kind][self._window], start, stop)[:] = self._map.ordered(
                    doubts[kind]
                ).cpu()
