"""An image on a model's grid with a model's intensities: every option of the description, one at a time."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_geometries import FEW, geometries
from scipy.spatial.transform import Rotation

from MedSegRegLib.errors import NoContrast, NoOverlap, SpacingOutOfRange
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Image
from MedSegRegLib.model_grid import model_grid
from MedSegRegLib.preprocess import CtWindow, NonzeroZScore, ScaleRange, ZScore
from MedSegRegLib.resample import resample_image
from MedSegRegLib.segment.prepare import grid_of, prepare, thick_axis, window_around
from MedSegRegLib.segment.resize import resize_cubic
from small_training import small_spec

OBLIQUE = Rotation.from_euler("xyz", (7, -12, 20), degrees=True).as_matrix()
AXES = ["".join(order) for order in itertools.permutations("ijk")]
ANATOMICAL = ["".join(order) for order in itertools.permutations("ras")]


def on_model_grid(image: Image, spacing_mm: tuple[float, float, float]) -> Image:
    return resample_image(image, model_grid(image.geometry, spacing_mm), fill=float(image.tensor.min()))


@pytest.fixture
def an_image() -> Image:
    geometry = Geometry.from_spacing((18, 20, 12), (1.0, 1.2, 2.0), (40, -20, 7), OBLIQUE)
    return Image.from_array(np.random.default_rng(0).gamma(2, 50, geometry.shape_kji), geometry, "study 7")


@pytest.fixture
def a_bordered_image() -> Image:
    """Two channels, zero near the edges, each in another box."""
    array = np.zeros((2, 12, 20, 18))
    array[0, 3:9, 5:15, 4:10] = np.random.default_rng(0).normal(100, 20, (6, 10, 6))
    array[1, 5:10, 6:16, 3:12] = np.random.default_rng(1).normal(-50, 20, (5, 10, 9))
    return Image.from_array(array, Geometry.from_spacing((18, 20, 12), (1.0, 1.0, 2.0), (1, 2, 3), OBLIQUE))


def box_of(geometry: Geometry, start: tuple[int, int, int], stop: tuple[int, int, int]) -> np.ndarray:
    """Corners of some voxels of a grid, RAS mm."""
    return geometry.window(start, tuple(np.subtract(stop, start))).corners_ras()


def on_two(**changes: object):
    return small_spec(channels=[{"name": "T1"}, {"name": "T2"}], **changes)


def test_by_default_the_image_is_resampled_linearly_and_then_normalised(an_image):
    spec = small_spec(spacing_mm=(1.5, 1.5, 1.5))
    found, expected = prepare(an_image, spec), ZScore().apply(on_model_grid(an_image, (1.5, 1.5, 1.5)))
    assert torch.equal(found.tensor, expected.tensor)
    assert found.geometry.same_grid(expected.geometry, 1e-9)
    assert found.name == "study 7"


def test_the_image_is_not_changed(an_image):
    before = an_image.tensor.clone()
    for grid in ({}, {"interpolation": "cubic", "fit": "field_of_view"}, {"normalise_first": True, "axes": "ijk"}):
        prepare(an_image, small_spec(grid=grid))
    assert torch.equal(an_image.tensor, before)


@pytest.mark.parametrize("axes", AXES)
def test_the_grids_axes_are_those_of_the_image_in_the_order_that_is_named(axes, an_image):
    geometry = an_image.geometry
    grid = grid_of(geometry, small_spec(spacing_mm=(1.1, 1.1, 1.1), grid={"axes": axes}))
    for n, letter in enumerate(axes):
        np.testing.assert_allclose(grid.directions[:, n], geometry.directions[:, "ijk".index(letter)], atol=1e-12)
    np.testing.assert_allclose(grid.centre_ras, geometry.centre_ras, atol=1e-9)
    assert grid.spacing_mm == pytest.approx((1.1, 1.1, 1.1))


@pytest.mark.parametrize("axes", ANATOMICAL)
def test_the_grids_axes_run_towards_the_sides_that_are_named(axes, an_image):
    """Whatever the order and direction in which the image is stored."""
    for order, flips in itertools.product(itertools.permutations(range(3)), ((1, 1, 1), (-1, 1, -1))):
        directions = an_image.geometry.directions[:, order] * flips
        stored = Geometry.from_spacing((9, 10, 11), (1.0, 1.0, 1.0), (0, 0, 0), directions)
        grid = grid_of(stored, small_spec(spacing_mm=(1.0, 1.5, 2.0), grid={"axes": axes}))
        along = grid.directions[["ras".index(letter) for letter in axes], range(3)]
        assert (along > 0.7).all()
        assert grid.spacing_mm == pytest.approx((1.0, 1.5, 2.0))
        np.testing.assert_allclose(grid.centre_ras, stored.centre_ras, atol=1e-9)


@pytest.mark.parametrize("axes", AXES)
def test_a_spacing_that_is_not_given_stays_the_images_own(axes, an_image):
    grid = grid_of(an_image.geometry, small_spec(spacing_mm=(None, 3.0, None), grid={"axes": axes}))
    own = [an_image.geometry.spacing_mm["ijk".index(letter)] for letter in axes]
    sizes = [an_image.geometry.size_ijk["ijk".index(letter)] for letter in axes]
    assert grid.spacing_mm == pytest.approx((own[0], 3.0, own[2]))
    assert (grid.size_ijk[0], grid.size_ijk[2]) == (sizes[0], sizes[2])


@settings(FEW, max_examples=30)
@given(
    geometry=geometries(largest=40, furthest_mm=500, sheared=False),
    axes=st.sampled_from([*ANATOMICAL, *AXES]),
    spacing=st.tuples(*[st.floats(0.3, 7.0)] * 3),
)
def test_a_stretched_grid_covers_the_field_of_view_exactly(geometry, axes, spacing):
    grid = model_grid(geometry, spacing, axes, stretch=True)
    corners = geometry.corners_ras()
    distances = np.linalg.norm(grid.corners_ras()[:, None] - corners[None], axis=-1)
    np.testing.assert_allclose(distances.min(axis=0), 0, atol=1e-6)
    assert sorted(distances.argmin(axis=1)) == list(range(8))


@pytest.mark.parametrize(
    ("old", "new"), [(1.5, 3.0), (1.0, 2.0), (0.7, 1.4), (0.75, 1.5), (0.9765625, 1.5), (3.0, 1.5)]
)
@pytest.mark.parametrize("directions", [None, OBLIQUE])
def test_a_stretched_grid_has_as_many_voxels_as_nnunets(old, new, directions):
    """Halves go to the even number, as Python rounds them."""
    for size in range(1, 60):
        geometry = Geometry.from_spacing((size, 10, 11), (old, 1.0, 1.0), (7, 80, -9), directions)
        found = model_grid(geometry, (new, 1.0, 1.0), "ijk", stretch=True).size_ijk
        assert found == (max(1, round(old / new * size)), 10, 11)


def test_cubic_interpolation_is_the_cubic_resize(an_image):
    spec = small_spec(
        spacing_mm=(1.4, 0.9, 1.1), grid={"interpolation": "cubic", "fit": "field_of_view", "axes": "ijk"}
    )
    grid = model_grid(an_image.geometry, (1.4, 0.9, 1.1), "ijk", stretch=True)
    expected = ZScore().apply(resize_cubic(an_image, grid))
    assert torch.equal(prepare(an_image, spec).tensor, expected.tensor)


def test_slices_that_are_too_thick_are_read_by_the_nearest_one():
    geometry = Geometry.from_spacing((18, 20, 6), (1.0, 1.0, 5.0))
    image = Image.from_array(np.random.default_rng(0).normal(0, 1, geometry.shape_kji), geometry)
    how = {"interpolation": "cubic", "fit": "field_of_view", "axes": "kji"}
    spec = small_spec(spacing_mm=(2.0, 1.2, 1.2), grid={**how, "thick_slices": 3.0}, intensity=())
    grid = model_grid(geometry, (2.0, 1.2, 1.2), "kji", stretch=True)
    assert torch.equal(prepare(image, spec).tensor, resize_cubic(image, grid, (0,)).tensor)
    without = small_spec(spacing_mm=(2.0, 1.2, 1.2), grid=how, intensity=())
    assert torch.equal(prepare(image, without).tensor, resize_cubic(image, grid).tensor)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ((1.0, 1.0, 3.0), (1.0, 1.0, 1.0), ()),  # not above the ratio
        ((1.0, 1.0, 3.1), (1.0, 1.0, 1.0), (2,)),
        ((1.0, 4.0, 1.0), (1.0, 1.0, 1.0), (1,)),
        ((1.0, 1.0, 1.0), (5.0, 1.2, 1.0), (0,)),  # the other grid
        ((5.0, 1.0, 1.0), (1.0, 1.0, 5.0), (0,)),  # the first one decides
        ((0.24, 1.25, 1.25), (1.0, 1.0, 1.0), ()),  # two thick axes
        ((0.24, 1.25, 1.25), (1.0, 1.0, 5.0), ()),  # two thick axes, and the other grid is not asked
        ((1.0, 1.0, 1.0), (2.0, 2.0, 2.0), ()),
    ],
)
def test_the_thick_axis_is_nnunets(first, second, expected):
    spec = small_spec(grid={"thick_slices": 3.0})
    one, other = (Geometry.from_spacing((9, 9, 9), spacing, directions=OBLIQUE) for spacing in (first, second))
    assert thick_axis(spec, one, other, one) == expected
    assert thick_axis(small_spec(), one, other, one) == ()


def test_the_thick_axis_is_named_in_the_grid_that_is_asked_for():
    spec, image = (
        small_spec(grid={"thick_slices": 3.0}),
        Geometry.from_spacing((9, 8, 4), (1, 1, 6), directions=OBLIQUE),
    )
    for axes in AXES:
        grid = model_grid(image, (1.0, 1.0, 1.0), axes)
        assert thick_axis(spec, grid, image, grid) == (axes.index("k"),)
        assert thick_axis(spec, image, grid, image) == (2,)


def test_intensities_are_normalised_on_the_images_own_grid_if_the_model_wants_that(an_image):
    spec = small_spec(spacing_mm=(2.0, 2.0, 2.0), grid={"normalise_first": True})
    found = prepare(an_image, spec).tensor
    assert torch.equal(found, on_model_grid(ZScore().apply(an_image), (2.0, 2.0, 2.0)).tensor)
    assert not torch.equal(found, prepare(an_image, small_spec(spacing_mm=(2.0, 2.0, 2.0))).tensor)


def test_only_the_box_of_voxels_that_are_not_zero_is_looked_at(a_bordered_image):
    steps = [NonzeroZScore(filled=True)]
    spec = on_two(grid={"crop_to_nonzero": True, "normalise_first": True, "axes": "ijk"}, intensity=steps)
    window = a_bordered_image.geometry.window((3, 5, 3), (9, 11, 7))
    cropped = Image(a_bordered_image.tensor[:, 3:10, 5:16, 3:12].clone(), window)
    plain = on_two(grid={"normalise_first": True, "axes": "ijk"}, intensity=steps)
    found, expected = prepare(a_bordered_image, spec), prepare(cropped, plain)
    assert found.geometry.same_grid(expected.geometry, 1e-9)
    torch.testing.assert_close(found.tensor, expected.tensor)


def test_an_image_of_zeros_has_nothing_to_look_at(an_image):
    spec = small_spec(grid={"crop_to_nonzero": True}, intensity=[CtWindow()])
    with pytest.raises(NoContrast, match="zero"):
        prepare(an_image.with_tensor(torch.zeros_like(an_image.tensor)), spec)


@pytest.mark.parametrize("grid", [{}, {"axes": "kji"}, {"interpolation": "cubic", "fit": "field_of_view"}])
@pytest.mark.parametrize("normalise_first", [False, True])
def test_a_region_is_the_part_of_the_whole_with_the_intensities_of_the_whole(grid, normalise_first, an_image):
    spec = small_spec(spacing_mm=(1.3, 1.3, 1.3), grid={**grid, "normalise_first": normalise_first})
    whole = prepare(an_image, spec)
    part = prepare(an_image, spec, box_of(an_image.geometry, (3, 4, 2), (12, 11, 9)))
    i, j, k = np.rint(whole.geometry.map_points(part.geometry.origin_ras)).astype(int)
    columns, rows, planes = part.geometry.size_ijk
    assert part.geometry.same_grid(whole.geometry.window((i, j, k), part.geometry.size_ijk), 1e-6)
    expected = whole.tensor[:, k : k + planes, j : j + rows, i : i + columns]
    torch.testing.assert_close(part.tensor, expected, atol=1e-4, rtol=1e-4)
    assert part.tensor.numel() < whole.tensor.numel() / 3


def test_a_model_that_was_trained_on_crops_gets_the_intensities_of_the_crop(an_image):
    boxes = {"template": "head", "boxes_ras_mm": [((0, 0, 0), (1, 1, 1))], "prefixes": ["left"], "modifiers": []}
    spec = small_spec(spacing_mm=(1.3, 1.3, 1.3), region=boxes)
    part = prepare(an_image, spec, box_of(an_image.geometry, (3, 4, 2), (12, 11, 9)))
    crop = resample_image(an_image, part.geometry, fill=float(an_image.tensor.min()))
    assert torch.equal(part.tensor, ZScore().apply(crop).tensor)


@settings(FEW, max_examples=30)
@given(geometry=geometries(smallest=4, largest=20, furthest_mm=500), data=st.data())
def test_a_window_holds_the_voxels_of_the_region_and_no_more(geometry, data):
    grid = model_grid(geometry, (1.5, 1.5, 1.5))
    low = data.draw(st.tuples(*[st.floats(0, max(n - 3, 0)) for n in grid.size_ijk]))
    points = grid.map_voxels(np.array([low, np.minimum(np.add(low, 2), np.subtract(grid.size_ijk, 1))]))
    window = window_around(grid, points)
    start = grid.map_points(window.origin_ras)
    stop = start + window.size_ijk
    np.testing.assert_allclose(start, np.rint(start), atol=1e-6)
    voxels = grid.map_points(points)
    assert (start - 0.5 <= voxels.min(0) + 1e-6).all()
    assert (voxels.max(0) <= stop - 0.5 + 1e-6).all()
    assert (start > voxels.min(0) - 0.5 - 1e-6).all() or (start == 0).any()
    assert (stop < voxels.max(0) + 1.5 + 1e-6).all()
    assert (start >= -1e-6).all()
    assert (stop <= np.asarray(grid.size_ijk) + 1e-6).all()


@pytest.mark.parametrize("shift", [(500, 0, 0), (0, -30, 0), (0, 0, 300)])
def test_a_region_outside_the_image_is_refused(shift, an_image):
    with pytest.raises(NoOverlap, match="region"):
        prepare(an_image, small_spec(), an_image.geometry.corners_ras() + an_image.geometry.directions @ shift)


def test_each_channel_has_its_own_steps_and_the_others_the_models(a_bordered_image):
    spec = small_spec(
        channels=[{"name": "CT", "intensity": [CtWindow(low_hu=0, high_hu=200)]}, {"name": "PET"}],
        intensity=[ScaleRange(low=-100, high=100)],
    )
    found = prepare(a_bordered_image, spec).tensor
    plain = prepare(a_bordered_image, on_two(intensity=[])).tensor
    torch.testing.assert_close(found[0], (plain[0] / 200).clamp(0, 1))
    torch.testing.assert_close(found[1], (plain[1] + 100) / 200)


def test_each_channel_is_normalised_by_its_own_voxels(a_bordered_image):
    for intensity in ([ZScore()], [NonzeroZScore()], [NonzeroZScore(filled=True)]):
        whole = prepare(a_bordered_image, on_two(intensity=intensity)).tensor
        if not getattr(intensity[0], "filled", False):
            for one, expected in zip(a_bordered_image.tensor, whole, strict=True):
                alone = prepare(a_bordered_image.with_tensor(one[None]), small_spec(intensity=intensity)).tensor[0]
                torch.testing.assert_close(alone, expected)
        assert not torch.equal(whole[0], whole[1])


@pytest.mark.parametrize("spacing", [1e-6, 60.0, 1e8, 1e12])
def test_a_grid_over_voxels_of_impossible_size_is_refused_at_once(spacing):
    started = time.perf_counter()
    with pytest.raises(SpacingOutOfRange, match="units"):
        grid_of(Geometry.from_spacing((64, 64, 64), (spacing,) * 3), small_spec())
    assert time.perf_counter() - started < 0.1
