"""What the stages found, as transforms: the linear part, and the flow that goes before it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from ..sampling import map_voxel_planes, plane_slabs, sample_linear
from ..transform import Affine, Displacement, Transform
from .displacement import solve_inverse, to_displacement
from .flow import Flow

FINER = 2.0
INVERSE_ITERATIONS = 25


@dataclass(frozen=True, eq=False)
class Solution:
    """``x_moving = matrix flow(x_fixed)``; ``flow`` is None for a linear registration."""

    matrix: np.ndarray
    flow: Flow | None = None

    @cached_property
    def transform(self) -> Transform:
        """Fixed RAS to moving RAS, on the CPU."""
        linear = Transform((Affine(self.matrix),))
        if self.flow is None:
            return linear
        dense = to_displacement(self.flow.displacement().cpu(), self.flow.geometry)
        return Transform((dense,)).then(linear)

    @cached_property
    def inverse(self) -> Transform:
        """Moving RAS to fixed RAS, on the CPU."""
        linear = Transform((Affine(self.matrix).inverse(),))
        return linear if self.flow is None else linear.then(Transform((_inverse(self.flow),)))


def _inverse(flow: Flow) -> Displacement:
    """The inverse of the displacement as it is exported, linear between voxels, on a grid of half its spacing.

    Where a flow compresses, its inverse varies within a voxel: on the flow's own grid it would be wrong by tenths of
    a voxel between voxels.
    """
    field, guess = flow.displacement(), flow.displacement(-1.0)
    grid = flow.geometry
    i, j, k = (spacing / FINER if n > 1 else spacing for spacing, n in zip(grid.spacing_mm, grid.size_ijk, strict=True))
    fine = grid.with_spacing((i, j, k))
    to_coarse = torch.as_tensor(grid.ras_to_ijk @ fine.ijk_to_ras).to(field)
    to_mm = torch.tensor(grid.ijk_to_ras[:3, :3]).to(field)
    vectors = field.new_empty((3, *fine.shape_kji))
    for start, stop in plane_slabs(fine.size_ijk, field.device):
        places = map_voxel_planes(to_coarse, fine.size_ijk, start, stop)
        near = sample_linear(guess, places).movedim(0, -1)
        vectors[:, start:stop] = (solve_inverse(field, places, near, INVERSE_ITERATIONS) @ to_mm.T).movedim(-1, 0)
    return Displacement(vectors.cpu(), fine)
