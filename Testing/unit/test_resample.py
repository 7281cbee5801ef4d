"""From grid to grid: the same answers as SimpleITK and scipy on grids of every kind."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK
import torch
from hypothesis import given
from hypothesis import strategies as st
from random_geometries import FEW, centred, geometries, grid_pairs, itk_image, itk_transform, random_affine
from scipy.ndimage import map_coordinates

from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Image, Labels, Structure
from MedSegRegLib.resample import resample_image, resample_labels
from MedSegRegLib.transform import Affine, Displacement, Transform

FILL = -1.0
SEEDS = st.integers(0, 2**16)
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def random_chain(rng: np.random.Generator, fixed: Geometry, field_grid: Geometry) -> Transform:
    """Affine, dense and affine stages about the fixed image; the field covers the fixed image twice over."""
    field_grid = centred(field_grid, fixed.centre_ras)
    vectors = torch.from_numpy(rng.normal(0, 1, (3, *field_grid.shape_kji)).astype(np.float32))
    return Transform(
        (random_affine(rng, fixed.centre_ras), Displacement(vectors, field_grid), random_affine(rng, fixed.centre_ras))
    )


def voxels_ras(geometry: Geometry) -> np.ndarray:
    """[K, J, I, 3] mm."""
    kji = np.moveaxis(np.indices(geometry.shape_kji), 0, -1)
    return geometry.map_voxels(kji[..., ::-1])


def edge_distance(geometry: Geometry, points_ras: np.ndarray) -> np.ndarray:
    """Distance in voxels to the nearest plane that bounds the field of view."""
    size = np.asarray(geometry.size_ijk)
    return np.abs(np.abs(geometry.map_points(points_ras) - (size - 1) / 2) - size / 2).min(axis=-1)


def settled(fixed: Geometry, moving: Geometry, transform: Transform) -> tuple[np.ndarray, np.ndarray]:
    """Moving voxel coordinates of the fixed voxels, and which of them no rounding can move across an edge."""
    points = voxels_ras(fixed).reshape(-1, 3)
    clear = np.ones(len(points), bool)
    for stage in transform.stages:
        if isinstance(stage, Displacement):
            clear &= edge_distance(stage.geometry, points) > 1e-3
        points = Transform((stage,)).map_points(points)
    clear &= edge_distance(moving, points) > 1e-3
    return moving.map_points(points).reshape(*fixed.shape_kji, 3), clear.reshape(fixed.shape_kji)


def assert_as_simpleitk(fixed: Geometry, moving: Geometry, transform: Transform, seed: int, dtype: torch.dtype) -> None:
    array = np.random.default_rng(seed).random(moving.shape_kji).astype(np.float32)
    image = Image(torch.from_numpy(array)[None].to(dtype), moving)
    reference = itk_image(np.zeros(fixed.shape_kji, np.float32), fixed)
    expected = SimpleITK.GetArrayFromImage(
        SimpleITK.Resample(itk_image(array, moving), reference, itk_transform(transform), SimpleITK.sitkLinear, FILL)
    )
    actual = resample_image(image, fixed, transform, FILL)
    assert actual.geometry is fixed
    assert actual.tensor.dtype == dtype
    _, clear = settled(fixed, moving, transform)
    np.testing.assert_allclose(actual.numpy()[0][clear], expected[clear], rtol=0, atol=1e-4)


@DTYPES
@FEW
@given(grids=grid_pairs(), seed=SEEDS)
def test_intensities_through_an_affine_are_those_of_simpleitk(dtype, grids, seed):
    fixed, moving = grids
    transform = Transform((random_affine(np.random.default_rng(seed), fixed.centre_ras),))
    assert_as_simpleitk(fixed, moving, transform, seed, dtype)


@DTYPES
@FEW
@given(grids=grid_pairs(), field_grid=geometries(3, furthest_mm=0.0, sheared=False), seed=SEEDS)
def test_intensities_through_a_dense_chain_are_those_of_simpleitk(dtype, grids, field_grid, seed):
    fixed, moving = grids
    assert_as_simpleitk(fixed, moving, random_chain(np.random.default_rng(seed), fixed, field_grid), seed, dtype)


@FEW
@given(grids=grid_pairs(sheared=True), field_grid=geometries(2, furthest_mm=0.0), seed=SEEDS)
def test_intensities_on_sheared_grids_are_those_of_scipy(grids, field_grid, seed):
    fixed, moving = grids
    rng = np.random.default_rng(seed)
    transform = random_chain(rng, fixed, field_grid)
    array = rng.random(moving.shape_kji)
    ijk, clear = settled(fixed, moving, transform)
    inside = ((ijk > -0.5) & (ijk < np.asarray(moving.size_ijk) - 0.5)).all(axis=-1)
    values = map_coordinates(array, np.moveaxis(ijk, -1, 0)[::-1], order=1, mode="nearest")
    actual = resample_image(Image.from_array(array, moving), fixed, transform, FILL).numpy()[0]
    np.testing.assert_allclose(actual[clear], np.where(inside, values, FILL)[clear], rtol=0, atol=1e-4)


@FEW
@given(grids=grid_pairs(), field_grid=geometries(3, furthest_mm=0.0, sheared=False), seed=SEEDS, dense=st.booleans())
def test_labels_are_those_of_simpleitk_but_for_half_way_ties(grids, field_grid, seed, dense):
    fixed, moving = grids
    rng = np.random.default_rng(seed)
    transform = random_chain(rng, fixed, field_grid) if dense else Transform((random_affine(rng, fixed.centre_ras),))
    array = rng.integers(0, 70000, moving.shape_kji).astype(np.int32)
    reference = itk_image(np.zeros(fixed.shape_kji, np.int32), fixed)
    expected = SimpleITK.GetArrayFromImage(
        SimpleITK.Resample(
            itk_image(array, moving), reference, itk_transform(transform), SimpleITK.sitkNearestNeighbor, 0
        )
    )
    actual = resample_labels(Labels.from_array(array, moving), fixed, transform)
    ijk, clear = settled(fixed, moving, transform)
    clear &= (np.abs(ijk - np.floor(ijk) - 0.5) > 1e-3).all(axis=-1)
    np.testing.assert_array_equal(actual.numpy()[clear], expected[clear])


@pytest.mark.parametrize("spacing", [0.7, 1.1, 0.3, 1.0])
def test_half_way_ties_of_a_coarser_grid_are_rounded_up_as_in_simpleitk(spacing):
    moving = Geometry.from_spacing((8, 8, 8), (spacing,) * 3)
    fixed = Geometry.from_spacing((4, 4, 4), (2 * spacing,) * 3, (spacing / 2,) * 3)
    array = np.arange(512, dtype=np.int32).reshape(8, 8, 8)
    actual = resample_labels(Labels.from_array(array, moving), fixed).numpy()
    np.testing.assert_array_equal(actual, array[1::2, 1::2, 1::2])


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_one_slice_is_half_a_voxel_thick_on_each_side(axis):
    size = [4, 5, 6]
    size[axis] = 1
    one = Geometry.from_spacing(tuple(size), (2.0, 2.0, 2.0), (3.0, 4.0, 5.0))
    image = Image.from_array(np.random.default_rng(0).random(one.shape_kji), one)
    again = resample_image(image, one, fill=FILL)
    np.testing.assert_allclose(again.numpy(), image.numpy(), atol=1e-6)
    start = [0, 0, 0]
    start[axis] = -1
    size[axis] = 3
    three = np.moveaxis(resample_image(image, one.window(tuple(start), tuple(size)), fill=FILL).numpy()[0], 2 - axis, 0)
    assert (three[[0, 2]] == FILL).all()
    np.testing.assert_allclose(three[1], np.moveaxis(image.numpy()[0], 2 - axis, 0)[0], atol=1e-6)


@pytest.mark.parametrize("far_mm", [1e5, 1e9])
@pytest.mark.parametrize("dense", [False, True])
def test_intensities_are_the_same_a_million_kilometres_away(far_mm, dense):
    rng = np.random.default_rng(3)
    array = rng.random((6, 7, 8))
    values = []
    for origin in (0.0, far_mm):
        moving = Geometry.from_spacing((8, 7, 6), (1.0, 1.5, 2.0), (origin, -origin, origin))
        fixed = centred(Geometry.from_spacing((5, 5, 4), (1.2, 1.2, 1.2)), moving.centre_ras)
        vectors = torch.full((3, *fixed.shape_kji), 0.4)
        chain = Transform((Displacement(vectors, fixed),)) if dense else Transform()
        values.append(resample_image(Image.from_array(array, moving), fixed, chain, FILL).numpy())
    np.testing.assert_allclose(values[1], values[0], atol=1e-4)


def test_an_affine_that_spans_the_world_loses_nothing():
    array = np.random.default_rng(4).random((5, 5, 5))
    near, far = (Geometry.from_spacing((5, 5, 5), origin_ras=(x, 0.0, 0.0)) for x in (0.0, 1e9))
    across = np.eye(4)
    across[0, 3] = 1e9
    image = Image.from_array(array, far)
    moved = resample_image(image, near, Transform((Affine(across),)))
    np.testing.assert_allclose(moved.numpy(), image.numpy(), atol=1e-6)


@pytest.mark.parametrize("dense", [False, True])
def test_slabs_do_not_show_in_the_result(dense, monkeypatch):
    rng = np.random.default_rng(5)
    fixed = Geometry.from_spacing((7, 8, 9), (1.0, 1.2, 0.8))
    moving = centred(Geometry.from_spacing((9, 8, 7), (1.1, 1.0, 1.4)), fixed.centre_ras)
    chain = random_chain(rng, fixed, fixed) if dense else Transform((random_affine(rng, fixed.centre_ras),))
    image = Image.from_array(rng.random((2, *moving.shape_kji)), moving)
    labels = Labels.from_array(rng.integers(0, 9, moving.shape_kji), moving)
    whole = resample_image(image, fixed, chain).numpy(), resample_labels(labels, fixed, chain).numpy()
    monkeypatch.setattr("MedSegRegLib.sampling.POINTS_AT_ONCE", 60)
    np.testing.assert_allclose(resample_image(image, fixed, chain).numpy(), whole[0], atol=1e-6)
    np.testing.assert_array_equal(resample_labels(labels, fixed, chain).numpy(), whole[1])


def test_channels_are_resampled_alike_and_nothing_else_is_lost():
    rng = np.random.default_rng(6)
    moving, fixed = Geometry.from_spacing((5, 6, 7)), Geometry.from_spacing((4, 4, 4), (1.3, 1.3, 1.3))
    image = Image.from_array(rng.random((3, 7, 6, 5)), moving, "two words", ("a", "b", "c"))
    out = resample_image(image, fixed)
    assert (out.name, out.channel_names) == ("two words", ("a", "b", "c"))
    for channel in range(3):
        single = resample_image(Image(image.tensor[channel : channel + 1], moving), fixed)
        assert torch.equal(single.tensor[0], out.tensor[channel])
    labels = Labels.from_array(np.ones((7, 6, 5), np.uint8), moving, (Structure(1, "one"),), "map")
    out_labels = resample_labels(labels, fixed)
    assert (out_labels.name, out_labels.structures, out_labels.tensor.dtype) == ("map", labels.structures, torch.uint8)
