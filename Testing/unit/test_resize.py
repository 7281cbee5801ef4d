"""Resampling axis by axis with cubic splines, compared with scikit-image as nnU-Net calls it, and with scipy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_geometries import FEW
from scipy import ndimage
from scipy.spatial.transform import Rotation
from skimage.transform import resize

from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Image
from MedSegRegLib.model_grid import model_grid
from MedSegRegLib.resample import resample_image
from MedSegRegLib.segment.resize import resize_cubic

OBLIQUE = Rotation.from_euler("xyz", (17, -22, 40), degrees=True).as_matrix()
STEPS = (0.0, 0.0, 0.0, 1.0, 5.0, -3.0)


def an_image(size_ijk: tuple[int, int, int], spacing=(1.0, 1.0, 1.0), channels: int = 1, directions=None) -> Image:
    """Steps and noise: splines overshoot."""
    random = np.random.default_rng(sum(size_ijk))
    array = random.choice(STEPS, (channels, *size_ijk[::-1])) + random.normal(0, 0.1, (channels, *size_ijk[::-1]))
    geometry = Geometry.from_spacing(size_ijk, spacing, (30.0, -12.0, 900.0), directions)
    return Image.from_array(array, geometry, "study", tuple(map(str, range(channels))))


def nnunet_resized(channel: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return resize(channel.astype(float), shape, 3, mode="edge", anti_aliasing=False)


def nnunet_slice_wise(channel: np.ndarray, shape: tuple[int, int, int], axis: int) -> np.ndarray:
    """Each slice across the thick axis resized, then the nearest slices taken."""
    flat = [n for position, n in enumerate(shape) if position != axis]
    slices = np.stack([nnunet_resized(one, tuple(flat)) for one in np.moveaxis(channel, axis, 0)], axis)
    scale = channel.shape[axis] / shape[axis]
    places = np.indices(shape).astype(float)
    places[axis] = scale * (places[axis] + 0.5) - 0.5
    return ndimage.map_coordinates(slices, places, order=0, mode="nearest")


@settings(FEW, max_examples=20)
@given(
    size=st.tuples(*[st.integers(1, 24)] * 3),
    factors=st.tuples(*[st.floats(0.3, 3.0)] * 3),
    rotated=st.booleans(),
)
def test_a_stretched_grid_gets_the_intensities_of_scikit_images_resize(size, factors, rotated):
    image = an_image(size, (0.8, 1.0, 2.5), 2, OBLIQUE if rotated else None)
    spacing = tuple(f * s for f, s in zip(factors, image.geometry.spacing_mm, strict=True))
    grid = model_grid(image.geometry, spacing, "ijk", stretch=True)
    found = resize_cubic(image, grid)
    expected = [nnunet_resized(channel, grid.shape_kji) for channel in image.numpy()]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-4)
    assert found.geometry is grid
    assert (found.name, found.channel_names) == ("study", ("0", "1"))


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("factor", [0.5, 1.0, 1.37, 2.0, 0.3])
def test_across_a_thick_axis_slices_are_resized_one_by_one_as_by_nnunet(axis, factor):
    image = an_image((14, 11, 9))
    spacing = [1.3, 0.7, 0.9]
    spacing[axis] = factor
    grid = model_grid(image.geometry, tuple(spacing), "ijk", stretch=True)
    expected = nnunet_slice_wise(image.numpy()[0], grid.shape_kji, 2 - axis)
    np.testing.assert_allclose(resize_cubic(image, grid, (axis,)).numpy()[0], expected, atol=1e-4)


@settings(FEW, max_examples=15)
@given(order=st.permutations("ijk"), thick=st.sampled_from((None, 0, 1, 2)))
def test_axes_are_exchanged_on_the_way(order, thick):
    image = an_image((9, 13, 7), (1.0, 2.0, 3.0), directions=OBLIQUE)
    axes = tuple("ijk".index(letter) for letter in order)
    turned = Image.from_array(
        image.numpy()[0].transpose([2 - axis for axis in axes[::-1]]),
        image.geometry.exchanged(tuple(2 - axis for axis in axes[::-1])),
    )
    grid = model_grid(image.geometry, (1.5, 1.5, 2.0), "".join(order), stretch=True)
    nearest = () if thick is None else (thick,)
    np.testing.assert_allclose(
        resize_cubic(image, grid, nearest).numpy(), resize_cubic(turned, grid, nearest).numpy(), atol=1e-4
    )
    plain = model_grid(turned.geometry, (1.5, 1.5, 2.0), "ijk", stretch=True)
    assert grid.same_grid(plain, 1e-6)


def test_flipped_axes_are_flipped_back():
    image = an_image((9, 13, 7), directions=np.diag([-1.0, 1.0, -1.0]))
    grid = model_grid(image.geometry, (0.6, 1.4, 1.0), "ras", stretch=True)
    expected = nnunet_resized(np.flip(image.numpy()[0], (0, 2)), grid.shape_kji)
    np.testing.assert_allclose(resize_cubic(image, grid).numpy()[0], expected, atol=1e-4)


def test_a_grid_that_is_not_stretched_gets_scipys_spline_with_the_border_repeated():
    image = an_image((10, 12, 8), (1.0, 1.0, 2.0))
    grid = Geometry.from_spacing((15, 14, 16), (0.9, 0.9, 1.1), tuple(image.geometry.origin_ras - 0.7))
    places = image.geometry.map_points(grid.map_voxels(np.moveaxis(np.indices(grid.shape_kji), 0, -1)[..., ::-1]))
    channel = image.numpy()[0]
    spline = ndimage.map_coordinates(channel, np.moveaxis(places, -1, 0)[::-1], order=3, mode="nearest")
    expected = spline.clip(channel.min(), channel.max())
    np.testing.assert_allclose(resize_cubic(image, grid).numpy()[0], expected, atol=1e-4)


def test_the_images_own_grid_changes_nothing():
    image = an_image((6, 7, 8), directions=OBLIQUE)
    before = image.tensor.clone()
    assert torch.equal(resize_cubic(image, image.geometry).tensor, before)
    assert torch.equal(image.tensor, before)


def test_values_stay_within_the_range_of_the_channel():
    image = an_image((12, 12, 12), channels=2)
    found = resize_cubic(image, model_grid(image.geometry, (0.31, 0.37, 0.41), "ijk", stretch=True)).tensor
    for channel, resized in zip(image.tensor, found, strict=True):
        assert float(channel.min()) <= float(resized.min())
        assert float(resized.max()) <= float(channel.max())


@pytest.mark.parametrize("kind", ["sheared", "turned"])
def test_a_grid_that_is_not_parallel_to_the_image_is_resampled_linearly(kind):
    directions = np.array([[1, 0.3, 0], [0, np.sqrt(1 - 0.09), 0], [0, 0, 1]]) if kind == "sheared" else None
    image = an_image((12, 11, 10), directions=directions)
    grid = model_grid(image.geometry, (1.2, 1.2, 1.2))
    if kind == "turned":
        grid = Geometry.from_spacing((9, 9, 9), (1.0,) * 3, tuple(image.geometry.origin_ras), OBLIQUE)
    expected = resample_image(image, grid, fill=float(image.tensor.min()))
    assert torch.equal(resize_cubic(image, grid).tensor, expected.tensor)
