"""The solution as transforms: there, back, and what SimpleITK says of both."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from random_geometries import itk_transform
from register_phantoms import distance_mm, smooth_noise
from scipy.spatial.transform import Rotation

from MedSegRegLib.geometry import Geometry, flip_ras_lps
from MedSegRegLib.register.deformable import border_taper
from MedSegRegLib.register.flow import DisplacementField, Flow, VelocityField
from MedSegRegLib.register.solution import Solution
from MedSegRegLib.transform import Transform

TILT = Rotation.from_euler("xyz", [20, -15, 30], degrees=True).as_matrix()
GRID = Geometry.from_spacing((26, 24, 18), (2.0, 2.0, 3.0), (10.0, -20.0, 5.0), TILT)
MATRIX = np.array([[1.05, 0.1, 0.0, 8.0], [-0.08, 0.96, 0.05, -5.0], [0.02, -0.06, 1.02, 3.0], [0, 0, 0, 1]])


def make_flow(kind: type[Flow], largest_voxels: float = 2.0) -> Flow:
    vectors = smooth_noise(GRID, 9.0, 0, 3)
    vectors = vectors * border_taper(GRID, vectors)
    return kind(largest_voxels * vectors / vectors.norm(dim=0).max(), GRID)


@pytest.fixture
def points() -> np.ndarray:
    """[400, 3] RAS mm, between voxels too."""
    return GRID.map_voxels(np.random.default_rng(0).uniform(0, (25, 23, 17), (400, 3)))


@pytest.mark.parametrize("kind", [DisplacementField, VelocityField])
def test_the_inverse_leads_back_from_both_sides(kind, points):
    solution = Solution(MATRIX, make_flow(kind))
    assert distance_mm(solution.transform, Transform(), points).mean() > 2
    there_and_back = distance_mm(solution.transform.then(solution.inverse), Transform(), points)
    moving = solution.transform.map_points(points)
    back_and_there = distance_mm(solution.inverse.then(solution.transform), Transform(), moving)
    for error in (there_and_back, back_and_there):
        assert error.mean() < 0.05 * 2.0 / 2  # half of 0.05 voxel
        assert np.percentile(error, 99) < 0.3 * 2.0


def test_simpleitk_takes_points_to_the_same_place_and_back(points):
    solution = Solution(MATRIX, make_flow(DisplacementField))
    there, back = itk_transform(solution.transform), itk_transform(solution.inverse)
    for point, ours in zip(points[:50], solution.transform.map_points(points[:50]), strict=True):
        moved = there.TransformPoint(flip_ras_lps(point).tolist())
        np.testing.assert_allclose(flip_ras_lps(np.array(moved)), ours, atol=1e-3)
        returned = np.array(back.TransformPoint(moved))
        assert np.linalg.norm(returned - flip_ras_lps(point)) < 0.3


def test_the_inverse_of_the_flow_is_that_of_simpleitk():
    solution = Solution(np.eye(4), make_flow(DisplacementField))
    field = itk_transform(Transform((solution.transform.stages[0],))).GetNthTransform(0)
    field = sitk.DisplacementFieldTransform(field).GetDisplacementField()
    theirs = sitk.InvertDisplacementField(field, maximumNumberOfIterations=100, enforceBoundaryCondition=False)
    theirs = flip_ras_lps(sitk.GetArrayFromImage(theirs))[4:-4, 4:-4, 4:-4].reshape(-1, 3)
    voxels = np.stack(np.meshgrid(*(np.arange(4, n - 4) for n in GRID.shape_kji), indexing="ij")[::-1], axis=-1)
    points = GRID.map_voxels(voxels.reshape(-1, 3))
    ours = solution.inverse.map_points(points) - points
    assert np.linalg.norm(ours, axis=1).mean() > 0.5
    assert np.linalg.norm(ours - theirs, axis=1).mean() < 0.05


def test_a_linear_solution_is_one_matrix_and_its_inverse():
    solution = Solution(MATRIX)
    np.testing.assert_allclose(solution.transform.matrix, MATRIX)
    np.testing.assert_allclose(solution.inverse.matrix @ MATRIX, np.eye(4), atol=1e-12)


def test_the_inverse_of_a_flow_on_one_slice_stays_on_the_slice():
    plane = Geometry.from_spacing((30, 1, 28), (1.0, 6.0, 1.0))
    vectors = smooth_noise(plane, 5.0, 0, 3)
    vectors[1] = 0
    vectors = vectors * border_taper(plane, vectors)
    solution = Solution(np.eye(4), DisplacementField(2 * vectors / vectors.abs().max(), plane))
    points = plane.map_voxels(np.random.default_rng(0).uniform((2, 0, 2), (27, 0, 25), (100, 3)))
    assert distance_mm(solution.transform, Transform(), points).mean() > 0.4
    assert distance_mm(solution.transform.then(solution.inverse), Transform(), points).mean() < 0.05
    assert solution.inverse.stages[1].geometry.size_ijk == (60, 1, 56)
    assert isinstance(solution.inverse.stages[1].vectors_ras_mm, torch.Tensor)
