"""Pairs of points: what linear transform they support, who contradicts, the spline between them, and its adjoint."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy.interpolate import RBFInterpolator
from scipy.spatial.transform import Rotation

from MedSegRegLib.errors import InputError
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.register.displacement import to_displacement
from MedSegRegLib.register.landmarks import fit_landmarks, splat, spline_displacement
from MedSegRegLib.sampling import sample_linear

TURN = Rotation.from_rotvec([0.2, -0.5, 0.3]).as_matrix()
SHIFT = np.array([12.0, -30.0, 7.0])


@pytest.fixture
def points() -> np.ndarray:
    """[14, 3] in a head."""
    return np.random.default_rng(1).uniform(-70, 70, (14, 3))


@pytest.fixture
def grid() -> Geometry:
    """Oblique, anisotropic."""
    turn = Rotation.from_rotvec([0.1, 0.3, -0.2]).as_matrix()
    return Geometry.from_spacing((24, 20, 16), (6.0, 8.0, 9.0), (-60.0, -80.0, -70.0), turn)


def test_one_pair_is_a_translation():
    fit = fit_landmarks([[1.0, 2.0, 3.0]], [[11.0, 2.0, -3.0]])
    np.testing.assert_allclose(fit.matrix[:3], [[1, 0, 0, 10], [0, 1, 0, 0], [0, 0, 1, -6]], atol=1e-9)


def test_two_pairs_turn_no_more_than_they_must():
    fit = fit_landmarks([[0.0, 0, 0], [50.0, 0, 0]], [[0.0, 0, 0], [0.0, 50, 0]])
    np.testing.assert_allclose(fit.matrix[:3, :3], [[0, -1, 0], [1, 0, 0], [0, 0, 1]], atol=1e-5)
    assert fit.residuals_mm.max() < 1e-3


def test_three_pairs_give_the_rigid_motion(points):
    fit = fit_landmarks(points[:3], points[:3] @ TURN.T + SHIFT)
    np.testing.assert_allclose(fit.matrix[:3, :3], TURN, atol=1e-4)
    np.testing.assert_allclose(fit.matrix[:3, 3], SHIFT, atol=1e-2)


def test_a_mirrored_set_of_points_is_not_mirrored_by_a_rigid_fit(points):
    fit = fit_landmarks(points, points * [-1, 1, 1], "rigid")
    assert np.linalg.det(fit.matrix[:3, :3]) == pytest.approx(1.0)


def test_similarity_agrees_with_simpleitk_on_noisy_points(points):
    moving = 1.2 * points @ TURN.T + SHIFT + np.random.default_rng(2).normal(0, 0.5, points.shape)
    theirs = sitk.Similarity3DTransform(
        sitk.LandmarkBasedTransformInitializer(sitk.Similarity3DTransform(), points.ravel(), moving.ravel())
    )
    ours = fit_landmarks(points, moving, "similarity")
    expected = np.array([theirs.TransformPoint(point) for point in points])
    np.testing.assert_allclose(points @ ours.matrix[:3, :3].T + ours.matrix[:3, 3], expected, atol=0.3)


@pytest.mark.parametrize("count", [4, 5, 14])
def test_an_affine_map_is_found_from_four_pairs_on(points, count):
    stretch = TURN @ np.diag([1.1, 0.9, 1.2])
    fit = fit_landmarks(points[:count], points[:count] @ stretch.T + SHIFT)
    assert fit.residuals_mm.max() < 0.5
    np.testing.assert_allclose(fit.matrix[:3, :3], stretch, atol=0.02)


def test_points_in_one_plane_leave_the_direction_across_it_rigid(points):
    flat = points * [1, 1, 0]
    fit = fit_landmarks(flat, (flat * [1.1, 1.1, 1]) @ TURN.T)
    np.testing.assert_allclose(fit.matrix[:3, 2], TURN[:, 2], atol=1e-3)
    assert fit.residuals_mm.max() < 0.1


def test_five_wrong_pairs_of_fourteen_are_named_and_do_not_matter(points):
    moving = points @ TURN.T + SHIFT + np.random.default_rng(3).normal(0, 0.5, points.shape)
    wrong = [0, 3, 4, 8, 13]
    moving[wrong] += np.random.default_rng(4).uniform(25, 60, (5, 3))
    fit = fit_landmarks(points, moving)
    assert np.flatnonzero(~fit.inliers).tolist() == wrong
    assert "1, 4, 5, 9, 14 of 14" in fit.findings[0].message
    assert fit.residuals_mm[fit.inliers].max() < 2


def test_real_deformation_is_no_outlier(points):
    fit = fit_landmarks(points, points + 8 * np.sin(points / 30))
    assert fit.inliers.all()
    assert not fit.findings


def test_no_linear_part_is_fitted_where_none_is_allowed(points):
    fit = fit_landmarks(points, points + 5, "none")
    np.testing.assert_array_equal(fit.matrix, np.eye(4))
    np.testing.assert_allclose(fit.residuals_mm, np.sqrt(75))


@pytest.mark.parametrize(
    ("fixed", "moving", "reason"),
    [
        (np.eye(3)[:2], np.zeros((1, 3)), "2 fixed and 1 moving"),
        (np.zeros((0, 3)), np.zeros((0, 3)), "shape"),
        (np.zeros((2, 2)), np.zeros((2, 2)), "shape"),
        ([[0, 0, np.nan]], [[0, 0, 0]], "Fixed landmark 1 is not finite"),
        ([[0, 0, 0], [9, 9, 9], [0, 0, 0]], np.eye(3), "fixed landmarks 1 and 3 lie at the same place"),
    ],
)
def test_refuses_lists_that_are_no_pairs(fixed, moving, reason):
    with pytest.raises(InputError, match=reason):
        fit_landmarks(fixed, moving)


def test_the_spline_meets_its_points_and_is_zero_far_from_them(points, grid):
    inside = grid.map_voxels(np.random.default_rng(5).uniform(4, 11, (9, 3)))
    target = inside + np.random.default_rng(6).normal(0, 6, (9, 3))
    field = spline_displacement(inside, target, grid, torch.zeros((), dtype=torch.float64), smoothing_mm=0.0)
    at = torch.as_tensor(grid.map_points(inside))
    moved = grid.map_voxels((at + sample_linear(field, at).T).numpy())
    assert np.linalg.norm(moved - target, axis=1).max() < 0.35 * np.linalg.norm(target - inside, axis=1).max()
    assert float(field[:, 0, 0, 0].norm()) < 0.2
    assert float(field.norm(dim=0).max()) < 3


def test_the_spline_is_that_of_scipy(points, grid):
    field = spline_displacement(points, points + SHIFT, grid, torch.zeros(()), smoothing_mm=2.0)
    size = np.asarray(grid.size_ijk)
    steps = np.stack(np.meshgrid(*[(-0.5, 0.0, 0.5)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    held = grid.map_voxels((size - 1) / 2 + np.delete(steps, 13, axis=0) * size)
    values = np.concatenate((np.tile(SHIFT, (len(points), 1)), np.zeros((26, 3))))
    reference = RBFInterpolator(np.concatenate((points, held)), values, kernel="linear", degree=1, smoothing=2.0)
    voxels = np.array([[3, 4, 5], [20, 11, 9], [0, 0, 15]])
    expected = reference(grid.map_voxels(voxels)) @ grid.ras_to_ijk[:3, :3].T
    actual = field[:, voxels[:, 2], voxels[:, 1], voxels[:, 0]].T
    np.testing.assert_allclose(actual, expected, atol=1e-4)


def test_one_pair_bends_the_grid_around_itself(grid):
    at = grid.map_voxels(np.array([[12, 10, 8]]))
    field = spline_displacement(at, at + np.array([0, 0, 18]), grid, torch.zeros(()), smoothing_mm=0.0)
    lengths = to_displacement(field, grid).vectors_ras_mm
    torch.testing.assert_close(lengths[:, 8, 10, 12], torch.tensor([0.0, 0.0, 18.0]), atol=1e-3, rtol=0)
    assert float(lengths[2].max()) < 18.1
    assert float(lengths[:, [0, -1]].norm(dim=0).max()) < 4


def test_splatting_is_the_adjoint_of_sampling():
    generator = torch.Generator().manual_seed(0)
    volume = torch.randn((2, 5, 6, 7), generator=generator, dtype=torch.float64)
    points = torch.rand((200, 3), generator=generator, dtype=torch.float64) * 11 - 2
    values = torch.randn((2, 200), generator=generator, dtype=torch.float64)
    sampled, spread = sample_linear(volume, points), splat(points, values, (5, 6, 7))
    assert float((sampled * values).sum()) == pytest.approx(float((volume * spread).sum()), rel=1e-9)


def test_splatting_is_the_gradient_of_sampling():
    points = torch.tensor([[0.0, 0.0, 0.0], [6.0, 5.0, 4.0], [2.25, 3.5, 1.75], [-3.0, 2.0, 9.0]])
    volume = torch.zeros((1, 5, 6, 7), requires_grad=True)
    values = torch.tensor([[1.0, -2.0, 3.0, 4.0]])
    (sample_linear(volume, points) * values).sum().backward()
    torch.testing.assert_close(splat(points, values, (5, 6, 7)), volume.grad)
