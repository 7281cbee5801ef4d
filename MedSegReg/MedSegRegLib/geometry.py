"""Where voxels are: the grid of an image in the world, and nothing else. First stop of both walks.

Points are ``(i, j, k)`` in voxels or ``(r, a, s)`` in millimetres; matrices are 4x4 float64. The two
conventions that are easy to get wrong are decided here, once:

* RAS <-> LPS: the first two world axes change sign (:data:`RAS_LPS`).
* voxel <-> ``torch.nn.functional.grid_sample``: ``align_corners=False`` (:data:`ALIGN_CORNERS`), because it
  stays defined on an axis of one voxel: ``g = (2 i + 1) / n - 1``.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .errors import EmptyVolume, InvalidGeometry

if TYPE_CHECKING:
    import torch

RAS_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
ALIGN_CORNERS = False
SHEAR_TOLERANCE = 1e-3
ROUNDING_VOXELS = 1e-4  # float32 coordinates this close below a half count as the half


def flip_ras_lps(vectors: np.ndarray) -> np.ndarray:
    """Points or vectors [..., 3] from RAS to LPS, or from LPS to RAS: it is the same flip."""
    return np.asarray(vectors) * np.array([-1.0, -1.0, 1.0])


def flip_world_matrix(matrix: np.ndarray) -> np.ndarray:
    """A 4x4 world-to-world matrix from RAS to LPS, or back."""
    return RAS_LPS @ np.asarray(matrix, np.float64) @ RAS_LPS


def translation(offset_mm: np.ndarray) -> np.ndarray:
    """The 4x4 matrix that adds an offset."""
    matrix = np.eye(4)
    matrix[:3, 3] = offset_mm
    return matrix


def voxels_to_grid(ijk: torch.Tensor, size_ijk: tuple[int, int, int]) -> torch.Tensor:
    """Voxel coordinates [..., 3] (i, j, k) to ``grid_sample`` coordinates, same shape and order."""
    size = ijk.new_tensor(size_ijk)
    return ijk * (2 / size) + (1 / size - 1)


@dataclass(frozen=True, eq=False)
class Geometry:
    """A voxel grid in the world. Oblique, anisotropic, left-handed and sheared grids are all kept as they are.

    Attributes:
        size_ijk: number of voxels along i, j, k. The array of such an image has shape (K, J, I).
        ijk_to_ras: 4x4 float64; the centre of voxel (i, j, k) is at ``ijk_to_ras @ (i, j, k, 1)`` mm.

    Raises:
        EmptyVolume: an axis has no voxel.
        InvalidGeometry: the matrix is not finite, not affine or not invertible.

    >>> g = Geometry.from_spacing((10, 20, 30), (1.0, 0.5, 2.0))
    >>> g.spacing_mm
    (1.0, 0.5, 2.0)
    >>> g.shape_kji
    (30, 20, 10)
    """

    size_ijk: tuple[int, int, int]
    ijk_to_ras: np.ndarray

    def __post_init__(self) -> None:
        size = tuple(int(n) for n in self.size_ijk)
        matrix = np.array(self.ijk_to_ras, np.float64)
        if len(size) != 3 or min(size) < 1:
            raise EmptyVolume(
                f"The grid has {size} voxels (i, j, k)",
                "at least one voxel on each of three axes",
                "load the image again; the file or the node has no voxels",
            )
        if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or not np.allclose(matrix[3], (0, 0, 0, 1)):
            raise InvalidGeometry(
                f"The IJK-to-RAS matrix is {np.array2string(matrix, precision=4).replace(chr(10), '')}",
                "4x4, finite, with last row 0 0 0 1",
                "repair the image header (spacing, origin, directions)",
            )
        spacing = np.linalg.norm(matrix[:3, :3], axis=0)
        if not spacing.all() or abs(np.linalg.det(matrix[:3, :3] / spacing)) < 1e-6:
            raise InvalidGeometry(
                f"The voxel axes span no volume (spacing {tuple(spacing.tolist())} mm)",
                "three independent axes with positive spacing",
                "repair the spacing and directions in the image header",
            )
        matrix.setflags(write=False)
        object.__setattr__(self, "size_ijk", size)
        object.__setattr__(self, "ijk_to_ras", matrix)

    @classmethod
    def from_spacing(
        cls,
        size_ijk: tuple[int, int, int],
        spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0),
        origin_ras: tuple[float, float, float] = (0.0, 0.0, 0.0),
        directions: np.ndarray | None = None,
    ) -> Geometry:
        """A grid from spacing, origin and unit direction columns (identity when None)."""
        matrix = np.eye(4)
        matrix[:3, :3] = (np.eye(3) if directions is None else np.asarray(directions)) * np.asarray(spacing_mm)
        matrix[:3, 3] = origin_ras
        return cls(size_ijk, matrix)

    @property
    def shape_kji(self) -> tuple[int, int, int]:
        """Array shape (K, J, I)."""
        i, j, k = self.size_ijk
        return k, j, i

    @property
    def ras_to_ijk(self) -> np.ndarray:
        """4x4 float64 inverse of ``ijk_to_ras``."""
        return np.linalg.inv(self.ijk_to_ras)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between voxel centres along i, j, k."""
        s = np.linalg.norm(self.ijk_to_ras[:3, :3], axis=0)
        return float(s[0]), float(s[1]), float(s[2])

    @property
    def finest_spacing_mm(self) -> float:
        """The smallest spacing; that of an axis with a single voxel, the thickness of a slice, is not looked at."""
        along = [spacing for spacing, n in zip(self.spacing_mm, self.size_ijk, strict=True) if n > 1]
        return min(along or self.spacing_mm)

    @property
    def directions(self) -> np.ndarray:
        """3x3; column n is the unit vector of voxel axis n in RAS."""
        return self.ijk_to_ras[:3, :3] / np.asarray(self.spacing_mm)

    @property
    def origin_ras(self) -> np.ndarray:
        """Centre of voxel (0, 0, 0) in mm."""
        return self.ijk_to_ras[:3, 3]

    @property
    def voxel_volume_mm3(self) -> float:
        """Volume of one voxel, right for sheared grids too."""
        return float(abs(np.linalg.det(self.ijk_to_ras[:3, :3])))

    @property
    def is_left_handed(self) -> bool:
        """True when the voxel axes form a left-handed frame in RAS."""
        return bool(np.linalg.det(self.ijk_to_ras[:3, :3]) < 0)

    @property
    def is_sheared(self) -> bool:
        """True when the voxel axes are not at right angles (cosine above 1e-3)."""
        d = self.directions
        return bool(np.abs(d.T @ d - np.eye(3)).max() > SHEAR_TOLERANCE)

    @property
    def centre_ras(self) -> np.ndarray:
        """Centre of the field of view in mm."""
        return self.map_voxels((np.asarray(self.size_ijk) - 1) / 2)

    def map_voxels(self, ijk: np.ndarray) -> np.ndarray:
        """Voxel coordinates [..., 3] to RAS mm."""
        return np.asarray(ijk, np.float64) @ self.ijk_to_ras[:3, :3].T + self.ijk_to_ras[:3, 3]

    def map_points(self, ras: np.ndarray) -> np.ndarray:
        """RAS mm points [..., 3] to voxel coordinates."""
        inverse = self.ras_to_ijk
        return np.asarray(ras, np.float64) @ inverse[:3, :3].T + inverse[:3, 3]

    def corners_ras(self) -> np.ndarray:
        """The 8 outer corners of the field of view (voxel edges, not centres), [8, 3] mm."""
        i, j, k = self.size_ijk
        return self.map_voxels(np.array(list(itertools.product((-0.5, i - 0.5), (-0.5, j - 0.5), (-0.5, k - 0.5)))))

    def same_grid(self, other: Geometry, tolerance_voxels: float = 1e-2) -> bool:
        """True when both have the same voxels at the same places, to a fraction of the smallest voxel side."""
        if self.size_ijk != other.size_ijk:
            return False
        distance = np.linalg.norm(self.corners_ras() - other.corners_ras(), axis=1).max()
        return bool(distance <= tolerance_voxels * min(self.spacing_mm))

    def window(self, start_ijk: tuple[int, int, int], size_ijk: tuple[int, int, int]) -> Geometry:
        """The grid of the voxels start..start+size of this one; may reach outside (padding)."""
        matrix = self.ijk_to_ras.copy()
        matrix[:3, 3] = self.map_voxels(np.asarray(start_ijk))
        return Geometry(size_ijk, matrix)

    def moved(self, matrix: np.ndarray) -> Geometry:
        """The same voxels at other places: ``matrix`` is 4x4, RAS mm to RAS mm."""
        return Geometry(self.size_ijk, np.asarray(matrix, np.float64) @ self.ijk_to_ras)

    def exchanged(self, order_kji: tuple[int, int, int]) -> Geometry:
        """The grid of the array whose axes are these (0, 1, 2) of this grid's (k, j, i): the same voxels and places."""
        columns = [2 - axis for axis in order_kji[::-1]]
        size = np.asarray(self.size_ijk)[columns]
        return Geometry((int(size[0]), int(size[1]), int(size[2])), self.ijk_to_ras[:, [*columns, 3]])

    def with_spacing(self, spacing_mm: tuple[float, float, float]) -> Geometry:
        """A grid of this spacing over the same field of view, sharing its centre and directions.

        The number of voxels is rounded, at least one; so the field of view changes by at most half a voxel
        on each side.
        """
        wanted = np.asarray(spacing_mm, np.float64)
        extent = np.asarray(self.size_ijk) * np.asarray(self.spacing_mm)
        size = np.maximum(1, np.rint(extent / wanted)).astype(int)
        matrix = np.eye(4)
        matrix[:3, :3] = self.directions * wanted
        matrix[:3, 3] = self.centre_ras - matrix[:3, :3] @ ((size - 1) / 2)
        return Geometry((int(size[0]), int(size[1]), int(size[2])), matrix)
