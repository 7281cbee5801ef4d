"""From planes on a model's grid to labels on the volume's own grid, compared with SimpleITK and scipy."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_geometries import FEW, geometries, grid_pairs, itk_image
from scipy import ndimage

from MedSegRegLib.geometry import Geometry
from MedSegRegLib.model_grid import model_grid
from MedSegRegLib.segment.decide import SCORES_AT_ONCE, Decision
from MedSegRegLib.segment.engines import Head
from MedSegRegLib.segment.restore import Restorer
from MedSegRegLib.segment.stream import Planes
from streamed import LiveMemory

SEEDS = st.integers(0, 2**16)
SOME = settings(FEW, max_examples=20)
UPRIGHT = Geometry.from_spacing((12, 10, 9), (1.0, 1.5, 2.0))


def scores_on(geometry: Geometry, seed: int, classes: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 3, (classes, *geometry.shape_kji)).astype(np.float32)


def smooth_scores(geometry: Geometry, seed: int, classes: int) -> np.ndarray:
    """Scores whose winner is the same over several voxels, as those of a network."""
    return 20 * ndimage.gaussian_filter(scores_on(geometry, seed, classes), (0, 2, 2, 2))


def restored(
    scores: np.ndarray,
    grid: Geometry,
    geometry: Geometry,
    *,
    decision: Decision | None = None,
    covered: np.ndarray | None = None,
    seed: int = 0,
    **options: object,
) -> Restorer:
    """Planes given in groups of random size."""
    restorer = Restorer(grid, geometry, decision or Decision((), (), len(scores)), **options)
    random, first = np.random.default_rng(seed), 0
    while first < grid.size_ijk[2]:
        stop = first + int(random.integers(1, 6))
        part = None if covered is None else torch.from_numpy(covered[first:stop])
        restorer.add(Planes(first, torch.from_numpy(scores[:, first:stop]), part))
        first = stop
    return restorer


def at_voxels(grid: Geometry, geometry: Geometry) -> np.ndarray:
    """[K, J, I, 3]: i, j, k in the grid of the geometry's voxels."""
    return grid.map_points(geometry.map_voxels(np.moveaxis(np.indices(geometry.shape_kji), 0, -1)[..., ::-1]))


def beyond(grid: Geometry, geometry: Geometry) -> np.ndarray:
    """How far (voxels) each voxel of the geometry lies outside the field of view of the grid; below zero inside."""
    size = np.asarray(grid.size_ijk)
    return (np.abs(at_voxels(grid, geometry) - (size - 1) / 2) - size / 2).max(-1)


def itk_resampled(scores: np.ndarray, grid: Geometry, geometry: Geometry) -> np.ndarray:
    """Each class on the other grid, by SimpleITK's linear interpolation."""
    reference = itk_image(np.zeros(geometry.shape_kji, np.float32), geometry)
    images = (itk_image(channel, grid) for channel in scores)
    linear = (SimpleITK.Resample(one, reference, SimpleITK.Transform(), SimpleITK.sitkLinear) for one in images)
    return np.stack([SimpleITK.GetArrayFromImage(one) for one in linear])


def scipy_resampled(
    scores: np.ndarray, grid: Geometry, geometry: Geometry, nearest: tuple[int, ...] = ()
) -> np.ndarray:
    """Each class on the other grid, linear along some axes and by the nearest voxel along the others."""
    places = at_voxels(grid, geometry)
    places[..., list(nearest)] = np.floor(places[..., list(nearest)] + 0.5 + 1e-6)
    places = np.moveaxis(places, -1, 0)[::-1]
    return np.stack([ndimage.map_coordinates(channel, places, order=1, mode="nearest") for channel in scores])


def require_the_winners(labels: torch.Tensor, scores: np.ndarray, outside: np.ndarray, share: float = 0.0) -> None:
    """The label of each voxel is that of the highest score; but for ties and the edge of the field of view."""
    second, first = np.sort(scores, axis=0)[-2:]
    settled = (first - second > 1e-2) & (np.abs(outside) > 1e-3)
    np.testing.assert_array_equal(labels.numpy()[settled & (outside < 0)], scores.argmax(0)[settled & (outside < 0)])
    assert not labels.numpy()[outside > 1e-3].any()
    assert (settled & (outside < 0)).mean() >= share


@SOME
@given(geometry=geometries(), seed=SEEDS)
def test_on_the_same_grid_the_highest_score_wins(geometry, seed):
    scores = np.round(scores_on(geometry, seed)) + np.arange(4, dtype=np.float32)[:, None, None, None] / 8
    np.testing.assert_array_equal(restored(scores, geometry, geometry, seed=seed).labels, scores.argmax(0))


@SOME
@given(geometry=geometries(), order=st.permutations(range(3)), seed=SEEDS)
def test_planes_along_any_axis_give_the_same_labels(geometry, order, seed):
    scores = scores_on(geometry, seed)
    planes = np.ascontiguousarray(scores.transpose(0, *(1 + axis for axis in order)))
    labels = restored(planes, geometry.exchanged(tuple(order)), geometry, seed=seed).labels
    np.testing.assert_array_equal(labels, scores.argmax(0))


@SOME
@given(grids=grid_pairs(), seed=SEEDS)
def test_labels_are_those_of_simpleitks_linear_resampling_of_each_class(grids, seed):
    volume, grid = grids
    scores = scores_on(grid, seed)
    labels = restored(scores, grid, volume, seed=seed).labels
    require_the_winners(labels, itk_resampled(scores, grid, volume), beyond(grid, volume))


@SOME
@given(grids=grid_pairs(smallest=1, sheared=True), seed=SEEDS)
def test_labels_on_sheared_grids_are_those_of_scipys_linear_resampling(grids, seed):
    volume, grid = grids
    scores = scores_on(grid, seed)
    labels = restored(scores, grid, volume, seed=seed).labels
    require_the_winners(labels, scipy_resampled(scores, grid, volume), beyond(grid, volume))


@pytest.mark.parametrize("factor", [0.15, 0.37, 0.5, 1.7, 3.0, 6.3])
@pytest.mark.parametrize("classes", [2, 7])
def test_labels_on_far_finer_and_far_coarser_grids_are_those_of_simpleitk(factor, classes):
    grid = Geometry.from_spacing((18, 16, 20), (1.5, 1.2, 2.0))
    size = tuple(max(1, round(n / factor)) for n in (10, 9, 12))
    volume = Geometry.from_spacing(size, tuple(factor * s for s in grid.spacing_mm), (2.1, 3.3, 4.7))
    scores = smooth_scores(grid, 3, classes)
    labels = restored(scores, grid, volume).labels
    require_the_winners(labels, itk_resampled(scores, grid, volume), beyond(grid, volume), share=0.5)
    assert len(labels.unique()) > 1


@SOME
@given(grids=grid_pairs(sheared=True), seed=SEEDS, classes=st.sampled_from((2, 5)))
def test_voxels_that_are_only_looked_up_get_the_label_that_interpolation_gives(grids, seed, classes):
    """Asked for confidence every voxel is interpolated, and otherwise only those at borders."""
    volume, grid = grids
    scores = smooth_scores(grid, seed, classes)
    everywhere = restored(scores, grid, volume, confidence=True).labels
    assert torch.equal(restored(scores, grid, volume, seed=seed).labels, everywhere)


@SOME
@given(grids=grid_pairs(), seed=SEEDS)
def test_a_head_is_applied_after_resampling_as_well_as_before(grids, seed):
    volume, grid = grids
    random = np.random.default_rng(seed)
    weight, bias = random.normal(size=(9, 3)).astype(np.float32), random.normal(size=9).astype(np.float32)
    features = scores_on(grid, seed, 3)
    scores = np.tensordot(weight, features, 1) + bias[:, None, None, None]
    decision = Decision((Head(torch.from_numpy(weight), torch.from_numpy(bias)),), (), 9)
    labels = restored(features, grid, volume, decision=decision, seed=seed).labels
    require_the_winners(labels, itk_resampled(scores, grid, volume), beyond(grid, volume))


@SOME
@given(grids=grid_pairs(), seed=SEEDS)
def test_regions_are_painted_where_their_resampled_score_is_above_zero(grids, seed):
    volume, grid = grids
    scores, regions = scores_on(grid, seed, 3), (2, 3, 1)
    resampled, outside = itk_resampled(scores, grid, volume), beyond(grid, volume)
    expected = np.zeros(volume.shape_kji, int)
    for score, label in zip(resampled, regions, strict=True):
        expected[score > 0] = label
    inside = (np.abs(resampled).min(0) > 1e-3) & (outside < -1e-3)
    labels = restored(scores, grid, volume, decision=Decision((), regions, 3), seed=seed).labels.numpy()
    np.testing.assert_array_equal(labels[inside], expected[inside])
    assert not labels[outside > 1e-3].any()


@SOME
@given(grids=grid_pairs(sheared=True), nearest=st.sets(st.integers(0, 2), min_size=1), seed=SEEDS)
def test_along_a_thick_axis_the_nearest_voxel_counts(grids, nearest, seed):
    volume, grid = grids
    scores, axes = scores_on(grid, seed), tuple(nearest)
    places = at_voxels(grid, volume)[..., list(axes)]
    halfway = (np.abs(places - np.floor(places) - 0.5) < 1e-3).any(-1)
    labels = restored(scores, grid, volume, nearest=axes, seed=seed).labels
    expected = scipy_resampled(scores, grid, volume, axes)
    outside = np.where(halfway, 0.0, beyond(grid, volume))
    require_the_winners(labels, expected, outside)


def test_the_whole_of_a_sheared_volume_gets_labels():
    directions = np.eye(3)
    directions[:, 2] = (0.3, 0, np.sqrt(1 - 0.09))
    volume = Geometry.from_spacing((12, 14, 10), (1, 1, 2), directions=directions)
    grid = model_grid(volume, (1.5, 1.5, 1.5))
    scores = np.stack((np.zeros(grid.shape_kji), np.ones(grid.shape_kji))).astype(np.float32)
    assert (restored(scores, grid, volume).labels == 1).all()


def test_a_volume_beside_the_grid_gets_no_labels():
    scores = np.stack((np.zeros(UPRIGHT.shape_kji), np.ones(UPRIGHT.shape_kji))).astype(np.float32)
    for start in ((12, 0, 0), (0, -10, 0), (0, 0, 9), (0, 0, -9)):
        restorer = restored(scores, UPRIGHT, UPRIGHT.window(start, UPRIGHT.size_ijk), confidence=True)
        assert not restorer.labels.any()
        assert not restorer.confidence.any()


@pytest.mark.parametrize("first", [1, 4, 9])
def test_the_size_of_the_groups_does_not_matter(first):
    volume = Geometry.from_spacing((20, 17, 25), (0.7, 0.8, 0.75), (-1.0, 0.3, -0.4))
    scores = smooth_scores(UPRIGHT, 1, 5)
    restorer = Restorer(UPRIGHT, volume, Decision((), (), 5))
    for start, stop in ((0, first), (first, 9)):
        if stop > start:
            restorer.add(Planes(start, torch.from_numpy(scores[:, start:stop]), None))
    assert torch.equal(restorer.labels, restored(scores, UPRIGHT, volume).labels)


@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_confidence_is_that_of_the_resampled_scores(shift):
    volume = Geometry.from_spacing((11, 9, 8), (1.0, 1.5, 2.0), (shift, shift, shift))
    scores = scores_on(UPRIGHT, 0, 5)
    restorer = restored(scores, UPRIGHT, volume, confidence=True)
    resampled = torch.from_numpy(itk_resampled(scores, UPRIGHT, volume))
    expected = Decision((), (), 5).confidence(resampled.flatten(1)).reshape(2, *volume.shape_kji)
    torch.testing.assert_close(restorer.confidence.int(), expected.int(), atol=1, rtol=0)
    assert torch.equal(restorer.labels.long(), resampled.argmax(0))


def test_confidence_is_given_only_if_asked_for():
    assert restored(scores_on(UPRIGHT, 0), UPRIGHT, UPRIGHT).confidence is None


@pytest.mark.parametrize("confidence", [False, True])
@pytest.mark.parametrize("spacing", [(1.0, 1.5, 2.0), (0.5, 0.75, 1.0), (0.7, 1.1, 3.1)])
def test_voxels_that_no_tile_covers_are_background_whatever_the_bias_of_the_head(spacing, confidence):
    volume = Geometry.from_spacing((8, 7, 5), spacing)
    covered = np.ones(UPRIGHT.shape_kji, bool)
    covered[:, :, 5:] = False
    decision = Decision((Head(torch.zeros((4, 2)), torch.tensor([0.0, 0.0, 9.0, 0.0])),), (), 4)
    features = np.zeros((2, *UPRIGHT.shape_kji), np.float32)
    found = restored(features, UPRIGHT, volume, decision=decision, covered=covered, confidence=confidence).labels
    i = at_voxels(UPRIGHT, volume)[..., 0]
    assert (found.numpy()[i <= 4] == 2).all()
    assert not found.numpy()[i > 4].any()


@pytest.mark.parametrize(("classes", "dtype"), [(256, torch.uint8), (257, torch.int32), (301, torch.int32)])
@pytest.mark.parametrize("spacing", [1.0, 0.6])
def test_the_highest_label_is_not_wrapped_around(classes, dtype, spacing):
    grid = Geometry.from_spacing((3, 3, 3))
    scores = np.zeros((classes, 3, 3, 3), np.float32)
    scores[-1] = 1
    labels = restored(scores, grid, Geometry.from_spacing((3, 3, 3), (spacing,) * 3)).labels
    assert labels.dtype == dtype
    assert (labels == classes - 1).all()


def test_a_region_above_255_is_not_wrapped_around():
    scores = np.stack((np.ones((3, 3, 3)), -np.ones((3, 3, 3)))).astype(np.float32)
    grid = Geometry.from_spacing((3, 3, 3))
    labels = restored(scores, grid, grid, decision=Decision((), (700, 1), 2)).labels
    assert labels.dtype == torch.int32
    assert (labels == 700).all()


def peak_bytes(classes: int, length: int) -> int:
    """Of restoring ``length`` planes of 4 features of a network with so many classes."""
    grid = Geometry.from_spacing((32, 32, length))
    volume = Geometry.from_spacing((40, 40, length), (0.8, 0.8, 1.0))
    weight = torch.randn((classes, 4), generator=torch.Generator().manual_seed(1))
    restorer = Restorer(grid, volume, Decision((Head(weight, torch.zeros(classes)),), (), classes))
    planes = torch.randn((4, 8, 32, 32), generator=torch.Generator().manual_seed(0))
    with LiveMemory(planes, restorer.labels) as memory:
        for first in range(0, length, 8):
            restorer.add(Planes(first, planes, None))
    return memory.peak


def test_memory_grows_neither_with_the_classes_nor_with_the_length():
    few, many, long = peak_bytes(10, 32), peak_bytes(200, 32), peak_bytes(200, 160)
    assert many < few + 2 * 4 * SCORES_AT_ONCE
    assert long < 1.1 * many
    assert long < 8 << 20  # the scores of all classes at all voxels would be 131 MB


@SOME
@given(geometry=geometries(sheared=True, furthest_mm=1e4), order=st.permutations(range(3)))
def test_an_exchanged_grid_has_the_same_voxels_at_the_same_places(geometry, order):
    exchanged = geometry.exchanged(tuple(order))
    points = geometry.map_voxels(np.moveaxis(np.indices(geometry.shape_kji), 0, -1)[..., ::-1])
    expected = points.transpose(*order, 3)
    assert exchanged.shape_kji == expected.shape[:3]
    found = exchanged.map_voxels(np.moveaxis(np.indices(exchanged.shape_kji), 0, -1)[..., ::-1])
    np.testing.assert_allclose(found, expected, atol=1e-9)
