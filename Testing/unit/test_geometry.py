"""The grid in the world: mappings, cropping, other spacings, and what is no grid at all."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_geometries import FEW, geometries

from MedSegRegLib.errors import EmptyVolume, InvalidGeometry
from MedSegRegLib.geometry import Geometry, flip_ras_lps, flip_world_matrix, translation

POINTS = np.random.default_rng(0).uniform(-5, 20, (50, 3))


@FEW
@given(geometries())
def test_voxels_come_back_from_the_world_to_a_micrometre_even_far_away(geometry):
    error_mm = (geometry.map_points(geometry.map_voxels(POINTS)) - POINTS) * geometry.spacing_mm
    assert np.abs(error_mm).max() < 1e-9 + 1e-14 * np.abs(geometry.origin_ras).max()
    assert np.abs(error_mm).max() < 1e-3


@FEW
@given(geometries(furthest_mm=1e3))
def test_the_matrix_is_made_of_spacing_directions_and_origin(geometry):
    again = Geometry.from_spacing(geometry.size_ijk, geometry.spacing_mm, geometry.origin_ras, geometry.directions)
    assert again.same_grid(geometry, 1e-9)
    np.testing.assert_allclose(np.linalg.norm(geometry.directions, axis=0), 1, atol=1e-12)
    np.testing.assert_allclose(geometry.map_voxels(np.zeros(3)), geometry.origin_ras)


@FEW
@given(geometries(), st.tuples(*[st.integers(-4, 8)] * 3), st.tuples(*[st.integers(1, 6)] * 3))
def test_a_window_has_its_voxels_where_the_whole_grid_has_them(geometry, start, size):
    window = geometry.window(start, size)
    assert window.size_ijk == size
    tolerance = 1e-6 + 1e-15 * np.abs(geometry.origin_ras).max()
    np.testing.assert_allclose(window.map_voxels(POINTS), geometry.map_voxels(POINTS + start), rtol=0, atol=tolerance)


@FEW
@given(geometries(), st.tuples(*[st.floats(0.3, 9.0)] * 3))
def test_another_spacing_keeps_centre_directions_and_field_of_view(geometry, spacing):
    other = geometry.with_spacing(spacing)
    np.testing.assert_allclose(other.spacing_mm, spacing, rtol=1e-9)
    np.testing.assert_allclose(other.directions, geometry.directions, atol=1e-9)
    np.testing.assert_allclose(other.centre_ras, geometry.centre_ras, rtol=0, atol=1e-3)
    extent, before = np.multiply(other.size_ijk, spacing), np.multiply(geometry.size_ijk, geometry.spacing_mm)
    one_voxel = np.equal(other.size_ijk, 1)
    assert (np.abs(extent - before)[~one_voxel] <= 0.5 * np.asarray(spacing)[~one_voxel] + 1e-6).all()
    assert (before[one_voxel] <= 1.5 * np.asarray(spacing)[one_voxel] + 1e-6).all()


@FEW
@given(geometries(smallest=2), st.integers(0, 2))
def test_the_same_grid_is_told_from_a_shifted_a_turned_and_a_longer_one(geometry, axis):
    assert geometry.same_grid(Geometry(geometry.size_ijk, geometry.ijk_to_ras))
    shift = geometry.directions[:, axis] * min(geometry.spacing_mm)
    assert geometry.same_grid(Geometry(geometry.size_ijk, translation(1e-3 * shift) @ geometry.ijk_to_ras))
    assert not geometry.same_grid(Geometry(geometry.size_ijk, translation(0.1 * shift) @ geometry.ijk_to_ras))
    flipped = geometry.ijk_to_ras.copy()
    flipped[:3, 3] += flipped[:3, axis] * (geometry.size_ijk[axis] - 1)
    flipped[:3, axis] *= -1
    assert not geometry.same_grid(Geometry(geometry.size_ijk, flipped))
    longer = np.array(geometry.size_ijk)
    longer[axis] += 1
    assert not geometry.same_grid(Geometry(tuple(longer), geometry.ijk_to_ras))


@FEW
@given(geometries(furthest_mm=1e3, sheared=False))
def test_a_mirrored_axis_changes_only_the_handedness(geometry):
    matrix = geometry.ijk_to_ras.copy()
    matrix[:3, 0] *= -1
    mirrored = Geometry(geometry.size_ijk, matrix)
    assert mirrored.is_left_handed != geometry.is_left_handed
    assert mirrored.spacing_mm == pytest.approx(geometry.spacing_mm)
    assert mirrored.voxel_volume_mm3 == pytest.approx(np.prod(geometry.spacing_mm))
    assert not geometry.is_sheared
    assert not mirrored.is_sheared


def test_a_sheared_grid_is_kept_and_its_voxels_are_smaller_than_boxes():
    matrix = np.array([[1.0, 0.3, 0, 0], [0, 1, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]])
    geometry = Geometry((4, 4, 4), matrix)
    assert geometry.is_sheared
    assert geometry.voxel_volume_mm3 == pytest.approx(2.0)
    assert geometry.voxel_volume_mm3 < np.prod(geometry.spacing_mm)
    np.testing.assert_array_equal(geometry.ijk_to_ras, matrix)


@FEW
@given(geometries(furthest_mm=1e3))
def test_the_corners_enclose_every_voxel_by_half_a_voxel(geometry):
    ijk = geometry.map_points(geometry.corners_ras())
    np.testing.assert_allclose(ijk.min(axis=0), -0.5, atol=1e-6)
    np.testing.assert_allclose(ijk.max(axis=0), np.asarray(geometry.size_ijk) - 0.5, atol=1e-6)
    np.testing.assert_allclose(geometry.corners_ras().mean(axis=0), geometry.centre_ras, atol=1e-6)


def test_ras_and_lps_differ_by_the_sign_of_the_first_two_axes():
    np.testing.assert_array_equal(flip_ras_lps(np.array([1.0, 2.0, 3.0])), [-1, -2, 3])
    np.testing.assert_array_equal(flip_ras_lps(flip_ras_lps(POINTS)), POINTS)


@FEW
@given(geometries(furthest_mm=1e3))
def test_a_flipped_matrix_moves_flipped_points_as_the_matrix_moves_points(geometry):
    matrix = geometry.ijk_to_ras
    flipped = flip_world_matrix(matrix)
    moved = flip_ras_lps(POINTS) @ flipped[:3, :3].T + flipped[:3, 3]
    np.testing.assert_allclose(flip_ras_lps(moved), geometry.map_voxels(POINTS), atol=1e-9)
    np.testing.assert_array_equal(flip_world_matrix(flipped), matrix)


def test_the_matrix_is_a_copy_that_cannot_be_written():
    matrix = np.eye(4)
    geometry = Geometry((2, 2, 2), matrix)
    matrix[0, 3] = 7.0
    assert geometry.origin_ras[0] == 0.0
    with pytest.raises(ValueError, match="read-only"):
        geometry.ijk_to_ras[0, 3] = 7.0


@pytest.mark.parametrize("size", [(0, 4, 4), (4, 4, -1), (4, 4), (1, 2, 3, 4)])
def test_refuses_a_grid_without_voxels(size):
    with pytest.raises(EmptyVolume, match="at least one voxel"):
        Geometry(size, np.eye(4))


def _matrix(entry: tuple[int, int], value: float) -> np.ndarray:
    matrix = np.eye(4)
    matrix[entry] = value
    return matrix


@pytest.mark.parametrize(
    "matrix",
    [
        _matrix((0, 0), np.nan),
        _matrix((2, 3), np.inf),
        _matrix((1, 1), 0.0),
        _matrix((3, 0), 1.0),
        np.eye(3),
        np.array([[1.0, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),
    ],
    ids=["NaN", "infinite", "zero spacing", "projective", "3x3", "parallel axes"],
)
def test_refuses_a_matrix_that_is_no_grid(matrix):
    with pytest.raises(InvalidGeometry, match="header"):
        Geometry((3, 3, 3), matrix)
