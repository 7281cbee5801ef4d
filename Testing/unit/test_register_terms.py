"""Springs between points, and regions that stay rigid."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from register_phantoms import smooth_noise
from scipy.spatial.transform import Rotation

from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Labels
from MedSegRegLib.register.displacement import to_displacement
from MedSegRegLib.register.terms import LANDMARK_STEEPNESS, LandmarkTerm, RigidRegions
from MedSegRegLib.transform import Transform

TILT = Rotation.from_euler("xyz", [20, -15, 30], degrees=True).as_matrix()
GRID = Geometry.from_spacing((20, 18, 12), (3.0, 3.0, 5.0), (4.0, -9.0, 2.0), TILT)
IMAGE = GRID.with_spacing((1.5, 1.5, 2.5))
GRID_VOXELS = torch.from_numpy(1.5 / np.array(GRID.spacing_mm)).reshape(3, 1, 1, 1)


def test_a_landmark_wants_the_motion_it_lacks_in_the_smallest_image_spacing():
    fixed = GRID.map_voxels(np.array([[9.0, 8.0, 6.0]]))
    target = fixed + GRID.directions @ np.array([3.0, -1.5, 6.0])
    pull = LandmarkTerm(fixed, target).on(GRID, 4.0, GRID_VOXELS)
    value, sums = pull.gather(torch.zeros(3, *GRID.shape_kji, dtype=torch.float64))
    steepness = sums[3]
    assert float(value) == pytest.approx(-(2.0**2 + 1.0**2 + 4.0**2))
    torch.testing.assert_close(sums[:3, 6, 8, 9] / steepness[6, 8, 9], torch.tensor([2.0, -1.0, 4.0]).double())
    assert float(steepness[6, 8, 9]) == pytest.approx(LANDMARK_STEEPNESS)
    assert float(steepness[6, 8, 10]) == pytest.approx(LANDMARK_STEEPNESS * np.exp(-0.5 * (3 / 4) ** 2))


def test_landmarks_that_have_met_pull_no_more():
    field = smooth_noise(GRID, 9.0, 0, 3).double()
    fixed = GRID.map_voxels(np.random.default_rng(0).uniform(2, (17, 15, 9), (12, 3)))
    target = Transform((to_displacement(field, GRID),)).map_points(fixed)
    value, sums = LandmarkTerm(fixed, target).on(GRID, 4.0, GRID_VOXELS).gather(field)
    assert float(value) == pytest.approx(0, abs=1e-18)
    assert float(sums[:3].abs().max()) < 1e-9


def body(value_at_low: int = 1, value_at_high: int = 2) -> Labels:
    """Two boxes on the image grid."""
    tensor = torch.zeros(IMAGE.shape_kji, dtype=torch.uint8)
    tensor[6:14, 8:18, 5:15] = value_at_low
    tensor[6:14, 22:30, 22:32] = value_at_high
    return Labels(tensor, IMAGE)


def region_points(labels: Labels, value: int) -> np.ndarray:
    return IMAGE.map_voxels((labels.tensor == value).nonzero().flip(1).numpy())


def test_a_body_takes_the_rigid_motion_nearest_to_its_vectors():
    labels, field = body(), smooth_noise(GRID, 7.0, 1, 3).double()
    bodies = RigidRegions(labels).on(GRID, field)
    stiff = bodies.stiffened(field)
    voxels = np.stack(np.unravel_index(bodies.bodies[0].numpy(), GRID.shape_kji)[::-1], axis=1)
    before, bent, after = (
        GRID.map_voxels(voxels + (0 if moved is None else moved.flatten(1)[:, bodies.bodies[0]].numpy().T))
        for moved in (None, field, stiff)
    )
    rotation, _ = Rotation.align_vectors(bent - bent.mean(axis=0), before - before.mean(axis=0))
    np.testing.assert_allclose(after, rotation.apply(before - before.mean(axis=0)) + bent.mean(axis=0), atol=1e-9)
    assert np.abs(after - bent).max() > 0.1


def test_points_of_a_region_keep_their_distances_and_others_their_motion():
    labels, field = body(), smooth_noise(GRID, 7.0, 1, 3).double()
    bodies = RigidRegions(labels).on(GRID, field)
    stiff = Transform((to_displacement(bodies.stiffened(field), GRID),))
    for value in (1, 2):
        points = region_points(labels, value)[::11]
        gaps = [np.linalg.norm(p[:, None] - p, axis=-1) for p in (points, stiff.map_points(points))]
        assert np.abs(gaps[1] - gaps[0]).max() < 1e-6
    kept = torch.ones(GRID.shape_kji, dtype=torch.bool).flatten()
    kept[torch.cat(bodies.bodies)] = False
    assert torch.equal(bodies.stiffened(field).flatten(1)[:, kept], field.flatten(1)[:, kept])


def test_a_rigid_motion_is_left_as_it_is():
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("xyz", [8, -5, 12], degrees=True).as_matrix()
    voxels = np.stack(np.meshgrid(*(np.arange(n) for n in GRID.shape_kji), indexing="ij")[::-1])
    points = GRID.map_voxels(np.moveaxis(voxels, 0, -1))
    moved = GRID.map_points(points @ turn[:3, :3].T + 2.0)
    field = torch.from_numpy(np.moveaxis(moved, -1, 0) - voxels)
    torch.testing.assert_close(RigidRegions(body()).on(GRID, field).stiffened(field), field, atol=1e-9, rtol=0)


def test_a_mirrored_motion_becomes_a_rotation_not_a_mirror():
    field = torch.zeros(3, *GRID.shape_kji, dtype=torch.float64)
    field[0] = -2 * (torch.arange(20) - 4.5)  # turned inside out along i
    bodies = RigidRegions(body()).on(GRID, field)
    voxels = np.stack(np.unravel_index(bodies.bodies[0].numpy(), GRID.shape_kji)[::-1], axis=1)
    moved = voxels + bodies.stiffened(field).flatten(1)[:, bodies.bodies[0]].numpy().T
    before, after = (GRID.map_voxels(v) - GRID.map_voxels(v).mean(axis=0) for v in (voxels, moved))
    matrix = np.linalg.lstsq(before, after, rcond=None)[0]
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(3), atol=1e-6)
    assert np.linalg.det(matrix) == pytest.approx(1)
