"""The discrete start: costs against brute force, known motion found, nothing made up where nothing is seen."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from MedSegRegLib.files import read_image
from MedSegRegLib.geometry import Geometry, translation
from MedSegRegLib.register.discrete import _displacement_costs, search_displacement, search_motion
from MedSegRegLib.register.displacement import exponentiate, grid_coordinates, resize_field
from MedSegRegLib.register.filters import filter_axes, gaussian_axes
from MedSegRegLib.register.pyramid import Study, prepare_study
from MedSegRegLib.samples import sample_path
from MedSegRegLib.sampling import sample_linear

TURN = Rotation.from_rotvec([0.1, -0.2, 0.3]).as_matrix()


def smooth_noise(geometry: Geometry, sigma_mm: float, channels: int, seed: int = 0) -> torch.Tensor:
    """[channels, K, J, I] of mean 0 and standard deviation 1."""
    noise = torch.randn((channels, *geometry.shape_kji), generator=torch.Generator().manual_seed(seed))
    smooth = filter_axes(noise, gaussian_axes(geometry, sigma_mm, noise))
    return smooth / smooth.std()


def flow(geometry: Geometry, sigma_mm: float, longest_mm: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """A displacement in voxels of a grid of cubes, at most so long, and its inverse."""
    velocity = smooth_noise(geometry, sigma_mm, 3, seed)
    velocity *= longest_mm / min(geometry.spacing_mm) / velocity.norm(dim=0).max()
    identity = grid_coordinates(velocity)
    return exponentiate(velocity, identity), exponentiate(-velocity, identity)


def read_head() -> Study:
    return prepare_study(read_image(sample_path("icbm152-t1")), None, torch.device("cpu"))


def whole(intensity: torch.Tensor, geometry: Geometry) -> Study:
    return Study(intensity, torch.ones_like(intensity[0]), geometry)


def test_costs_are_squared_differences():
    geometry = Geometry.from_spacing((7, 6, 5))
    wider = geometry.window((-2, -1, -1), (11, 8, 7))
    ours, theirs = smooth_noise(geometry, 0.5, 4), smooth_noise(wider, 0.5, 4, seed=1)
    costs = _displacement_costs(whole(ours, geometry), whole(theirs, wider), (2, 1, 1)).float()
    assert costs.shape == (5 * 6 * 7, 3 * 3 * 5)
    expected = torch.stack(
        [
            (ours - theirs[:, dk : dk + 5, dj : dj + 6, di : di + 7]).square().sum(dim=0).flatten()
            for dk in range(3)
            for dj in range(3)
            for di in range(5)
        ],
        dim=1,
    )
    apart = (ours[..., None] - theirs.flatten(1)[:, None, None, None]).square().sum(dim=0).mean()
    torch.testing.assert_close(costs, expected / apart, atol=4e-3, rtol=2e-3)


def test_features_are_found_where_they_went():
    geometry = Geometry.from_spacing((36, 32, 30), (4.0, 4.0, 4.0), (-60.0, 10.0, 5.0), TURN)
    fixed = smooth_noise(geometry, 6.0, 6)
    there, back = flow(geometry, 30.0, 24.0)
    moving = sample_linear(fixed, grid_coordinates(fixed) + back.movedim(0, -1))
    found = search_displacement(whole(fixed, geometry), whole(moving, geometry), 28.0)
    inside = (slice(None), *[slice(5, -5)] * 3)
    before, after = (4 * part[inside].norm(dim=0).mean() for part in (there, found - there))
    assert float(before) > 8
    assert float(after) < 2.0


def test_a_shift_of_25_mm_is_found_between_a_head_and_its_negative_on_other_grids():
    head = read_head()
    turn = translation(head.geometry.centre_ras) @ np.block([[TURN, np.zeros((3, 1))], [np.zeros((1, 3)), 1]])
    matrix = turn @ translation(-head.geometry.centre_ras)
    shift = np.array([-14.0, 18.0, 10.0])
    other = Geometry(head.geometry.size_ijk, matrix @ translation(shift) @ head.geometry.ijk_to_ras)
    negative = Study(1 - head.intensity, head.weight, other).coarsen(2.0)
    field, grid = search_motion(head, negative, matrix, spacing_mm=6.0)
    brain = head.resampled(np.eye(4), grid).intensity[0] > 0.4
    motion = torch.einsum("ab,bn->an", torch.tensor(grid.ijk_to_ras[:3, :3]).float(), field[:, brain])
    errors = (motion - torch.tensor(shift)[:, None].float()).norm(dim=0)
    assert float(errors.mean()) < 4.0
    assert float(errors.quantile(0.9)) < 7.0


def test_a_real_head_deformed_by_20_mm_is_brought_near():
    head = read_head().coarsen(2.0)
    coarse = head.coarse_grid(6.0)
    there, back = (resize_field(part, coarse, head.geometry) for part in flow(coarse, 35.0, 20.0, seed=3))
    moved = sample_linear(head.intensity, grid_coordinates(there) + back.movedim(0, -1))
    field, grid = search_motion(head, whole(1 - moved, head.geometry), np.eye(4))
    found = resize_field(field, grid, head.geometry)
    brain = head.intensity[0] > 0.4
    before, after = (2 * part[:, brain].norm(dim=0).mean() for part in (there, found - there))
    assert float(before) > 6
    assert float(after) < 0.5 * float(before)


def test_the_tissue_of_a_pair_in_place_stays_in_place():
    head = read_head()
    field, grid = search_motion(head, Study(1 - head.intensity, head.weight, head.geometry), np.eye(4))
    tissue = head.resampled(np.eye(4), grid).intensity[0] > 0.2
    motion_mm = field.norm(dim=0) * grid.spacing_mm[0]
    assert float(motion_mm[tissue].mean()) < 0.02
    assert float(motion_mm[tissue].max()) < 2
    assert float((motion_mm > 1).float().mean()) < 0.1  # corners of background, where nothing holds it


def test_nothing_moves_where_nothing_is_seen():
    geometry = Geometry.from_spacing((20, 18, 16), (3.0, 3.0, 3.0))
    grey = whole(torch.full((1, *geometry.shape_kji), 0.5), geometry)
    field, _ = search_motion(grey, grey, np.eye(4))
    assert float(field.abs().max()) < 1e-3


def test_ignored_voxels_do_not_pull():
    geometry = Geometry.from_spacing((30, 28, 26), (4.0, 4.0, 4.0))
    fixed = smooth_noise(geometry, 6.0, 6)
    moving = fixed.roll(3, dims=3)
    weight = torch.ones_like(fixed[0])
    weight[:, :, :14] = 0
    fixed[:, :, :, :14] = smooth_noise(geometry, 6.0, 6, seed=9)[:, :, :, :14]
    found = search_displacement(Study(fixed, weight, geometry), whole(moving, geometry), 20.0)
    right = found[:, 4:-4, 4:-4, 15:-7]
    torch.testing.assert_close(right, right.new_tensor([3.0, 0, 0]).view(3, 1, 1, 1).expand_as(right), atol=0.4, rtol=0)
    assert float(found[0, 4:-4, 4:-4, 4:14].mean()) > 2


def test_masks_that_do_not_yet_overlap_are_no_harm():
    head = read_head()
    place = grid_coordinates(head.weight) * head.geometry.spacing_mm[0]
    ball = (place - place.new_tensor((70.0, 95.0, 85.0))).norm(dim=-1) < 32
    fixed = Study(head.intensity, ball.float(), head.geometry)
    away = Geometry(head.geometry.size_ijk, translation(np.array([24.0, -12.0, 16.0])) @ head.geometry.ijk_to_ras)
    field, grid = search_motion(fixed, Study(1 - head.intensity, fixed.weight, away), np.eye(4), spacing_mm=5.0)
    seen = fixed.resampled(np.eye(4), grid).weight > 0.9
    motion = torch.einsum("ab,bn->an", field.new_tensor(grid.ijk_to_ras[:3, :3]), field[:, seen])
    missed = motion - field.new_tensor([[24.0], [-12.0], [16.0]])
    assert float(missed.norm(dim=0).mean()) < 5


def test_a_single_slice_moves_in_its_plane():
    geometry = Geometry.from_spacing((60, 50, 1), (2.0, 2.0, 2.0))
    fixed = smooth_noise(geometry, 5.0, 1).sigmoid()
    field, grid = search_motion(whole(fixed, geometry), whole(fixed.roll(6, dims=3), geometry), np.eye(4))
    assert grid.size_ijk[2] == 1
    assert not field[2].any()
    assert float((field[0, :, 5:-5, 5:-8] * grid.spacing_mm[0]).mean()) == pytest.approx(12, abs=2)


def test_the_same_twice_is_the_same():
    geometry = Geometry.from_spacing((24, 22, 20), (4.0, 4.0, 4.0))
    studies = [whole(smooth_noise(geometry, 6.0, 3, seed), geometry) for seed in (0, 1)]
    assert torch.equal(search_displacement(*studies, 16.0), search_displacement(*studies, 16.0))
