"""Which way a grid lies, a single slice too: the directions in which its image can be moved. Below ``affine``."""

from __future__ import annotations

import numpy as np

from ..geometry import Geometry


def is_slice(geometry: Geometry) -> bool:
    """True for an image of one slice: one of its axes has a single voxel."""
    return min(geometry.size_ijk) == 1


def axis_order(geometry: Geometry) -> np.ndarray:
    """[3]: the voxel axes with those of a single voxel last."""
    return np.argsort(np.asarray(geometry.size_ijk) == 1, kind="stable")


def grid_frame(geometry: Geometry) -> np.ndarray:
    """[3, 3] orthonormal columns along the voxel axes in ``axis_order``: of a slice, the last is its normal."""
    frame, triangle = np.linalg.qr(geometry.directions[:, axis_order(geometry)])
    return frame * np.sign(np.diag(triangle))


def free_directions(geometry: Geometry) -> np.ndarray:
    """[3, D] orthonormal RAS vectors along which an image may move: R, A, S, or the two axes of a slice's plane."""
    return grid_frame(geometry)[:, :2] if is_slice(geometry) else np.eye(3)


def cell_size(geometry: Geometry) -> float:
    """Volume of a voxel in mm3; its area in mm2 for a slice, whatever its thickness."""
    thickness = np.asarray(geometry.spacing_mm)[np.asarray(geometry.size_ijk) == 1]
    return float(geometry.voxel_volume_mm3 / np.prod(thickness))


def align_planes(fixed: Geometry, moving: Geometry) -> np.ndarray:
    """[3, 3] rotation that lays the plane of a fixed slice into that of a moving slice; identity for volumes."""
    if not is_slice(fixed):
        return np.eye(3)
    frames = [grid_frame(geometry) for geometry in (fixed, moving)]
    for frame in frames:
        frame[:, 2] *= np.sign(np.linalg.det(frame))
    return frames[1] @ frames[0].T


def nearest_rotation(matrix: np.ndarray) -> np.ndarray:
    """[3, 3]: the orthonormal part of a 4x4 matrix (polar decomposition)."""
    left, _, right = np.linalg.svd(matrix[:3, :3])
    return left @ right
