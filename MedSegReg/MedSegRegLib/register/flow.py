"""What the dense stage moves: a motion on a grid of its own, coarser than the images, that can be stepped and undone.

A flow maps fixed points to fixed points, before the linear part. Two kinds: a :class:`VelocityField` is constant in
time and its inverse is exact, ``exp(-v)``; a :class:`DisplacementField` is composed of small steps, reaches sharper
motions, and its inverse is found by iteration.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from ..geometry import Geometry
from .displacement import compose, exponentiate, grid_coordinates, invert, resize_field, squarings_for
from .logarithm import logarithm

INVERSE_ITERATIONS = 15  # a guess is enough
SEARCH_STEP_VOXELS = 1.0  # of the first piece of a path while searching; the result takes the exact one


@dataclass(frozen=True, eq=False)
class VelocityField:
    """A stationary velocity and its grid.

    Attributes:
        vectors: [3, K, J, I] in voxels of ``geometry``, zero on its border.
    """

    vectors: torch.Tensor
    geometry: Geometry

    @classmethod
    def from_displacement(cls, field: torch.Tensor, geometry: Geometry) -> VelocityField:
        """The flow nearest to a displacement [3, K, J, I] in voxels."""
        return cls(logarithm(field)[0], geometry)

    def longest(self, margin_voxels: float) -> torch.Tensor:
        """Scalar tensor: no vector is longer while each component grows by at most a margin; in voxels."""
        return (self.vectors.abs() + margin_voxels).square_().sum(dim=0).max().sqrt()

    def squarings_of(self, longest_voxels: float) -> int:
        """How often to square while no vector is longer."""
        return squarings_for(longest_voxels, SEARCH_STEP_VOXELS)

    def squarings(self, margin_voxels: float) -> int:
        """How often to square while the velocity grows by at most a margin. Reads one number from the device."""
        return self.squarings_of(float(self.longest(margin_voxels)))

    def field(self, squarings: int, sign: float = 1.0) -> torch.Tensor:
        """``exp(v)`` or ``exp(-v)`` in voxels, with so many squarings: without a look at the values."""
        return exponentiate(sign * self.vectors, grid_coordinates(self.vectors), squarings=squarings)

    def stepped(self, update: torch.Tensor) -> VelocityField:
        """After a small motion more: the sum of log-domain demons, exact to first order."""
        return replace(self, vectors=self.vectors + update)

    def displacement(self, sign: float = 1.0) -> torch.Tensor:
        """``exp(v)``, or with sign -1 its inverse ``exp(-v)``: [3, K, J, I] in voxels."""
        return exponentiate(sign * self.vectors, grid_coordinates(self.vectors))


@dataclass(frozen=True, eq=False)
class DisplacementField:
    """A displacement and its grid.

    Attributes:
        vectors: [3, K, J, I] in voxels of ``geometry``, zero on its border.
    """

    vectors: torch.Tensor
    geometry: Geometry

    @classmethod
    def from_displacement(cls, field: torch.Tensor, geometry: Geometry) -> DisplacementField:
        """As it is, in voxels."""
        return cls(field, geometry)

    def longest(self, margin_voxels: float) -> torch.Tensor:
        """Nobody needs it."""
        return self.vectors.new_zeros(())

    def squarings_of(self, longest_voxels: float) -> int:
        """None is needed."""
        return 0

    def squarings(self, margin_voxels: float) -> int:
        """None is needed."""
        return 0

    def field(self, squarings: int, sign: float = 1.0) -> torch.Tensor:
        """See :meth:`displacement`."""
        return self.displacement(sign)

    def stepped(self, update: torch.Tensor) -> DisplacementField:
        """After a small motion more, which goes first."""
        return replace(self, vectors=compose(self.vectors, update, grid_coordinates(update)))

    def displacement(self, sign: float = 1.0) -> torch.Tensor:
        """Itself, or with sign -1 its inverse by iteration: [3, K, J, I] in voxels."""
        return self.vectors if sign > 0 else invert(self.vectors, iterations=INVERSE_ITERATIONS)


Flow = VelocityField | DisplacementField


def resized(flow: Flow, geometry: Geometry) -> Flow:
    """The same motion on another grid over the same field of view."""
    return replace(flow, vectors=resize_field(flow.vectors, flow.geometry, geometry), geometry=geometry)
