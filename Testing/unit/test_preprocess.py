"""Preprocessing: each step does what its name says, and the grid of a model is where the volume is."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from random_geometries import FEW, geometries
from skimage import exposure

from MedSegRegLib.errors import InvalidSetting, NoContrast, TooFewVoxels
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Image
from MedSegRegLib.model_grid import model_grid
from MedSegRegLib.preprocess import (
    STEPS,
    Clahe,
    CtWindow,
    GaussianDenoise,
    HistogramEqualization,
    N4BiasCorrection,
    PercentileRange,
    ZScore,
    apply_steps,
    step_from_text,
)
from MedSegRegLib.resample import resample_image

SPACINGS = st.tuples(*[st.floats(0.5, 4.0)] * 3)
CONTRAST_STEPS = [HistogramEqualization(), Clahe(), ZScore(), ZScore(nonzero_only=True), PercentileRange()]


def image_of(array: np.ndarray, spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Image:
    return Image.from_array(array, Geometry.from_spacing(array.shape[:-4:-1], spacing_mm))


def on_model_grid(image: Image, spacing_mm: tuple[float, float, float]) -> Image:
    return resample_image(image, model_grid(image.geometry, spacing_mm), fill=float(image.tensor.min()))


def brain(shape: tuple[int, int, int] = (24, 40, 36)) -> tuple[np.ndarray, np.ndarray]:
    """Two tissues in an ellipsoid on air [K, J, I], and where the first tissue is."""
    place = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij"))
    radius = np.sqrt((place**2).sum(0))
    clean = np.select([radius < 0.5, radius < 0.85], [160.0, 100.0], 2.0)
    return clean + np.random.default_rng(0).normal(0, 1.5, shape), (radius > 0.5) & (radius < 0.85)


@pytest.fixture
def a_brain() -> Image:
    return image_of(brain()[0], (1.0, 1.0, 1.5))


@pytest.mark.parametrize("name", STEPS)
def test_a_step_changes_neither_its_input_nor_the_grid(name, a_brain):
    before = a_brain.tensor.clone()
    changed = STEPS[name]().apply(a_brain)
    assert torch.equal(a_brain.tensor, before)
    assert not torch.equal(changed.tensor, before)
    assert changed.geometry is a_brain.geometry
    assert changed.tensor.dtype == torch.float32
    assert torch.isfinite(changed.tensor).all()


@pytest.mark.parametrize("name", STEPS)
def test_channels_are_prepared_one_by_one(name):
    first = brain((12, 16, 16))[0]
    second = 5 + 3 * first[::-1]
    both = STEPS[name]().apply(image_of(np.stack((first, second))))
    for channel, alone in zip(both.tensor, (first, second), strict=True):
        assert torch.equal(channel, STEPS[name]().apply(image_of(alone)).tensor[0])


def test_gaussian_denoise_has_its_sigma_in_millimetres_along_every_axis():
    spacing = (0.5, 1.0, 2.0)
    impulse = np.zeros((15, 31, 61))
    impulse[7, 15, 30] = 1
    smooth = GaussianDenoise(sigma_mm=2.5).apply(image_of(impulse, spacing)).numpy()[0]
    for axis, step in enumerate(spacing[::-1]):
        profile = smooth.sum(tuple({0, 1, 2} - {axis}))
        distance = (np.arange(len(profile)) - len(profile) // 2) * step
        assert np.sqrt((profile * distance**2).sum() / profile.sum()) == pytest.approx(2.5, rel=0.05)


def test_n4_flattens_a_bias_field():
    clean, tissue = brain()
    z, y, x = np.meshgrid(*[np.linspace(-1, 1, n) for n in clean.shape], indexing="ij")
    biased = clean * np.exp(0.4 * x - 0.3 * y * y + 0.2 * z)
    corrected = N4BiasCorrection(shrink=2).apply(image_of(biased, (1.0, 1.0, 1.5))).numpy()[0]

    def variation(array: np.ndarray) -> float:
        return float(array[tissue].std() / array[tissue].mean())

    assert variation(biased) > 0.15
    assert variation(corrected) < 0.05


def test_n4_refuses_a_single_slice():
    with pytest.raises(TooFewVoxels, match="one slice"):
        N4BiasCorrection().apply(image_of(brain()[0][12:13]))


def test_histogram_equalization_is_scikit_images():
    array = brain()[0].astype(np.float32)
    equalized = HistogramEqualization(bins=128).apply(image_of(array)).numpy()[0]
    np.testing.assert_allclose(equalized, exposure.equalize_hist(array, 128), atol=1e-4)
    assert np.histogram(equalized, 10, (0, 1))[0].max() < np.histogram(array, 10)[0].max()


def test_clahe_is_scikit_images_on_cubic_voxels():
    array = brain()[0].astype(np.float32)
    unit = (array - array.min()) / (array.max() - array.min())
    expected = exposure.equalize_adapthist(unit, (8, 8, 8), 0.02)
    found = Clahe(window_mm=16, clip_limit=0.02).apply(image_of(array, (2.0, 2.0, 2.0))).numpy()[0]
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_the_window_of_clahe_is_in_millimetres_and_at_most_the_image():
    array = brain()[0].astype(np.float32)
    unit = (array - array.min()) / (array.max() - array.min())
    expected = exposure.equalize_adapthist(unit, (4, 40, 20), 0.01)
    found = Clahe(window_mm=20).apply(image_of(array, (1.0, 0.5, 5.0))).numpy()[0]
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("step", [HistogramEqualization(), Clahe(window_mm=9)])
def test_three_voxels_along_an_axis_are_not_taken_for_colours(step):
    array = np.random.default_rng(1).random((3, 10, 12))
    upright = step.apply(image_of(array)).numpy()[0]
    turned = step.apply(image_of(array.transpose(1, 2, 0))).numpy()[0]
    np.testing.assert_allclose(turned, upright.transpose(1, 2, 0), atol=1e-3)


def test_z_score_gives_mean_zero_and_deviation_one(a_brain):
    scored = ZScore().apply(a_brain).tensor
    assert float(scored.mean()) == pytest.approx(0, abs=1e-5)
    assert float(scored.std()) == pytest.approx(1, abs=1e-5)


def test_z_score_of_nonzero_voxels_ignores_the_air():
    array = brain()[0]
    array[array < 50] = 0
    scored = ZScore(nonzero_only=True).apply(image_of(array)).numpy()[0]
    assert scored[array > 0].mean() == pytest.approx(0, abs=1e-4)
    assert scored[array > 0].std() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("step", CONTRAST_STEPS)
@given(value=st.floats(-1e6, 1e6, width=32))
def test_steps_that_need_contrast_refuse_a_constant_image(step, value):
    with pytest.raises(NoContrast):
        step.apply(image_of(np.full((5, 6, 7), value)))


def test_percentile_range_maps_its_percentiles_to_zero_and_one():
    array = np.random.default_rng(0).normal(50, 10, (10, 20, 30))
    scaled = PercentileRange(low=5, high=90).apply(image_of(array)).numpy()[0]
    assert scaled.min() == 0
    assert scaled.max() == 1
    assert (scaled == 0).mean() == pytest.approx(0.05, abs=1e-3)
    assert (scaled == 1).mean() == pytest.approx(0.10, abs=1e-3)


def test_percentile_range_says_which_percentiles_are_equal():
    array = np.zeros((10, 10, 10))
    array[0, 0, :3] = 7.0
    with pytest.raises(NoContrast, match="percentiles 1 and 99 are both 0"):
        PercentileRange().apply(image_of(array))


def test_ct_window_clips_metal_and_air():
    array = np.array([-1024.0, -160, 40, 240, 30000]).reshape(1, 1, 5)
    windowed = CtWindow().apply(image_of(array)).numpy().ravel()
    np.testing.assert_allclose(windowed, [0, 0, 0.5, 1, 1], atol=1e-6)


def test_steps_are_applied_in_their_order():
    array = np.array([-200.0, 0, 200, 400]).reshape(1, 2, 2)
    done = apply_steps(image_of(array), (CtWindow(low_hu=0, high_hu=200), ZScore())).numpy().ravel()
    np.testing.assert_allclose(done, np.array([-1, -1, 1, 1]) * np.sqrt(0.75), atol=1e-6)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "z_score:strength=2",
        "ct_window:low_hu",
        "ct_window:low_hu=",
        "ct_window:low_hu=nan",
        "ct_window:low_hu=300,high_hu=100",
        "percentile_range:low=60,high=40",
        "gaussian_denoise:sigma_mm=-1",
        "gaussian_denoise:sigma_mm=1;2",
        "n4_bias_correction:iterations=many",
        "clahe:clip_limit=1e999",
    ],
)
def test_refuses_a_step_that_is_typed_wrongly(text):
    with pytest.raises(InvalidSetting) as caught:
        step_from_text(text)
    assert "percentile_range" in caught.value.expected


@pytest.mark.parametrize("name", STEPS)
def test_a_step_can_be_typed_by_its_name(name):
    assert step_from_text(name) == STEPS[name]()


def test_a_step_can_be_typed_with_its_settings():
    assert step_from_text("ct_window:low_hu=-1000,high_hu=400") == CtWindow(low_hu=-1000, high_hu=400)
    assert step_from_text("z_score:nonzero_only=true") == ZScore(nonzero_only=True)


@FEW
@given(geometry=geometries(), spacing=SPACINGS)
def test_the_axes_of_a_model_grid_are_nearest_to_right_anterior_superior(geometry, spacing):
    grid = model_grid(geometry, spacing)
    np.testing.assert_allclose(grid.directions.T @ grid.directions, np.eye(3), atol=1e-6)
    assert not grid.is_left_handed
    assert grid.spacing_mm == pytest.approx(spacing)
    for order, signs in itertools.product(itertools.permutations(range(3)), itertools.product((-1, 1), repeat=3)):
        assert np.trace(grid.directions) >= np.trace(grid.directions[:, order] * signs) - 1e-9


@FEW
@given(geometry=geometries(), spacing=SPACINGS)
def test_a_model_grid_covers_the_field_of_view(geometry, spacing):
    grid = model_grid(geometry, spacing)
    corners = grid.map_points(geometry.corners_ras())
    rounding = 0.25 + 1e-3  # the number of voxels is rounded: up to half a voxel, shared by both sides
    assert (corners >= -0.5 - rounding).all()
    assert (corners <= np.asarray(grid.size_ijk) - 0.5 + rounding).all()
    np.testing.assert_allclose(grid.centre_ras, geometry.centre_ras, atol=1e-3)


@FEW
@given(geometry=geometries(sheared=False))
def test_a_model_grid_of_the_volumes_own_spacing_has_its_voxels(geometry):
    own = model_grid(geometry, (1.0, 1.0, 1.0)).directions
    order = [int(axis) for axis in np.abs(geometry.directions.T @ own).argmax(axis=0)]
    spacing = tuple(geometry.spacing_mm[axis] for axis in order)
    grid = model_grid(geometry, spacing)
    assert grid.size_ijk == tuple(geometry.size_ijk[axis] for axis in order)
    nearest = geometry.map_points(grid.corners_ras())
    np.testing.assert_allclose(nearest + 0.5, np.rint(nearest + 0.5), atol=1e-3)


@FEW
@given(geometry=geometries(), spacing=SPACINGS)
def test_a_volume_on_a_model_grid_passes_through_unchanged(geometry, spacing):
    grid = model_grid(geometry, spacing)
    assert model_grid(grid, spacing).same_grid(grid, 1e-4)


def test_an_image_on_its_model_grid_keeps_its_intensities(a_brain):
    np.testing.assert_allclose(
        on_model_grid(a_brain, a_brain.geometry.spacing_mm).numpy(), a_brain.numpy(), rtol=1e-4, atol=1e-3
    )


@FEW
@given(geometry=geometries(smallest=5, furthest_mm=100.0), spacing=SPACINGS)
def test_intensities_stay_where_they_are_in_the_world(geometry, spacing):
    slope = np.array([1.0, -2.0, 0.5])
    kji = np.moveaxis(np.indices(geometry.shape_kji), 0, -1)
    image = Image.from_array(geometry.map_voxels(kji[..., ::-1]) @ slope, geometry)
    moved = on_model_grid(image, spacing)
    points = moved.geometry.map_voxels(np.moveaxis(np.indices(moved.geometry.shape_kji), 0, -1)[..., ::-1])
    voxels = geometry.map_points(points)
    inside = ((voxels >= 0) & (voxels <= np.asarray(geometry.size_ijk) - 1)).all(-1)
    np.testing.assert_allclose(moved.numpy()[0][inside], (points @ slope)[inside], atol=0.05)
