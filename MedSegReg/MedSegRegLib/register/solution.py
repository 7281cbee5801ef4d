"""What the stages found, as transforms: the linear part, and the flow that goes before it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from ..geometry import Geometry
from ..transform import Affine, Transform
from .displacement import exponentiate, grid_coordinates, to_displacement
from .filters import filter_axes, resize_axes


@dataclass(frozen=True, eq=False)
class VelocityField:
    """A stationary velocity and its grid.

    Attributes:
        velocity: [3, K, J, I] in voxels of ``geometry``, zero on its border.
    """

    velocity: torch.Tensor
    geometry: Geometry

    @classmethod
    def zero(cls, geometry: Geometry, like: torch.Tensor) -> VelocityField:
        """No motion."""
        return cls(like.new_zeros((3, *geometry.shape_kji)), geometry)

    def resized(self, geometry: Geometry) -> VelocityField:
        """The same motion on another grid over the same field of view."""
        ratio = np.asarray(self.geometry.spacing_mm) / np.asarray(geometry.spacing_mm)
        finer = filter_axes(self.velocity, resize_axes(self.geometry, geometry, self.velocity))
        return VelocityField(finer * finer.new_tensor(ratio).reshape(3, 1, 1, 1), geometry)

    def displacement(self, sign: float = 1.0) -> torch.Tensor:
        """``exp(v)``, or with sign -1 its inverse ``exp(-v)``: [3, K, J, I] in voxels."""
        return exponentiate(sign * self.velocity, grid_coordinates(self.velocity))


@dataclass(frozen=True, eq=False)
class Solution:
    """``x_moving = matrix exp(v)(x_fixed)``; ``flow`` is None for a linear registration."""

    matrix: np.ndarray
    flow: VelocityField | None = None

    @cached_property
    def transform(self) -> Transform:
        """Fixed RAS to moving RAS, on the CPU."""
        linear = Transform((Affine(self.matrix),))
        return linear if self.flow is None else _dense(self.flow, 1.0).then(linear)

    @cached_property
    def inverse(self) -> Transform:
        """Moving RAS to fixed RAS, on the CPU."""
        linear = Transform((Affine(self.matrix).inverse(),))
        return linear if self.flow is None else linear.then(_dense(self.flow, -1.0))


def _dense(flow: VelocityField, sign: float) -> Transform:
    return Transform((to_displacement(flow.displacement(sign).cpu(), flow.geometry),))
