"""One pair of studies at one scale under a flow: the moved image, how alike it is, and where it wants to go.

Images stay on their own grid and pass by in slabs of planes; the motion lives on a coarser grid, which is read by
linear interpolation and answered to by sums over Gaussian neighbourhoods of its voxels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from ..geometry import Geometry
from ..sampling import plane_slabs
from .dispatch import use_kernels
from .filters import AxisMatrices, filter_axes, gathering_axes, resize_axes
from .match import Match
from .pyramid import Pair
from .settings import DenseSimilarityName
from .similarity import image_gradient, prepare_similarity

PLANES_APART = 1  # a difference across a slab's end needs one plane more
FAINT_NEIGHBOUR = 1e-12  # a smaller weight in a neighbourhood is 0


@dataclass(frozen=True, eq=False)
class _Slab:
    """Planes of the fixed image; planes of the flow's grid that they are interpolated from, and that their
    neighbourhoods reach; and the matrices from and to these.
    """

    planes: slice
    near: slice
    from_grid: AxisMatrices
    reached: slice
    to_grid: AxisMatrices


class Comparison:
    """A pair, compared on the fixed grid while a flow on another grid moves it.

    Args:
        pair: the studies at this scale.
        matrix: 4x4, fixed RAS to moving RAS; applied after the flow.
        grid: of the flow; same centre and directions as the fixed grid.
        similarity, window_radius: see ``settings``.
        neighbourhood_voxels: sigma of the Gaussian neighbourhoods, in voxels of the fixed image.
    """

    def __init__(
        self,
        pair: Pair,
        matrix: np.ndarray,
        grid: Geometry,
        similarity: DenseSimilarityName,
        window_radius: int,
        neighbourhood_voxels: float,
    ) -> None:
        self.pair, self.grid = pair, grid
        self._matrix, self._name, self._window_radius = matrix, similarity, window_radius
        self._neighbourhood_voxels = neighbourhood_voxels
        image, like = pair.fixed.geometry, pair.fixed.intensity
        smallest = image.finest_spacing_mm
        self._slabs = _slabs(grid, image, neighbourhood_voxels * smallest, like)
        metric = np.linalg.inv(image.ijk_to_ras[:3, :3].T @ image.ijk_to_ras[:3, :3]) * smallest**2
        self._metric = None if np.allclose(metric, np.eye(3), atol=1e-6) else torch.as_tensor(metric).to(like)
        self._in_smallest = like.new_tensor(np.asarray(image.spacing_mm) / smallest).reshape(3, 1, 1, 1)
        to_moving = pair.moving.geometry.ras_to_ijk @ matrix
        self._image_to_moving = torch.as_tensor(to_moving @ image.ijk_to_ras).to(like)
        self._grid_to_moving = torch.as_tensor(to_moving[:3, :3] @ grid.ijk_to_ras[:3, :3]).to(like)
        to_grid = torch.as_tensor(grid.ras_to_ijk @ image.ijk_to_ras).to(like)
        self._places = torch.cat(
            (self._image_to_moving[:3].flatten(), self._grid_to_moving.flatten(), to_grid.diag()[:3], to_grid[:3, 3])
        )

    def reversed(self) -> Comparison:
        """The other way round: the fixed image moves, by the inverse flow, onto the moving one in fixed space."""
        moving = self.pair.moving.resampled(self._matrix, self.pair.fixed.geometry)
        back = Pair(moving, self.pair.fixed)
        return Comparison(back, np.eye(4), self.grid, self._name, self._window_radius, self._neighbourhood_voxels)

    def prepare(self, field: torch.Tensor) -> None:
        """Decide what counts under a displacement, and make what the similarity needs of the fixed image."""
        fixed = self.pair.fixed
        if use_kernels(field):
            weight = self._warped(self.pair.moving.weight[None], field, zero_outside=True)[0].mul_(fixed.weight)
        else:
            weight = torch.empty_like(fixed.intensity[0])
            for slab, voxels in self._moving_voxels(field):
                torch.mul(fixed.weight[slab.planes], self.pair.moving.weight_at(voxels), out=weight[slab.planes])
        if bool((weight == 1).all()):
            weight = weight.new_ones(()).expand_as(weight)
        self.weight = weight
        self.similarity = prepare_similarity(self._name, fixed.intensity, weight, fixed.geometry, self._window_radius)

    def is_matched(self, field: torch.Tensor) -> bool:
        """True when the moved image is the fixed one, voxel by voxel, under a displacement: nothing is left to do."""
        return self.pair.is_matched(self.moved(field), self.weight)

    def moved(self, field: torch.Tensor) -> torch.Tensor:
        """The moving image [C, K, J, I] under a displacement [3, K', J', I'] in voxels of the flow's grid."""
        moving = self.pair.moving
        if use_kernels(field):
            return self._warped(moving.intensity, field)
        out = moving.intensity.new_empty((len(moving.intensity), *self.pair.fixed.geometry.shape_kji))
        for slab, voxels in self._moving_voxels(field):
            out[:, slab.planes] = moving.at(voxels)
        return out

    def gather(self, field: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The similarity under a displacement, and what its image wants.

        Returns:
            The value, and [4, K', J', I']: force along i, j, k and steepness, summed over the neighbourhoods, such
            that force / steepness is a motion in units of the image's smallest spacing.
        """
        moved = self.moved(field)
        match = self.similarity.match(moved)
        sums = moved.new_zeros((4, *self.grid.shape_kji))
        for slab in self._slabs:
            terms = self._terms(moved, match, slab.planes.start, slab.planes.stop)
            sums[:, slab.reached] += filter_axes(terms, slab.to_grid)
        sums[:3].mul_(self._in_smallest)
        return match.value, sums

    def _terms(self, moved: torch.Tensor, match: Match, start: int, stop: int) -> torch.Tensor:
        """[4, k, J, I]: force along i, j, k and steepness of each voxel of a slab."""
        if use_kernels(moved):
            from .triton_kernels import slope_terms  # noqa: PLC0415 - triton is there only beside a GPU

            return slope_terms(moved, match.gradient, match.curvature, self._metric, start, stop)
        low, high = max(0, start - PLANES_APART), min(moved.shape[1], stop + PLANES_APART)
        terms = moved.new_zeros((4, stop - start, *moved.shape[2:]))
        for channel, gradient, curvature in zip(moved, match.gradient, match.curvature, strict=True):
            slope = image_gradient(channel[low:high])[:, start - low : stop - low]
            covariant = slope if self._metric is None else torch.einsum("ab,bkji->akji", self._metric, slope)
            terms[3].addcmul_((covariant * slope).sum(dim=0), curvature[start:stop])
            terms[:3].addcmul_(covariant, gradient[start:stop])
        return terms

    def _warped(self, volume: torch.Tensor, field: torch.Tensor, zero_outside: bool = False) -> torch.Tensor:
        """What :meth:`_moving_voxels` is for, without the voxels: a volume [C, ...] of the moving grid, moved."""
        from .triton_kernels import warp  # noqa: PLC0415 - triton is there only beside a GPU

        return warp(volume, field, self._places, self.pair.fixed.geometry.shape_kji, zero_outside)

    def _moving_voxels(self, field: torch.Tensor) -> Iterator[tuple[_Slab, torch.Tensor]]:
        """Slabs of the fixed image, and where their voxels lie in the moving image, [k, J, I, 3]."""
        motion = torch.einsum("rc,ckji->rkji", self._grid_to_moving, field)
        size = self.pair.fixed.geometry.size_ijk
        i, j, k = (torch.arange(n, dtype=field.dtype, device=field.device) for n in size)
        for slab in self._slabs:
            finer = filter_axes(motion[:, slab.near], slab.from_grid)
            voxels = finer.new_empty((*finer.shape[1:], 3))
            for axis, row in enumerate(self._image_to_moving[:3]):
                lines = (row[2] * k[slab.planes, None] + row[3] + row[1] * j)[..., None]
                torch.add(finer[axis].add_(lines), row[0] * i, out=voxels[..., axis])
            yield slab, voxels


def _slabs(grid: Geometry, image: Geometry, sigma_mm: float, like: torch.Tensor) -> list[_Slab]:
    from_k, from_j, from_i = resize_axes(grid, image, like)
    to_k, to_j, to_i = gathering_axes(image, grid, sigma_mm, like)
    slabs = []
    for start, stop in plane_slabs(image.size_ijk, like.device):
        near = _extent(from_k[start:stop].any(dim=0))
        reached = _extent(to_k[:, start:stop].amax(dim=1) > FAINT_NEIGHBOUR)
        slabs.append(
            _Slab(
                slice(start, stop),
                near,
                (from_k[start:stop, near], from_j, from_i),
                reached,
                (to_k[reached, start:stop], to_j, to_i),
            )
        )
    return slabs


def _extent(counted: torch.Tensor) -> slice:
    """From the first to the last index that is True."""
    indices = counted.nonzero().flatten().tolist()
    return slice(indices[0], indices[-1] + 1) if indices else slice(0, 0)
