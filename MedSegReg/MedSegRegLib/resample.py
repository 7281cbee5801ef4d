"""From one grid to another, through a transform if there is one: linear for images, label-safe for labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from .geometry import Geometry, translation
from .image import Image, Labels
from .sampling import map_affine, map_voxel_planes, plane_slabs, sample_linear, sample_nearest
from .transform import Transform

IDENTITY = Transform()


def resample_image(image: Image, geometry: Geometry, transform: Transform = IDENTITY, fill: float = 0.0) -> Image:
    """Intensities of ``image`` (moving) at the voxels of ``geometry`` (fixed), trilinear, on the image's device.

    Args:
        transform: maps fixed to moving points.
        fill: value outside the image.

    Returns:
        An image on ``geometry``. Agrees with ITK's linear resampling.
    """
    out = image.tensor.new_empty((image.tensor.shape[0], *geometry.shape_kji))
    for start, ijk in moving_voxels(image.geometry, geometry, transform, out):
        out[:, start : start + ijk.shape[0]] = sample_linear(image.tensor, ijk, fill)
    return replace(image, tensor=out, geometry=geometry)


def resample_labels(labels: Labels, geometry: Geometry, transform: Transform = IDENTITY) -> Labels:
    """Labels at the voxels of ``geometry``, nearest voxel as in ITK: never a value that was not there; 0 outside."""
    out = labels.tensor.new_empty(geometry.shape_kji)
    like = torch.empty((), device=labels.tensor.device)
    for start, ijk in moving_voxels(labels.geometry, geometry, transform, like):
        out[start : start + ijk.shape[0]] = sample_nearest(labels.tensor, ijk)
    return replace(labels, tensor=out, geometry=geometry)


def moving_voxels(
    moving: Geometry, fixed: Geometry, transform: Transform, like: torch.Tensor
) -> Iterator[tuple[int, torch.Tensor]]:
    """Where the voxels of ``fixed`` lie in ``moving``, slab by slab, with the dtype and device of ``like``.

    Yields:
        (first plane, voxel coordinates [planes, J, I, 3] in ``moving``).
    """
    if transform.matrix is not None:
        to_ijk = torch.as_tensor(moving.ras_to_ijk @ transform.matrix @ fixed.ijk_to_ras).to(like)
        for start, stop in plane_slabs(fixed.size_ijk):
            yield start, map_voxel_planes(to_ijk, fixed.size_ijk, start, stop)
        return
    for start, _, moved, centre in transform.map_grid(fixed, like):
        to_ijk = torch.as_tensor(moving.ras_to_ijk @ translation(centre)).to(like)
        yield start, map_affine(to_ijk, moved)
