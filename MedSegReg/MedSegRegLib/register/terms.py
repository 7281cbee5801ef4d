"""What a user may add to the images: pairs of points that should meet, and regions that must stay rigid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ..geometry import Geometry
from ..image import Labels
from ..sampling import sample_linear
from .displacement import grid_coordinates
from .filters import AxisMatrices, filter_axes, gathering_axes
from .landmarks import splat

ROUNDING = 1e-6  # a share of a voxel that is none
LANDMARK_STEEPNESS = 20.0  # beside that of a usual edge of the images


@dataclass(frozen=True, eq=False)
class LandmarkTerm:
    """Pairs of points pull the flow as springs do.

    Attributes:
        fixed_ras, target_ras: [N, 3] mm; where the flow should take the first, before the linear part.
    """

    fixed_ras: np.ndarray
    target_ras: np.ndarray

    def on(self, grid: Geometry, sigma_mm: float, grid_voxels: torch.Tensor) -> LandmarkPull:
        """The term for flows on a grid.

        Args:
            sigma_mm: of the neighbourhood of a point.
            grid_voxels: [3, 1, 1, 1], what the smallest image spacing is in voxels of the grid.
        """
        points, targets = (
            grid_voxels.new_tensor(grid.map_points(points)) for points in (self.fixed_ras, self.target_ras)
        )
        return LandmarkPull(points, targets - points, gathering_axes(grid, grid, sigma_mm, grid_voxels), grid_voxels)


@dataclass(frozen=True, eq=False)
class LandmarkPull:
    """A :class:`LandmarkTerm` on a grid: points [N, 3] and the motion they want [N, 3], in voxels."""

    points: torch.Tensor
    motion: torch.Tensor
    neighbourhoods: AxisMatrices
    grid_voxels: torch.Tensor

    def gather(self, field: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Under a displacement: minus the mean squared distance in image voxels, and [4, K, J, I], force and
        steepness summed over neighbourhoods.
        """
        lacking = self.motion.T - sample_linear(field, self.points)
        lacking = lacking / self.grid_voxels.reshape(3, 1)
        values = LANDMARK_STEEPNESS * torch.cat((lacking, torch.ones_like(lacking[:1])))
        k, j, i = field.shape[1:]
        sums = filter_axes(splat(self.points, values, (k, j, i)), self.neighbourhoods)
        return -lacking.square().sum(dim=0).mean(), sums


@dataclass(frozen=True, eq=False)
class RigidRegions:
    """Regions of the fixed image that move as rigid bodies, one a label value.

    Attributes:
        labels: on the fixed grid.
    """

    labels: Labels

    def on(self, grid: Geometry, like: torch.Tensor) -> RigidBodies:
        """The bodies as they lie on the grid of a flow."""
        bodies = [voxels.to(like.device) for voxels in region_voxels(self.labels, grid).values()]
        return RigidBodies(bodies, np.asarray(grid.ijk_to_ras[:3, :3]))


def region_voxels(labels: Labels, grid: Geometry) -> dict[int, torch.Tensor]:
    """For each label value above 0, the flat indices of all voxels of a grid between which one of its voxels lies."""
    voxels = {}
    for value in labels.tensor.unique().tolist():
        if value == 0:
            continue
        inside = (labels.tensor == value).nonzero().flip(1).cpu().numpy()
        places = torch.from_numpy(grid.map_points(labels.geometry.map_voxels(inside)))
        spread = splat(places, places.new_ones((1, len(places))), grid.shape_kji)[0]
        voxels[value] = (spread > ROUNDING).flatten().nonzero().flatten()
    return voxels


@dataclass(frozen=True, eq=False)
class RigidBodies:
    """Indices of the grid voxels of each body, and the grid's 3x3 matrix to mm."""

    bodies: list[torch.Tensor]
    to_mm: np.ndarray

    def stiffened(self, vectors: torch.Tensor) -> torch.Tensor:
        """A displacement [3, K, J, I] in voxels, with the least-squares rigid motion (Kabsch 1976) in every body."""
        places, motion = grid_coordinates(vectors).reshape(-1, 3), vectors.flatten(1).clone()
        to_mm = vectors.new_tensor(self.to_mm)
        from_mm = torch.linalg.inv(to_mm)
        for body in self.bodies:
            before = places[body] @ to_mm.T
            after = before + motion[:, body].T @ to_mm.T
            middle, middle_after = before.mean(dim=0), after.mean(dim=0)
            u, _, vh = torch.linalg.svd((before - middle).T @ (after - middle_after))
            side = torch.ones_like(middle)
            side[2] = torch.linalg.det(u @ vh).sign()
            turn = (u * side) @ vh
            moved = (before - middle) @ turn + middle_after
            motion[:, body] = ((moved - before) @ from_mm.T).T
        return motion.view_as(vectors)
