"""Fixed points to moving points: affine and dense stages, chains, SimpleITK's answer, precision far away."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from random_geometries import FEW, geometries, itk_transform, random_affine

from MedSegRegLib.errors import InputError, InvalidGeometry
from MedSegRegLib.geometry import Geometry, flip_ras_lps, translation
from MedSegRegLib.transform import Affine, Displacement, Transform

FAR_MM = 1e9
SEEDS = st.integers(0, 2**16)


def random_field(rng: np.random.Generator, geometry: Geometry) -> Displacement:
    return Displacement(torch.from_numpy(rng.normal(0, 2, (3, *geometry.shape_kji)).astype(np.float32)), geometry)


def points_about(rng: np.random.Generator, geometry: Geometry) -> np.ndarray:
    """Points in and around a grid, none of them at the edge between field and no field."""
    size = np.asarray(geometry.size_ijk)
    ijk = rng.uniform(-2, size + 1, (60, 3))
    edge_distance = np.abs(np.abs(ijk - (size - 1) / 2) - size / 2).min(axis=1)
    return geometry.map_voxels(ijk[edge_distance > 1e-3])


@FEW
@given(geometry=geometries(furthest_mm=500.0), seed=SEEDS)
def test_points_go_where_the_voxels_of_a_grid_go(geometry, seed):
    rng = np.random.default_rng(seed)
    points, centre = points_about(rng, geometry), geometry.centre_ras
    chain = Transform((random_field(rng, geometry), random_affine(rng, centre), random_field(rng, geometry)))
    moved = chain.map_about(torch.from_numpy(points - centre), centre).numpy() + centre
    np.testing.assert_allclose(chain.map_points(points), moved, rtol=0, atol=1e-6)


@FEW
@given(geometry=geometries(furthest_mm=500.0, sheared=False), seed=SEEDS)
def test_a_chain_maps_points_as_simpleitk_does(geometry, seed):
    rng = np.random.default_rng(seed)
    points = points_about(rng, geometry)
    chain = Transform((random_field(rng, geometry), random_affine(rng, geometry.centre_ras)))
    itk = itk_transform(chain)
    expected = flip_ras_lps(np.array([itk.TransformPoint(p) for p in flip_ras_lps(points).tolist()]))
    np.testing.assert_allclose(chain.map_points(points), expected, rtol=0, atol=1e-6)


@FEW
@given(geometry=geometries(furthest_mm=500.0), seed=SEEDS)
def test_the_first_stage_moves_the_fixed_point_first(geometry, seed):
    rng = np.random.default_rng(seed)
    first, second = random_affine(rng, geometry.centre_ras), random_field(rng, geometry)
    points = points_about(rng, geometry)
    one_by_one = Transform((second,)).map_points(Transform((first,)).map_points(points))
    np.testing.assert_allclose(Transform((first, second)).map_points(points), one_by_one, atol=1e-6)
    np.testing.assert_allclose(Transform((first,)).then(Transform((second,))).map_points(points), one_by_one, atol=1e-6)


@FEW
@given(geometry=geometries(furthest_mm=500.0), seed=SEEDS)
def test_linear_stages_are_one_matrix_and_a_dense_stage_is_none(geometry, seed):
    rng = np.random.default_rng(seed)
    a, b = (random_affine(rng, geometry.centre_ras) for _ in range(2))
    points = points_about(rng, geometry)
    matrix = Transform((a, b)).matrix
    mapped = points @ matrix[:3, :3].T + matrix[:3, 3]
    np.testing.assert_allclose(Transform((a, b)).map_points(points), mapped, atol=1e-6)
    assert Transform((a, random_field(rng, geometry))).matrix is None
    np.testing.assert_array_equal(Transform().matrix, np.eye(4))


@FEW
@given(geometry=geometries(furthest_mm=500.0), seed=SEEDS)
def test_the_inverse_of_an_affine_brings_points_back(geometry, seed):
    rng = np.random.default_rng(seed)
    affine, points = random_affine(rng, geometry.centre_ras), points_about(rng, geometry)
    back = Transform((affine, affine.inverse())).map_points(points)
    np.testing.assert_allclose(back, points, atol=1e-6)


def test_no_stage_leaves_points_where_they_are_and_no_point_is_fine():
    points = np.array([[1.0, 2.0, 3.0]])
    np.testing.assert_array_equal(Transform().map_points(points), points)
    assert Transform((Affine(np.eye(4)),)).map_points(np.empty((0, 3))).shape == (0, 3)


def test_points_are_mapped_to_a_micrometre_at_an_origin_of_a_million_kilometres():
    near = Geometry.from_spacing((5, 6, 7), (1.0, 2.0, 1.5))
    far = Geometry.from_spacing((5, 6, 7), (1.0, 2.0, 1.5), (FAR_MM, -FAR_MM, FAR_MM))
    shift = far.origin_ras
    rng = np.random.default_rng(1)
    affine, points = random_affine(rng, near.centre_ras), points_about(rng, near)
    vectors = random_field(rng, near).vectors_ras_mm
    moved_affine = Affine(translation(shift) @ affine.matrix @ translation(-shift))
    expected = Transform((affine, Displacement(vectors, near))).map_points(points)
    actual = Transform((moved_affine, Displacement(vectors, far))).map_points(points + shift)
    assert np.abs(actual - shift - expected).max() < 1e-3


@pytest.mark.parametrize("origin", [0.0, FAR_MM])
def test_the_dense_form_of_a_chain_moves_the_voxels_as_the_chain_does(origin):
    geometry = Geometry.from_spacing((6, 5, 4), (2.0, 1.0, 3.0), (origin, 0.0, -origin))
    rng = np.random.default_rng(2)
    chain = Transform((random_affine(rng, geometry.centre_ras), random_field(rng, geometry)))
    voxels = geometry.map_voxels(np.moveaxis(np.indices(geometry.size_ijk), 0, -1).reshape(-1, 3))
    dense = chain.to_displacement(geometry)
    assert dense.vectors_ras_mm.shape == (3, 4, 5, 6)
    np.testing.assert_allclose(Transform((dense,)).map_points(voxels), chain.map_points(voxels), rtol=0, atol=1e-3)


def test_a_field_is_linear_between_voxels_and_zero_outside():
    geometry = Geometry.from_spacing((2, 1, 1), (10.0, 1.0, 1.0))
    vectors = torch.zeros(3, 1, 1, 2)
    vectors[2, 0, 0] = torch.tensor([0.0, 4.0])
    points = np.array([[2.5, 0.0, 0.0], [10.0, 0.0, 0.0], [16.0, 0.0, 0.0], [5.0, 0.6, 0.0]])
    moved = Transform((Displacement(vectors, geometry),)).map_points(points)
    np.testing.assert_allclose((moved - points)[:, 2], [1.0, 4.0, 0.0, 0.0], atol=1e-6)


@pytest.mark.parametrize(
    "matrix",
    [
        np.full((4, 4), np.nan),
        np.diag([1.0, 1.0, 0.0, 1.0]),
        np.eye(3),
        np.diag([1.0, 1.0, 1.0, 2.0]),
        np.diag([1.0, np.inf, 1.0, 1.0]),
    ],
    ids=["NaN", "singular", "3x3", "projective", "infinite"],
)
def test_refuses_a_matrix_that_is_no_linear_transform(matrix):
    with pytest.raises(InvalidGeometry, match="choose another initial transform"):
        Affine(matrix)


def test_refuses_a_field_of_another_shape_and_one_with_nan():
    geometry = Geometry.from_spacing((4, 3, 2))
    with pytest.raises(InputError, match=r"\(3, 2, 3, 4\)"):
        Displacement(torch.zeros(3, 4, 3, 2), geometry)
    vectors = torch.zeros(3, 2, 3, 4)
    vectors[0, 0, 0, 0] = np.nan
    with pytest.raises(InputError, match="1 components of the displacement field are not finite"):
        Displacement(vectors, geometry)
