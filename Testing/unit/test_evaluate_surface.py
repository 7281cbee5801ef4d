"""Surface distances: against the package they are defined by, against MONAI, and on grids those do not know."""

from __future__ import annotations

import numpy as np
import pytest
import surface_distance
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.metrics.hausdorff_distance import compute_hausdorff_distance
from monai.metrics.surface_dice import compute_surface_dice
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import cdist
from scipy.spatial.transform import Rotation

from MedSegRegLib.errors import InputError
from MedSegRegLib.evaluate.surface import CORNERS, measure_surfaces

SPACING_IJK = (0.8, 1.1, 3.0)
MONAI_CALLS_ITSELF = "ignore:.*get_mask_edges.always_return_as_numpy:FutureWarning"


@pytest.fixture(scope="module")
def two_masks() -> tuple[np.ndarray, np.ndarray]:
    """Two overlapping masks with several components; both touch the border of the array."""
    random = np.random.default_rng(1)
    first, second = (gaussian_filter(random.normal(size=(18, 30, 40)), (1, 2.5, 3)) for _ in range(2))
    return first > 0.03, first + 0.6 * second > 0.03


@pytest.fixture(scope="module")
def a_ball() -> np.ndarray:
    k, j, i = np.ogrid[-12:13, -12:13, -12:13]
    return k**2 + j**2 + i**2 <= 100


@pytest.mark.filterwarnings("ignore:Please import .* from the `scipy.ndimage` namespace:DeprecationWarning")
@pytest.mark.parametrize("spacing_ijk", [(1.0, 1.0, 1.0), SPACING_IJK])
@pytest.mark.parametrize("tolerance_mm", [0.5, 1.0, 3.0])
def test_agrees_with_the_surface_distance_package(two_masks, spacing_ijk, tolerance_mm):
    ours = measure_surfaces(*two_masks, np.diag(spacing_ijk))
    theirs = surface_distance.compute_surface_distances(*two_masks, spacing_ijk[::-1])
    assert ours.hd95_mm == pytest.approx(surface_distance.compute_robust_hausdorff(theirs, 95), abs=1e-9)
    assert ours.nsd(tolerance_mm) == pytest.approx(
        surface_distance.compute_surface_dice_at_tolerance(theirs, tolerance_mm), abs=1e-6
    )
    means = surface_distance.compute_average_surface_distance(theirs)
    areas = theirs["surfel_areas_gt"].sum(), theirs["surfel_areas_pred"].sum()
    assert ours.assd_mm == pytest.approx(np.average(means, weights=areas), abs=1e-6)
    assert (ours.truth_mm2.sum(), ours.prediction_mm2.sum()) == pytest.approx(areas, rel=1e-6)


@pytest.mark.filterwarnings(MONAI_CALLS_ITSELF)
def test_surface_dice_agrees_with_monai_on_subvoxels(two_masks):
    truth, prediction = (torch.from_numpy(mask)[None, None] for mask in two_masks)
    theirs = compute_surface_dice(
        prediction, truth, [2.0], include_background=True, spacing=SPACING_IJK[::-1], use_subvoxels=True
    )
    assert measure_surfaces(*two_masks, np.diag(SPACING_IJK)).nsd(2.0) == pytest.approx(theirs.item(), abs=1e-5)


@pytest.mark.filterwarnings(MONAI_CALLS_ITSELF)
def test_hausdorff_distance_is_within_a_voxel_of_that_between_border_voxels_by_monai(two_masks):
    truth, prediction = (torch.from_numpy(mask)[None, None] for mask in two_masks)
    theirs = compute_hausdorff_distance(
        prediction, truth, include_background=True, percentile=95, spacing=SPACING_IJK[::-1]
    ).item()
    assert measure_surfaces(*two_masks, np.diag(SPACING_IJK)).hd95_mm == pytest.approx(theirs, abs=max(SPACING_IJK))


def test_a_turned_grid_changes_no_number(two_masks):
    straight = measure_surfaces(*two_masks, np.diag(SPACING_IJK))
    turn = Rotation.from_euler("xyz", (20, -35, 50), degrees=True).as_matrix() @ np.diag((-1, 1, 1))
    turned = measure_surfaces(*two_masks, turn @ np.diag(SPACING_IJK))
    assert turned.hd95_mm == pytest.approx(straight.hd95_mm)
    assert turned.assd_mm == pytest.approx(straight.assd_mm)
    for tolerance_mm in (0.0, 0.8, 1.1, 3.0):  # exactly the steps of the grid: rounding must not decide
        assert turned.nsd(tolerance_mm) == pytest.approx(straight.nsd(tolerance_mm))


def test_distances_on_a_sheared_grid_are_those_between_positions_in_space(two_masks):
    axes = np.array([[0.8, 0.3, 0.0], [0.0, 1.1, 0.9], [0.0, 0.0, 3.0]])
    truth, prediction = (mask[4:10, 5:17, 8:20] for mask in two_masks)
    points = []
    for mask in (truth, prediction):
        padded = np.pad(mask, 1)
        inside = sum(np.roll(padded, [-c for c in corner], (0, 1, 2)).astype(int) for corner in CORNERS)
        points.append(np.argwhere((inside > 0) & (inside < 8))[:, ::-1] @ axes.T)
    distances = cdist(*points)
    found = measure_surfaces(truth, prediction, axes)
    np.testing.assert_allclose(found.truth_mm, np.sort(distances.min(axis=1)), atol=1e-9)
    np.testing.assert_allclose(found.prediction_mm, np.sort(distances.min(axis=0)), atol=1e-9)


def test_the_area_of_a_ball_is_near_that_of_its_sphere(a_ball):
    found = measure_surfaces(a_ball, a_ball, np.eye(3)).truth_mm2.sum()
    assert found == pytest.approx(4 * np.pi * 10**2, rel=0.1)


def test_a_shift_along_one_axis_is_found_in_mm(a_ball):
    shifted = np.roll(a_ball, 2, axis=0)
    distances = measure_surfaces(a_ball, shifted, np.diag(SPACING_IJK))
    assert distances.hd95_mm <= 2 * SPACING_IJK[2]
    assert distances.truth_mm.max() == pytest.approx(2 * SPACING_IJK[2])
    assert distances.nsd(2 * SPACING_IJK[2]) == 1


def test_one_voxel_has_a_surface():
    voxel = np.ones((1, 1, 1), bool)
    found = measure_surfaces(voxel, voxel, np.eye(3))
    assert (found.hd95_mm, found.assd_mm, found.nsd(0.0)) == (0, 0, 1)


def test_refuses_an_empty_mask(a_ball):
    with pytest.raises(InputError, match="no surface"):
        measure_surfaces(a_ball, np.zeros_like(a_ball), np.eye(3))


masks = st.lists(st.booleans(), min_size=60, max_size=60).filter(any).map(lambda bits: np.reshape(bits, (3, 4, 5)))


@settings(max_examples=30, deadline=None)
@given(masks, masks)
def test_scores_do_not_depend_on_which_mask_is_the_truth(first, second):
    there, back = (measure_surfaces(a, b, np.diag(SPACING_IJK)) for a, b in ((first, second), (second, first)))
    assert there.hd95_mm == back.hd95_mm
    assert there.assd_mm == pytest.approx(back.assd_mm)
    assert there.nsd(1.0) == pytest.approx(back.nsd(1.0))
    assert 0 <= there.nsd(1.0) <= 1
    assert there.assd_mm <= there.truth_mm.max() + there.prediction_mm.max()
