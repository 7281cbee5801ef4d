"""Random changes of place: matrices are what they say, and flows do not fold and can be undone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from MedSegRegLib.train.chance import Chance
from MedSegRegLib.train.warp import diffeomorphic_displacement, patch_coordinates, random_matrix, random_velocity

PATCH = (24, 28, 32)


@pytest.mark.parametrize("seed", range(5))
def test_a_turn_keeps_lengths_and_sides(seed):
    matrix = random_matrix(Chance(seed), rotation_degrees=40, scale=0)
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(3), atol=1e-5, rtol=0)
    assert matrix.det() == pytest.approx(1, abs=1e-5)


def test_mirroring_changes_the_sign_of_its_axis_alone():
    signs = {tuple(random_matrix(Chance(seed), 0, 0, mirror_axes=(1,)).diag().tolist()) for seed in range(12)}
    assert signs == {(1, 1, 1), (1, -1, 1)}


def test_scales_and_shears_stay_in_their_ranges():
    for seed in range(20):
        matrix = random_matrix(Chance(seed), 0, 0.2, 0.05)
        assert ((matrix.diag() - 1).abs() <= 0.2).all()
        assert ((matrix - torch.diag(matrix.diag())).abs() <= 0.05 + 1e-6).all()


def test_the_centre_of_the_patch_is_read_at_the_given_place():
    ijk = patch_coordinates(random_matrix(Chance(1), 30, 0.2), (5.0, 6.0, 7.0), (5, 7, 9), None, torch.empty(0))
    torch.testing.assert_close(ijk[2, 3, 4], torch.tensor([5.0, 6.0, 7.0]))


def test_a_constant_velocity_moves_by_itself():
    velocity = torch.tensor([1.5, -0.5, 0.25])[:, None, None, None].expand(3, 6, 7, 8)
    moved = diffeomorphic_displacement(velocity, PATCH)
    torch.testing.assert_close(moved, velocity[:, :1, :1, :1].expand(3, *PATCH), atol=1e-5, rtol=0)


@pytest.mark.parametrize("seed", range(3))
def test_the_flow_is_that_of_many_small_steps(seed):
    velocity = random_velocity(Chance(seed), (64, 64, 64), (3, 3, 3), 1.0)
    found = diffeomorphic_displacement(velocity, (16, 16, 16)).movedim(0, -1).numpy()
    small_steps = integrate_by_euler(velocity, 200)
    assert np.abs(found - small_steps).max() < 0.1
    assert np.abs(small_steps - velocity.movedim(0, -1).numpy()).max() > 0.2


def integrate_by_euler(velocity: torch.Tensor, steps: int) -> np.ndarray:
    """The same flow by many small steps, with scipy's interpolation; [k, j, i, 3] in voxels of the patch."""
    from scipy.ndimage import map_coordinates  # noqa: PLC0415

    shape = velocity.shape[1:]
    speed = velocity.double().numpy()[::-1]  # order k, j, i
    start = np.indices(shape).astype(float)
    place = start.copy()
    for _ in range(steps):
        place += np.stack([map_coordinates(axis, place, order=1, mode="nearest") for axis in speed]) / steps
    return np.moveaxis((place - start)[::-1], 0, -1)


@pytest.mark.parametrize("seed", range(3))
def test_flows_do_not_fold(seed):
    displacement = diffeomorphic_displacement(random_velocity(Chance(seed), PATCH, (4, 4, 4), 4.0), PATCH)
    ijk = patch_coordinates(torch.eye(3), (0, 0, 0), PATCH, displacement, displacement)
    i, j, k = (ijk.diff(dim=axis)[: PATCH[0] - 1, : PATCH[1] - 1, : PATCH[2] - 1] for axis in (2, 1, 0))
    assert (torch.stack((i, j, k), dim=-2).det() > 0).all()
