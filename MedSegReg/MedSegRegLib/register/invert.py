"""The inverse of any chain: every stage undone, the last one first. For transforms that came without an inverse."""

from __future__ import annotations

import numpy as np
import torch

from ..geometry import Geometry, translation
from ..transform import Affine, Displacement, Transform
from .displacement import FINER, finer, from_displacement, inverse_displacement

MOST_FINER_VECTORS = 1 << 24
ITERATIONS = 60
POINTS_OF_THE_FIT = 5000
LEFT_BY_THE_FIT = 0.5


def invert(transform: Transform) -> Transform:
    """Moving RAS to fixed RAS, for any chain from fixed to moving.

    Linear stages are inverted exactly, displacements by fixed-point iteration (Chen 2008). A field that carries a
    linear motion as well, up to its border, is taken apart first, which lets large rotations and shifts be inverted.
    Where a field folds there is no inverse; measure the result with
    :func:`~MedSegRegLib.evaluate.deformation.inverse_consistency`.

    >>> shift = np.eye(4); shift[0, 3] = 5.0
    >>> invert(Transform((Affine(shift),))).map_points(np.zeros((1, 3)))
    array([[-5.,  0.,  0.]])
    """
    return Transform(tuple(part for stage in reversed(transform.stages) for part in _undo(stage)))


def fit_linear(points: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """The 4x4 matrix that takes points [N, 3] to ``moved`` with the least squares; what they leave open stays as it is.

    A slice leaves open what happens across it: the matrix does nothing there.
    """
    centre = points.mean(axis=0)
    motion = moved - points
    slope = np.linalg.lstsq(points - centre, motion - motion.mean(axis=0), rcond=1e-6)[0].T
    matrix = np.eye(4)
    matrix[:3, :3] += slope
    return translation(motion.mean(axis=0)) @ translation(centre) @ matrix @ translation(-centre)


def border_motion_mm(displacement: Displacement) -> float:
    """Length of the longest vector on the border of a field: outside it nothing moves, so the motion jumps by that."""
    length = displacement.vectors_ras_mm.norm(dim=0)
    faces = [length.select(axis, end) for axis in range(3) if length.shape[axis] > 1 for end in (0, -1)]
    return float(max(face.max() for face in faces)) if faces else float(length.max())


def _undo(stage: Affine | Displacement) -> tuple[Affine | Displacement, ...]:
    if isinstance(stage, Affine):
        return (stage.inverse(),)
    matrix = _linear_motion(stage)
    if matrix is None:
        return (_inverse_displacement(stage),)
    back = Affine(matrix).inverse()
    rest = Transform((stage, back)).to_displacement(stage.geometry)
    return back, _inverse_displacement(rest)


def _linear_motion(field: Displacement) -> np.ndarray | None:
    """The linear part of a field that moves its border and is mostly linear; None for a mere deformation."""
    if border_motion_mm(field) <= field.geometry.finest_spacing_mm:
        return None
    vectors = field.vectors_ras_mm.reshape(3, -1)
    places = np.linspace(0, vectors.shape[1] - 1, min(vectors.shape[1], POINTS_OF_THE_FIT)).astype(int)
    k, j, i = np.unravel_index(places, field.geometry.shape_kji)
    points = field.geometry.map_voxels(np.stack((i, j, k), axis=1))
    motion = vectors[:, torch.from_numpy(places)].T.double().numpy()
    matrix = fit_linear(points, points + motion)
    left = points @ matrix[:3, :3].T + matrix[:3, 3] - points - motion
    return matrix if np.square(left).sum() < LEFT_BY_THE_FIT**2 * np.square(motion).sum() else None


def _inverse_displacement(displacement: Displacement) -> Displacement:
    """The inverse on a grid that holds all that the field reaches, at half its spacing where memory allows."""
    field, grid = from_displacement(displacement).float(), displacement.geometry
    window = _reached(field, grid)
    if np.prod(window.size_ijk, dtype=float) * FINER**3 <= MOST_FINER_VECTORS:
        window = finer(window)
    return inverse_displacement(field, -field, grid, window, ITERATIONS)


def _reached(field: torch.Tensor, grid: Geometry) -> Geometry:
    """The field's grid, widened by whole voxels to hold every point that its voxels are taken to."""
    first, last = [], []
    for axis, n in enumerate(grid.size_ijk):
        own = torch.arange(n).reshape([-1 if a == 2 - axis else 1 for a in range(3)])
        reached = own + field[axis]
        first.append(min(0, int(reached.min().floor())) if n > 1 else 0)
        last.append(max(n - 1, int(reached.max().ceil())) if n > 1 else 0)
    size = [end - start + 1 for start, end in zip(first, last, strict=True)]
    return grid.window((first[0], first[1], first[2]), (size[0], size[1], size[2]))
