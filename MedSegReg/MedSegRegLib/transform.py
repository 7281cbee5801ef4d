"""Where a point of the fixed image lies in the moving image: what a registration yields.

One direction everywhere: a transform maps **fixed RAS millimetres to moving RAS millimetres**
(``x_moving = T(x_fixed)``). It is ITK's resampling direction (there in LPS) and Slicer's *transform from
parent* of a node that the moving volume is placed under.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from .errors import InputError, InvalidGeometry
from .geometry import Geometry, translation
from .sampling import map_affine, map_voxel_planes, plane_slabs, sample_linear


@dataclass(frozen=True, eq=False)
class Affine:
    """A linear stage: ``x_moving = matrix @ x_fixed``, 4x4 float64 in RAS mm.

    Raises:
        InvalidGeometry: the matrix is not finite, not affine or not invertible.
    """

    matrix: np.ndarray

    def __post_init__(self) -> None:
        matrix = np.array(self.matrix, np.float64)
        affine = matrix.shape == (4, 4) and np.isfinite(matrix).all() and np.allclose(matrix[3], (0, 0, 0, 1))
        if not affine or abs(np.linalg.det(matrix[:3, :3])) < 1e-9:
            raise InvalidGeometry(
                f"The linear transform is {np.array2string(matrix, precision=4).replace(chr(10), '')}",
                "a finite, invertible 4x4 matrix with last row 0 0 0 1",
                "choose another initial transform",
            )
        matrix.setflags(write=False)
        object.__setattr__(self, "matrix", matrix)

    def inverse(self) -> Affine:
        """From moving to fixed."""
        return Affine(np.linalg.inv(self.matrix))

    def map_about(self, points: torch.Tensor, centre: np.ndarray) -> torch.Tensor:
        """Map points [..., 3] given, and returned, relative to ``centre`` (mm)."""
        local = translation(-centre) @ self.matrix @ translation(centre)
        return map_affine(torch.as_tensor(local).to(points), points)


@dataclass(frozen=True, eq=False)
class Displacement:
    """A dense stage: ``x_moving = x_fixed + u(x_fixed)``.

    Attributes:
        vectors_ras_mm: [3, K, J, I] floating point, the vector u (r, a, s) at each voxel of ``geometry``;
            linear between voxels, zero outside the grid as in ITK.
        geometry: the grid that carries the vectors.

    Raises:
        InputError: shape does not fit the grid, or vectors are not finite.
    """

    vectors_ras_mm: torch.Tensor
    geometry: Geometry

    def __post_init__(self) -> None:
        shape = tuple(self.vectors_ras_mm.shape)
        if shape != (3, *self.geometry.shape_kji):
            raise InputError(
                f"The displacement field has shape {shape}",
                f"{(3, *self.geometry.shape_kji)}",
                "give vectors (r, a, s) as [3, K, J, I] on the grid",
            )
        if not torch.isfinite(self.vectors_ras_mm).all():
            bad = int((~torch.isfinite(self.vectors_ras_mm)).sum())
            raise InputError(
                f"{bad} components of the displacement field are not finite",
                "finite millimetres",
                "compute the transform again",
            )

    def map_about(self, points: torch.Tensor, centre: np.ndarray) -> torch.Tensor:
        """Map points [..., 3] given, and returned, relative to ``centre`` (mm)."""
        to_ijk = torch.as_tensor(self.geometry.ras_to_ijk @ translation(centre)).to(points)
        vectors = sample_linear(self.vectors_ras_mm.to(points), map_affine(to_ijk, points), fill=0.0)
        return points + vectors.movedim(0, -1)


@dataclass(frozen=True, eq=False)
class Transform:
    """A chain of stages; the first one is applied to the fixed point first. No stage is the identity.

    >>> move = np.eye(4); move[0, 3] = 5.0
    >>> Transform((Affine(move),)).map_points(np.array([[0.0, 0.0, 0.0]]))
    array([[5., 0., 0.]])
    """

    stages: tuple[Affine | Displacement, ...] = ()

    @property
    def matrix(self) -> np.ndarray | None:
        """The whole chain as one 4x4 float64 matrix, or None when a stage is dense."""
        return self.linear_part if all(isinstance(stage, Affine) for stage in self.stages) else None

    @property
    def linear_part(self) -> np.ndarray:
        """The product of the linear stages, 4x4 float64: the whole chain without its displacements."""
        whole = np.eye(4)
        for stage in self.stages:
            if isinstance(stage, Affine):
                whole = stage.matrix @ whole
        return whole

    def then(self, other: Transform) -> Transform:
        """First this transform, then the other."""
        return Transform(self.stages + other.stages)

    def map_about(self, points: torch.Tensor, centre: np.ndarray) -> torch.Tensor:
        """Map points [..., 3] given, and returned, relative to ``centre`` (mm): float32 stays precise far from 0."""
        for stage in self.stages:
            points = stage.map_about(points, centre)
        return points

    def map_points(self, points_ras: np.ndarray) -> np.ndarray:
        """Fixed points [N, 3] in RAS mm to moving points [N, 3], in float64."""
        points = np.asarray(points_ras, np.float64)
        centre = points.mean(axis=0) if len(points) else np.zeros(3)
        return self.map_about(torch.from_numpy(points - centre), centre).numpy() + centre

    def to_displacement(self, geometry: Geometry, device: torch.device | str = "cpu") -> Displacement:
        """The whole chain as one dense float32 field on a grid (its linear part included)."""
        vectors = torch.empty((3, *geometry.shape_kji), device=device)
        for start, ras, moved, _ in self.map_grid(geometry, vectors):
            vectors[:, start : start + ras.shape[0]] = (moved - ras).movedim(-1, 0)
        return Displacement(vectors, geometry)

    def map_grid(self, geometry: Geometry, like: torch.Tensor):
        """Walk over the voxels of a grid in slabs of planes, with bounded memory.

        Yields:
            (first plane, fixed points, moving points, centre): points are [planes, J, I, 3] mm relative to centre.
        """
        centre = geometry.centre_ras
        to_ras = torch.as_tensor(translation(-centre) @ geometry.ijk_to_ras).to(like)
        for start, stop in plane_slabs(geometry.size_ijk):
            ras = map_voxel_planes(to_ras, geometry.size_ijk, start, stop)
            yield start, ras, self.map_about(ras, centre), centre
