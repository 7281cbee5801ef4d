"""Jacobian, folding and inverse consistency, checked by hand and by SimpleITK."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given
from hypothesis import strategies as st
from random_geometries import geometries

from MedSegRegLib.evaluate.deformation import folding, inverse_consistency, jacobian_determinant, sdlogj
from MedSegRegLib.geometry import Geometry, translation
from MedSegRegLib.image import Labels
from MedSegRegLib.sampling import voxel_coordinates
from MedSegRegLib.transform import Affine, Displacement, Transform


def field_of(matrix: np.ndarray, geometry: Geometry) -> Displacement:
    """The displacement of a linear map x -> matrix x about the centre of the grid."""
    about_centre = translation(geometry.centre_ras) @ matrix @ translation(-geometry.centre_ras)
    like = torch.zeros((), dtype=torch.float64)
    points = geometry.map_voxels(voxel_coordinates(geometry.size_ijk, 0, geometry.size_ijk[2], like).numpy())
    moved = points @ about_centre[:3, :3].T + about_centre[:3, 3]
    return Displacement(torch.from_numpy(np.moveaxis(moved - points, -1, 0).copy()), geometry)


@pytest.fixture
def grid() -> Geometry:
    return Geometry.from_spacing((8, 9, 10), (0.8, 1.2, 3.0), (10.0, -20.0, 30.0))


@given(geometries(smallest=3), st.lists(st.floats(-0.3, 0.3), min_size=9, max_size=9))
def test_a_linear_map_has_its_determinant_everywhere_on_any_grid(geometry, entries):
    matrix = np.eye(4)
    matrix[:3, :3] += np.array(entries).reshape(3, 3)
    expected = np.linalg.det(matrix[:3, :3])
    np.testing.assert_allclose(
        jacobian_determinant(field_of(matrix, geometry)), expected, atol=1e-5
    )  # origins of 1e9 mm
    if abs(expected) > 1e-3:
        everywhere = int(np.prod(geometry.size_ijk))
        assert folding(field_of(matrix, geometry)).voxels_any_corner == (0 if expected > 0 else everywhere)


def test_agrees_with_simpleitk_inside_an_anisotropic_left_handed_grid():
    geometry = Geometry.from_spacing((12, 10, 9), (0.8, 1.2, 3.0), directions=np.diag([1.0, -1.0, 1.0]))
    vectors = 0.3 * torch.randn((3, 9, 10, 12), generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    along_axes = np.moveaxis(vectors.numpy(), 0, -1) @ geometry.directions  # SimpleITK's filter knows no directions
    image = sitk.GetImageFromArray(along_axes, isVector=True)
    image.SetSpacing(geometry.spacing_mm)
    theirs = sitk.GetArrayFromImage(sitk.DisplacementFieldJacobianDeterminant(image))
    inner = (slice(1, -1),) * 3
    np.testing.assert_allclose(jacobian_determinant(Displacement(vectors, geometry))[inner], theirs[inner], atol=1e-5)


def test_a_checkerboard_of_jumps_folds_though_central_differences_see_nothing(grid):
    vectors = torch.zeros(3, *grid.shape_kji)
    vectors[0] = 0.9 * (torch.arange(8) % 2)  # every second voxel moves past its neighbour at 0.8 mm
    seen = folding(Displacement(vectors, grid))
    assert seen.voxels == 0
    assert seen.percent_any_corner == 75  # all but the two border planes, which have one neighbour


def test_no_motion_has_no_folding_and_no_volume_change(grid):
    still = Displacement(torch.zeros(3, *grid.shape_kji), grid)
    assert folding(still).voxels_any_corner == 0
    assert sdlogj(still) == 0


def test_sdlogj_is_the_spread_of_the_logarithm_inside_the_mask(grid):
    vectors = torch.zeros(3, *grid.shape_kji, dtype=torch.float64)
    k = torch.arange(10, dtype=torch.float64) * 3.0
    vectors[2] = torch.where(k < 15, 0.2 * k, 0.2 * 15 + 0.5 * (k - 15))[:, None, None]
    whole, mask = Displacement(vectors, grid), torch.zeros(grid.shape_kji, dtype=torch.uint8)
    mask[[1, 2, 8, 9]] = 1
    expected = float(np.std(np.log([1.2, 1.2, 1.5, 1.5])))
    assert sdlogj(whole, Labels(mask, grid)) == pytest.approx(expected, abs=1e-9)


def test_inverse_consistency_is_the_distance_after_going_there_and_back(grid):
    there, almost_back = (Affine(translation(np.array(shift))) for shift in ((5.0, 0.0, 0.0), (-5.0, 3.0, 4.0)))
    error = inverse_consistency(Transform((there,)), Transform((almost_back,)), grid)
    assert error.mean_mm == pytest.approx(5.0, abs=1e-4)
    assert error.max_mm == pytest.approx(5.0, abs=1e-4)


def test_inverse_consistency_counts_only_the_mask(grid):
    grow = Transform((Affine(np.diag([2.0, 1, 1, 1])),))
    mask = torch.zeros(grid.shape_kji, dtype=torch.uint8)
    mask[:, :, 3] = 1
    x = abs(grid.map_voxels(np.array([3.0, 0, 0]))[0])
    error = inverse_consistency(grow, Transform(), grid, Labels(mask, grid))
    assert error.mean_mm == pytest.approx(x, abs=1e-4)
    assert error.p99_mm == pytest.approx(x, abs=1e-4)
