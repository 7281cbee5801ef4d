"""Where a point of the fixed image lies in the moving image: what a registration yields.

One direction everywhere: a transform maps **fixed RAS millimetres to moving RAS millimetres**
(``x_moving = T(x_fixed)``). It is ITK's resampling direction (there in LPS) and Slicer's *transform from
parent* of a node that the moving volume is placed under.

Points are mapped by numpy in float64, grids by torch, which is imported for them only.
"""
# ruff: noqa: PLC0415 - torch and what needs it

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .errors import InputError, InvalidGeometry
from .geometry import ROUNDING_VOXELS, Geometry, translation
from .tensor_field import TensorField, as_array, held

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch


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

    def map_points(self, points_ras: np.ndarray) -> np.ndarray:
        """Points [N, 3] in RAS mm, float64."""
        return points_ras @ self.matrix[:3, :3].T + self.matrix[:3, 3]

    def map_about(self, points: torch.Tensor, centre: np.ndarray) -> torch.Tensor:
        """Map points [..., 3] given, and returned, relative to ``centre`` (mm)."""
        from .sampling import map_affine

        local = translation(-centre) @ self.matrix @ translation(centre)
        return map_affine(points.new_tensor(local), points)


@dataclass(frozen=True, eq=False)
class Displacement:
    """A dense stage: ``x_moving = x_fixed + u(x_fixed)``.

    Attributes:
        vectors_ras_mm: [3, K, J, I] floating point, the vector u (r, a, s) at each voxel of ``geometry``;
            linear between voxels, zero outside the grid as in ITK; may be given as an array.
        geometry: the grid that carries the vectors.

    Raises:
        InputError: shape does not fit the grid, or vectors are not finite.
    """

    vectors_ras_mm: TensorField = TensorField()  # noqa: RUF009 - a descriptor
    geometry: Geometry  # type: ignore[misc] # mypy takes the field before for a default

    def __post_init__(self) -> None:
        vectors = held(self, "vectors_ras_mm")
        shape = tuple(vectors.shape)
        if shape != (3, *self.geometry.shape_kji):
            raise InputError(
                f"The displacement field has shape {shape}",
                f"{(3, *self.geometry.shape_kji)}",
                "give vectors (r, a, s) as [3, K, J, I] on the grid",
            )
        if not np.isfinite([float(vectors.min()), float(vectors.max())]).all():  # fast; NaN is either
            bad = int((~np.isfinite(self.numpy())).sum())
            raise InputError(
                f"{bad} components of the displacement field are not finite",
                "finite millimetres",
                "compute the transform again",
            )

    def numpy(self) -> np.ndarray:
        """[3, K, J, I] on the CPU."""
        return as_array(self, "vectors_ras_mm")

    def map_points(self, points_ras: np.ndarray) -> np.ndarray:
        """Points [N, 3] in RAS mm, float64."""
        return points_ras + _vectors_at(self.numpy(), self.geometry.map_points(points_ras))

    def map_about(self, points: torch.Tensor, centre: np.ndarray) -> torch.Tensor:
        """Map points [..., 3] given, and returned, relative to ``centre`` (mm)."""
        from .sampling import map_affine, sample_linear

        to_ijk = points.new_tensor(self.geometry.ras_to_ijk @ translation(centre))
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
        points = np.array(points_ras, np.float64)
        for stage in self.stages:
            points = stage.map_points(points)
        return points

    def to_displacement(self, geometry: Geometry, device: torch.device | str = "cpu") -> Displacement:
        """The whole chain as one dense float32 field on a grid (its linear part included)."""
        import torch

        vectors = torch.empty((3, *geometry.shape_kji), device=device)
        for start, ras, moved, _ in self.map_grid(geometry, vectors):
            vectors[:, start : start + ras.shape[0]] = (moved - ras).movedim(-1, 0)
        return Displacement(vectors, geometry)

    def map_grid(
        self, geometry: Geometry, like: torch.Tensor
    ) -> Iterator[tuple[int, torch.Tensor, torch.Tensor, np.ndarray]]:
        """Walk over the voxels of a grid in slabs of planes, with bounded memory.

        Yields:
            (first plane, fixed points, moving points, centre): points are [planes, J, I, 3] mm relative to centre.
        """
        from .sampling import map_voxel_planes, plane_slabs

        centre = geometry.centre_ras
        to_ras = like.new_tensor(translation(-centre) @ geometry.ijk_to_ras)
        for start, stop in plane_slabs(geometry.size_ijk):
            ras = map_voxel_planes(to_ras, geometry.size_ijk, start, stop)
            yield start, ras, self.map_about(ras, centre), centre


def _vectors_at(field: np.ndarray, ijk: np.ndarray) -> np.ndarray:
    """Vectors [N, 3] of a field [3, K, J, I] at voxel coordinates [N, 3]: as of ``sample_linear`` with zero outside."""
    size = np.array(field.shape[:0:-1])
    inside = (np.abs(ijk - ((size - 1) / 2 - ROUNDING_VOXELS)) <= size / 2).all(axis=1)
    places = np.clip(ijk[inside], 0, size - 1)
    low = places.astype(np.int64)
    part, found = places - low, np.zeros((len(ijk), 3))
    for corner in np.ndindex(2, 2, 2):
        i, j, k = np.minimum(low + corner, size - 1).T
        weight = np.where(corner, part, 1 - part).prod(axis=1)
        found[inside] += weight[:, None] * field[:, k, j, i].T
    return found
