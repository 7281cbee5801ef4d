"""Where a correction may change a motion: near points and regions, on a window of the motion's own grid."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt

from ..geometry import Geometry
from ..image import Labels
from .displacement import grid_coordinates
from .flow import DisplacementField
from .terms import region_voxels

FULL_SHARE = 0.5  # of the reach, within which everything may change
MARGIN_VOXELS = 2  # that stay as they are, around those that may change


@dataclass(frozen=True, eq=False)
class Confined:
    """A motion that may change in part.

    Attributes:
        base: [3, K, J, I], the motion as it was, in voxels of its grid.
        weight: [K, J, I], 1 where it may become anything, 0 where it stays.
    """

    base: torch.Tensor
    weight: torch.Tensor

    def applied(self, vectors: torch.Tensor) -> torch.Tensor:
        """A changed motion [3, K, J, I], as far as it may change."""
        return torch.lerp(self.base, vectors, self.weight)


@dataclass(frozen=True, eq=False)
class Window:
    """A box of voxels of a motion's grid.

    Attributes:
        inside: where it lies, along k, j and i.
        geometry: its own grid.
        weight: [K, J, I], how far each of its vectors may change, 0..1.
    """

    inside: tuple[slice, slice, slice]
    geometry: Geometry
    weight: torch.Tensor

    @classmethod
    def around(cls, weight: torch.Tensor, geometry: Geometry) -> Window:
        """The smallest box around all voxels of a weight [K, J, I] above 0, and two voxels more."""
        inside = []
        for indices, n in zip((weight > 0).nonzero().T, weight.shape, strict=True):
            first, last = int(indices.min()), int(indices.max())
            inside.append(slice(max(0, first - MARGIN_VOXELS), min(n, last + 1 + MARGIN_VOXELS)))
        along_k, along_j, along_i = inside
        k, j, i = (part.stop - part.start for part in inside)
        own = geometry.window((along_i.start, along_j.start, along_k.start), (i, j, k))
        return cls((along_k, along_j, along_i), own, weight[along_k, along_j, along_i])

    def taken_from(self, flow: DisplacementField) -> torch.Tensor:
        """The vectors [3, K, J, I] of a flow inside; in voxels, which are the same."""
        along_k, along_j, along_i = self.inside
        return flow.vectors[:, along_k, along_j, along_i]

    def put_into(self, flow: DisplacementField, vectors: torch.Tensor) -> DisplacementField:
        """A flow with other vectors inside."""
        along_k, along_j, along_i = self.inside
        whole = flow.vectors.clone()
        whole[:, along_k, along_j, along_i] = vectors
        return replace(flow, vectors=whole)


def fading(distance_mm: torch.Tensor, reach_mm: float) -> torch.Tensor:
    """1 up to half the reach, falling smoothly to 0 at the reach."""
    left = ((1 - distance_mm / reach_mm) / (1 - FULL_SHARE)).clamp(0, 1)
    return left.square() * (3 - 2 * left)


def distance_to_points(geometry: Geometry, points_ras: np.ndarray, like: torch.Tensor) -> torch.Tensor:
    """[K, J, I] in mm, from each voxel to the nearest of the points [N, 3] in RAS mm; infinite without points."""
    distance = like.new_full(geometry.shape_kji, torch.inf)
    places, to_mm = grid_coordinates(distance), like.new_tensor(geometry.ijk_to_ras[:3, :3])
    for voxel in geometry.map_points(points_ras):
        apart = (places - like.new_tensor(voxel)) @ to_mm.T
        torch.minimum(distance, apart.norm(dim=-1), out=distance)
    return distance


def distance_to_region(geometry: Geometry, labels: Labels, like: torch.Tensor) -> torch.Tensor:
    """[K, J, I] in mm, from each voxel to the nearest one of a region, which are the label values above 0."""
    outside = np.ones(geometry.size_ijk[::-1], bool)
    for voxels in region_voxels(labels, geometry).values():
        outside.reshape(-1)[voxels.numpy()] = False
    return torch.as_tensor(distance_transform_edt(outside, sampling=geometry.spacing_mm[::-1])).to(like)
