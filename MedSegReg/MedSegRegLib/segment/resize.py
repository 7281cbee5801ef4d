"""Resampling axis by axis with cubic splines. Segmentation walk: checked image -> [resize] -> model's grid.

Interpolation is linear in the intensities, so along each axis it is a matrix, which scipy's own spline gives; three
matrix products resample the image, on any device. Models of nnU-Net were trained on images resampled so.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage

from ..geometry import Geometry
from ..image import Image
from ..resample import resample_image


def resize_cubic(image: Image, grid: Geometry, nearest: tuple[int, ...] = ()) -> Image:
    """The image on a grid whose axes are those of the image, exchanged or flipped; the border is repeated outside.

    Values stay within the range of each channel (of each slice across a ``nearest`` axis), as in scikit-image's
    ``resize`` of a volume or of slices.

    Args:
        image: [C, K, J, I].
        grid: parallel to the image's axes; another one (of a sheared image) is resampled linearly.
        nearest: axes (0, 1, 2 of i, j, k of ``grid``) along which the nearest voxel is taken.
    """
    matrix = (image.geometry.ras_to_ijk @ grid.ijk_to_ras)[:3]
    sources = [int(np.abs(matrix[:, axis]).argmax()) for axis in range(3)]
    scaled = np.zeros((3, 3))
    scaled[sources, range(3)] = matrix[sources, range(3)]
    if len(set(sources)) < 3 or np.abs(matrix[:, :3] - scaled).max() * max(grid.size_ijk) > 1e-3:
        return resample_image(image, grid, fill=float(image.tensor.min()))
    tensor = image.tensor
    splined = [3 - sources[axis] for axis in range(3) if axis not in nearest]
    limits = torch.cat((tensor.amin(splined, keepdim=True), tensor.amax(splined, keepdim=True)))
    tensor, limits = (one.permute(0, *(3 - sources[axis] for axis in (2, 1, 0))) for one in (tensor, limits))
    shrinking = sorted(range(3), key=lambda axis: grid.size_ijk[axis] / image.geometry.size_ijk[sources[axis]])
    for axis in shrinking:
        source = sources[axis]
        places = np.round(matrix[source, axis] * np.arange(grid.size_ijk[axis]) + matrix[source, 3], 9)
        weights = _weights(image.geometry.size_ijk[source], places, 0 if axis in nearest else 3)
        if weights is not None:
            tensor = _along(3 - axis, weights, tensor)
            limits = _along(3 - axis, weights, limits) if axis in nearest else limits
    return Image(tensor.contiguous().clamp_(*limits.chunk(2)), grid, image.name, image.channel_names, image.findings)


def _along(dim: int, weights: np.ndarray, tensor: torch.Tensor) -> torch.Tensor:
    """The matrix [places, size] applied along one dimension."""
    return (tensor.movedim(dim, -1) @ torch.from_numpy(weights.T).to(tensor)).movedim(-1, dim)


def _weights(size: int, places: np.ndarray, order: int) -> np.ndarray | None:
    """[places, size] float32: what a voxel of a line adds at a place of the spline; None where nothing changes."""
    if size == len(places) and np.abs(places - np.arange(size)).max() < 1e-6:
        return None
    units = np.eye(size)
    return np.stack(
        [ndimage.map_coordinates(unit, places[None], order=order, mode="nearest") for unit in units], axis=1
    ).astype(np.float32)
