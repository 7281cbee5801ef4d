"""The grid that a model sees of a volume. Segmentation walk: checked image -> [model grid] -> prepare.

The way back is a resampling onto the volume's own grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import numpy as np

from .geometry import Geometry


def model_grid(
    geometry: Geometry,
    spacing_mm: tuple[float | None, float | None, float | None],
    axes: str = "ras",
    stretch: bool = False,
) -> Geometry:
    """The grid a model sees: at right angles, of this spacing, covering the field of view of the volume.

    Oblique volumes keep their obliqueness (only axes are exchanged and flipped); a sheared grid is replaced by the
    nearest orthogonal one, so that the shear is undone by resampling through the true matrix.

    Args:
        geometry: of the volume.
        spacing_mm: along the grid's i, j, k; None keeps that of the volume.
        axes: ``ras``: i, j, k run nearest to right, anterior, superior; ``sar`` the other way round, and so on. Else
            the volume's axes that become the grid's i, j, k, such as ``ijk``.
        stretch: change the spacing so that a whole number of voxels covers the volume exactly.
    """
    u, _, vt = np.linalg.svd(geometry.directions)
    directions = u @ vt
    if "r" in axes:
        nearest = max(permutations(range(3)), key=lambda p: sum(abs(directions[axis, p[axis]]) for axis in range(3)))
        towards = ["ras".index(letter) for letter in axes]
        order = tuple(nearest[n] for n in towards)
        frame = directions[:, order] * np.where(directions[towards, order] < 0, -1.0, 1.0)
    else:
        order = tuple("ijk".index(letter) for letter in axes)
        frame = directions[:, order]
    extent = np.ptp((geometry.corners_ras() - geometry.centre_ras) @ frame, axis=0)
    own = np.asarray(geometry.spacing_mm)[list(order)]
    spacing = np.array([own[n] if wanted is None else wanted for n, wanted in enumerate(spacing_mm)], np.float64)
    size = np.maximum(1, np.rint(np.round(extent / spacing, 6))).astype(int)
    if stretch:
        spacing = extent / size
    matrix = np.eye(4)
    matrix[:3, :3] = frame * spacing
    matrix[:3, 3] = geometry.centre_ras - matrix[:3, :3] @ ((size - 1) / 2)
    return Geometry((int(size[0]), int(size[1]), int(size[2])), matrix)


def standard_grid(
    size_ijk: tuple[int, int, int], spacing_mm: Sequence[float], centre_ras_mm: Sequence[float]
) -> Geometry:
    """The grid along right, anterior, superior with a given centre."""
    matrix = np.diag([*spacing_mm, 1.0])
    matrix[:3, 3] = np.asarray(centre_ras_mm) - matrix[:3, :3] @ ((np.asarray(size_ijk) - 1) / 2)
    return Geometry(size_ijk, matrix)
