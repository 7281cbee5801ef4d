"""How far two surfaces are apart, in millimetres. Evaluation, second stop, for structures that are in both label maps.

A surface is the set of its *surface elements*: every cell between 2x2x2 voxel centres that holds both inside and
outside, weighted by the area of the marching-cubes patch in it (Nikolov et al. 2021, "Clinically applicable
segmentation of head and neck anatomy", and their package ``surface-distance``, whose numbers are reproduced here).
Unlike the count of border voxels, this does not depend on the voxel's shape, so that thick slices weigh right.
Distances are taken between positions in space: oblique, left-handed and sheared grids need no special case.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.spatial import KDTree
from skimage.measure import marching_cubes

from ..errors import InputError

CORNERS = tuple(itertools.product((0, 1), repeat=3))
ROUNDING_MM = 1e-6


@dataclass(frozen=True, eq=False)
class SurfaceDistances:
    """From every surface element of each mask to the nearest one of the other.

    Attributes:
        truth_mm: [N] distances from the truth's elements, ascending; ``truth_mm2``: [N] their areas.
        prediction_mm: [M] distances from the prediction's elements, ascending; ``prediction_mm2``: [M] their areas.
    """

    truth_mm: np.ndarray
    truth_mm2: np.ndarray
    prediction_mm: np.ndarray
    prediction_mm2: np.ndarray

    @property
    def hd95_mm(self) -> float:
        """95th percentile Hausdorff distance: the larger of the two directions' area-weighted percentiles."""
        return max(
            _percentile(self.truth_mm, self.truth_mm2, 0.95), _percentile(self.prediction_mm, self.prediction_mm2, 0.95)
        )

    @property
    def assd_mm(self) -> float:
        """Average symmetric surface distance: area-weighted mean over the elements of both surfaces together."""
        total = self.truth_mm @ self.truth_mm2 + self.prediction_mm @ self.prediction_mm2
        return float(total / (self.truth_mm2.sum() + self.prediction_mm2.sum()))

    def nsd(self, tolerance_mm: float) -> float:
        """Normalised surface Dice: the part of both surfaces that is within the tolerance of the other, 0..1."""
        limit = tolerance_mm + ROUNDING_MM
        near = self.truth_mm2[self.truth_mm <= limit].sum() + self.prediction_mm2[self.prediction_mm <= limit].sum()
        return float(near / (self.truth_mm2.sum() + self.prediction_mm2.sum()))


def measure_surfaces(truth: np.ndarray, prediction: np.ndarray, axes_mm: np.ndarray) -> SurfaceDistances:
    """Distances between the surfaces of two masks. A mask that touches the border of the array is closed there.

    Args:
        truth, prediction: [K, J, I] bool, same shape; cropped to their common box for speed.
        axes_mm: [3, 3], column n is the step along voxel axis n (i, j, k) in mm: ``geometry.ijk_to_ras[:3, :3]``.

    Raises:
        InputError: a mask is empty; then there is no distance, and the caller decides what that means.
    """
    if not truth.any() or not prediction.any():
        raise InputError(
            "A mask without voxels has no surface",
            "at least one voxel in both masks",
            "score empty masks by compare_labels",
        )
    truth_points, truth_mm2 = _surface_elements(truth, axes_mm)
    prediction_points, prediction_mm2 = _surface_elements(prediction, axes_mm)
    truth_mm = _nearest_mm(truth_points, prediction_points)
    prediction_mm = _nearest_mm(prediction_points, truth_points)
    first, second = np.argsort(truth_mm), np.argsort(prediction_mm)
    return SurfaceDistances(truth_mm[first], truth_mm2[first], prediction_mm[second], prediction_mm2[second])


def _surface_elements(mask: np.ndarray, axes_mm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centres [N, 3] in mm (from the first cell) and areas [N] in mm2 of the cells that the surface passes."""
    padded = np.pad(mask.astype(np.uint8), 1)
    cells = np.zeros([n - 1 for n in padded.shape], np.uint8)  # bit n: corner n is inside
    for bit, corner in enumerate(CORNERS):
        window = tuple(slice(c, n - 1 + c) for c, n in zip(corner, padded.shape, strict=True))
        cells |= padded[window] << bit
    kji = np.argwhere((cells > 0) & (cells < 255))
    areas = np.array([_area(triangles, axes_mm) for triangles in _patches()])
    return kji[:, ::-1] @ axes_mm.T, areas[cells[tuple(kji.T)]]


def _nearest_mm(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    # A plain tree: on lattice points up to 15 times as fast as SciPy's default where one surface encloses the other.
    return KDTree(others, compact_nodes=False, balanced_tree=False).query(points)[0]


def _area(triangles_ijk: np.ndarray, axes_mm: np.ndarray) -> float:
    a, b, c = np.moveaxis(triangles_ijk @ axes_mm.T, 1, 0)
    return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)


@lru_cache(maxsize=1)
def _patches() -> tuple[np.ndarray, ...]:
    """For each of the 256 cells the marching-cubes triangles [T, 3, 3] in voxels (i, j, k).

    A cell with more than four corners inside has the patch of its complement: so the areas do not change when inside
    and outside are exchanged.
    """
    patches = [np.zeros((0, 3, 3))] * 256
    for cell in range(1, 255):
        inside = cell if cell.bit_count() <= 4 else 255 - cell
        corners = np.array([inside >> bit & 1 for bit in range(8)], np.float32).reshape(2, 2, 2)
        vertices, faces, _, _ = marching_cubes(corners, 0.5, method="lorensen")
        patches[cell] = vertices[faces][:, :, ::-1].astype(np.float64)
    return tuple(patches)


def _percentile(distances_mm: np.ndarray, areas_mm2: np.ndarray, share: float) -> float:
    reached = np.cumsum(areas_mm2) / areas_mm2.sum()
    return float(distances_mm[min(int(np.searchsorted(reached, share)), len(distances_mm) - 1)])
