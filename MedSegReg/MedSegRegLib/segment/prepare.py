"""An image as a model wants it: grid and intensities. Segmentation walk: checked image -> [prepare] -> tiles."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from ..errors import NoContrast, NoOverlap
from ..files.model_spec import ModelSpec
from ..geometry import Geometry
from ..image import Image
from ..image_checks import look_at_spacing
from ..model_grid import model_grid, standard_grid
from ..preprocess import apply_steps
from ..report import raise_refusals
from ..resample import resample_image
from .resize import resize_cubic


def prepare(image: Image, spec: ModelSpec, region: np.ndarray | None = None) -> Image:
    """The image on the model's grid, with the model's intensities, on the device of the image.

    Args:
        image: with the model's channels.
        spec: of the model.
        region: RAS mm points [N, 3]; only their box along the axes of the grid is kept. Intensities are measured over
            the whole image, unless the model was trained on crops.

    Raises:
        NoContrast: a channel that is normalised by its own intensities has only one.
        NoOverlap: the region lies outside the image.
    """
    source = _crop_to_nonzero(image) if spec.grid.crop_to_nonzero else image
    grid = grid_of(source.geometry, spec)
    kept = grid if region is None else window_around(grid, region)
    if spec.grid.normalise_first:
        return _to_grid(_normalise(source, spec), kept, spec)
    if kept is grid or spec.region is not None:
        return _normalise(_to_grid(source, kept, spec), spec)
    prepared = _normalise(_to_grid(source, grid, spec), spec)
    start = np.rint(grid.map_points(kept.origin_ras)).astype(int)
    i, j, k = (slice(s, s + n) for s, n in zip(start, kept.size_ijk, strict=True))
    return replace(prepared, tensor=prepared.tensor[:, k, j, i].contiguous(), geometry=kept)


def grid_of(geometry: Geometry, spec: ModelSpec) -> Geometry:
    """The model's grid over a volume; that of a model in a template's space does not depend on the volume.

    Raises:
        SpacingOutOfRange: the voxels of the volume are smaller or larger than medical images have.
    """
    raise_refusals(filter(None, [look_at_spacing(geometry)]))
    if spec.standard is not None:
        return standard_grid(spec.tile_ijk, spec.spacing_mm, spec.standard.centre_ras_mm)  # type: ignore[arg-type]
    return model_grid(geometry, spec.spacing_mm, spec.grid.axes, spec.grid.fit == "field_of_view")


def window_around(grid: Geometry, region: np.ndarray) -> Geometry:
    """The part of a grid that holds the points [N, 3] RAS mm.

    Raises:
        NoOverlap: they lie outside.
    """
    voxels = grid.map_points(region)
    size = np.asarray(grid.size_ijk)
    low = np.clip(np.floor(voxels.min(axis=0) + 0.5).astype(int), 0, size)
    high = np.clip(np.ceil(voxels.max(axis=0) + 0.5).astype(int), 0, size)
    if (high - low < np.minimum(size, 2)).any():
        raise NoOverlap(
            f"The region covers {tuple((high - low).tolist())} voxels of the image",
            "a region inside the image",
            "move the region onto the structure",
        )
    return grid.window(tuple(low.tolist()), tuple((high - low).tolist()))


def thick_axis(spec: ModelSpec, first: Geometry, second: Geometry, matching: Geometry) -> tuple[int, ...]:
    """The axis of ``matching`` (0, 1, 2 of i, j, k) along which slices are too thick to be interpolated, if any is.

    nnU-Net's rule: of the first grid whose largest spacing is more than ``thick_slices`` times the smallest, the axis
    with that spacing, unless two have it.
    """
    if spec.grid.thick_slices is None:
        return ()
    for grid in (first, second):
        spacing = np.asarray(grid.spacing_mm)
        if spacing.max() / spacing.min() > spec.grid.thick_slices:
            thick = np.flatnonzero(np.isclose(spacing, spacing.max()))
            along = np.abs(matching.directions.T @ grid.directions[:, thick[0]])
            return (int(along.argmax()),) if len(thick) == 1 else ()
    return ()


def _to_grid(image: Image, grid: Geometry, spec: ModelSpec) -> Image:
    if spec.grid.interpolation == "cubic":
        return resize_cubic(image, grid, thick_axis(spec, image.geometry, grid, grid))
    return resample_image(image, grid, fill=float(image.tensor.min()))


def _normalise(image: Image, spec: ModelSpec) -> Image:
    if not any(channel.intensity for channel in spec.channels):
        return apply_steps(image, spec.intensity)
    done = [
        apply_steps(image.with_tensor(one[None]), channel.intensity or spec.intensity).tensor
        for one, channel in zip(image.tensor, spec.channels, strict=True)
    ]
    return image.with_tensor(torch.cat(done))


def _crop_to_nonzero(image: Image) -> Image:
    """The box of the voxels that are not zero in some channel."""
    set_voxels = (image.tensor != 0).any(dim=0)
    bounds = []
    for axis in range(3):
        others = [n for n in range(3) if n != axis]
        found = set_voxels.any(dim=others[1]).any(dim=others[0]).nonzero()
        if not found.numel():
            raise NoContrast("All voxels are zero", "an image with contrast", "choose another image")
        bounds.append((int(found[0]), int(found[-1]) + 1))
    k, j, i = (slice(*ends) for ends in bounds)
    (k0, k1), (j0, j1), (i0, i1) = bounds
    window = image.geometry.window((i0, j0, k0), (i1 - i0, j1 - j0, k1 - k0))
    return replace(image, tensor=image.tensor[:, k, j, i], geometry=window)
