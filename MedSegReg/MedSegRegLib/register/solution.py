"""What the stages found, as transforms: the linear part, and the flow that goes before it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..transform import Affine, Displacement, Transform
from .displacement import finer, inverse_displacement, to_displacement
from .flow import Flow

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
    """The inverse of the displacement as it is exported, linear between voxels."""
    return inverse_displacement(
        flow.displacement(), flow.displacement(-1.0), flow.geometry, finer(flow.geometry), INVERSE_ITERATIONS
    )
