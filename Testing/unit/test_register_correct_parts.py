"""The parts of a correction: a flow of compact support, a fill, a window, and what settles in it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt

from MedSegRegLib.evaluate.deformation import folding
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Labels
from MedSegRegLib.register.confine import Window, distance_to_points, distance_to_region, fading
from MedSegRegLib.register.displacement import grid_coordinates, to_displacement
from MedSegRegLib.register.fill import fill_smoothly
from MedSegRegLib.register.flow import DisplacementField
from MedSegRegLib.register.kernel_flow import carry
from MedSegRegLib.register.settle import Orders, lacking_mm, settle
from MedSegRegLib.register.terms import LandmarkTerm, RigidRegions

TILTED = Geometry.from_spacing((20, 18, 16), (2.0, 3.0, 2.5), (-20.0, 5.0, 8.0), np.linalg.qr(np.eye(3) + 0.2)[0])
POINTS = torch.tensor([[0.0, 0.0, 0.0], [30.0, 5.0, 0.0]], dtype=torch.float64)
TARGETS = POINTS + torch.tensor([[5.0, 0.0, 0.0], [0.0, -6.0, 2.0]], dtype=torch.float64)


def places(spread_mm: float = 60.0) -> torch.Tensor:
    """[2000, 3] mm around the points."""
    return spread_mm * (torch.rand((2000, 3), generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 0.5)


def test_points_are_carried_to_their_targets_but_for_the_ridge():
    missed = (carry(POINTS, POINTS, TARGETS, 40.0) - TARGETS).norm(dim=1)
    assert missed.max() < 0.1 * (TARGETS - POINTS).norm(dim=1).min()


def test_nothing_moves_beyond_the_radius_from_the_paths():
    here = places(200.0)
    after = carry(here, POINTS, TARGETS, 40.0)
    path = torch.stack([POINTS + t * (TARGETS - POINTS) for t in torch.linspace(0, 1, 30)]).reshape(-1, 3)
    away = torch.cdist(here, path).amin(dim=1) > 40.5
    assert 100 < away.sum() < len(here)
    assert torch.equal(after[away], here[away])
    assert not torch.equal(after[~away], here[~away])


def test_the_way_back_undoes_the_way_there():
    here = places()
    there = carry(here, POINTS, TARGETS, 40.0)
    landed = carry(POINTS, POINTS, TARGETS, 40.0)
    back = carry(there, landed, POINTS, 40.0)
    assert (back - here).norm(dim=1).max() < 0.15 * (there - here).norm(dim=1).max()


def test_a_long_way_does_not_fold_space():
    grid = Geometry.from_spacing((40, 40, 40), (2.0, 2.0, 2.0))
    voxels = grid_coordinates(torch.zeros(grid.shape_kji, dtype=torch.float64))
    start = torch.tensor([[30.0, 40.0, 40.0], [50.0, 40.0, 44.0]], dtype=torch.float64)
    after = carry(voxels * 2, start, start + torch.tensor([[18.0, 0, 0], [0, -18.0, 0]]), 40.0)
    displacement = to_displacement((after / 2 - voxels).movedim(-1, 0), grid)
    assert displacement.vectors_ras_mm.norm(dim=0).max() > 15
    assert folding(displacement).voxels_any_corner == 0


def test_a_hole_is_filled_as_the_plane_around_it():
    i, j, k = grid_coordinates(torch.zeros(TILTED.shape_kji, dtype=torch.float64)).unbind(-1)
    plane = torch.stack((1 + 2 * i - j, 3 * k, i + j + k))
    hole = torch.zeros(TILTED.shape_kji, dtype=torch.bool)
    hole[4:11, 5:12, 3:15] = True
    spoilt = torch.where(hole, torch.tensor(1e3, dtype=torch.float64), plane)
    torch.testing.assert_close(fill_smoothly(spoilt, hole, TILTED), plane, atol=0.02, rtol=0)


def test_a_fill_stays_between_what_surrounds_it_and_leaves_the_rest():
    field = torch.rand((2, *TILTED.shape_kji), generator=torch.Generator().manual_seed(4))
    hole = torch.rand(TILTED.shape_kji, generator=torch.Generator().manual_seed(5)) < 0.4
    filled = fill_smoothly(field, hole, TILTED)
    assert torch.equal(filled[:, ~hole], field[:, ~hole])
    assert filled.min() >= field[:, ~hole].min() - 1e-3
    assert filled.max() <= field[:, ~hole].max() + 1e-3


def test_nothing_to_fill_changes_nothing():
    field = torch.rand((3, *TILTED.shape_kji))
    assert fill_smoothly(field, torch.zeros(TILTED.shape_kji, dtype=torch.bool), TILTED) is field


def test_distances_are_millimetres_on_a_tilted_grid():
    like, voxel = torch.zeros((), dtype=torch.float64), (7, 9, 3)
    point = TILTED.map_voxels(np.array([voxel]))
    outside = np.ones(TILTED.shape_kji)
    outside[voxel[::-1]] = 0
    expected = torch.as_tensor(distance_transform_edt(outside, sampling=TILTED.spacing_mm[::-1]))
    torch.testing.assert_close(distance_to_points(TILTED, point, like), expected)
    region = Labels(torch.as_tensor(1 - outside).to(torch.uint8), TILTED)
    torch.testing.assert_close(distance_to_region(TILTED, region, like), expected)


def test_what_may_change_fades_from_half_the_reach_to_the_reach():
    shares = fading(torch.tensor([0.0, 20.0, 30.0, 40.0, torch.inf]), 40.0)
    torch.testing.assert_close(shares, torch.tensor([1.0, 1.0, 0.5, 0.0, 0.0]))


def test_a_window_holds_all_that_may_change_and_goes_back_where_it_was():
    weight = torch.zeros(TILTED.shape_kji)
    weight[5:8, 0:3, 9:12] = 1
    window = Window.around(weight, TILTED)
    assert window.geometry.size_ijk == (7, 5, 7)
    np.testing.assert_allclose(window.geometry.origin_ras, TILTED.map_voxels(np.array([7, 0, 3])))
    flow = DisplacementField(torch.rand((3, *TILTED.shape_kji)), TILTED)
    assert torch.equal(window.put_into(flow, window.taken_from(flow)).vectors, flow.vectors)
    changed = window.put_into(flow, torch.zeros(3, *window.geometry.shape_kji)).vectors
    assert not changed[:, 5:8, 0:3, 9:12].any()
    assert torch.equal(changed[:, 12:], flow.vectors[:, 12:])


@pytest.mark.parametrize("apart_mm", [6.0, 15.0, 40.0])
def test_points_settle_however_near_they_are(apart_mm):
    grid = Geometry.from_spacing((40, 30, 30), (4.0, 4.0, 4.0))
    fixed = np.array([[60.0, 60.0, 60.0], [60.0 + apart_mm, 60.0, 60.0]])
    landmarks = LandmarkTerm(fixed, fixed + np.array([[0.0, 2.0, 0.0], [0.0, -2.0, 0.0]]))
    weight = fading(distance_to_points(grid, fixed, torch.zeros(())), 40.0)
    window = Window.around(weight, grid)
    orders = Orders(landmarks, None, torch.zeros(window.geometry.shape_kji, dtype=torch.bool), 40.0)
    still = torch.zeros(3, *window.geometry.shape_kji)
    vectors = settle(still, still, window, orders)
    assert lacking_mm(vectors, window.geometry, landmarks).max() < 0.1
    assert folding(to_displacement(vectors, window.geometry)).voxels_any_corner == 0


def test_a_body_settles_around_the_point_in_it_and_fades_out():
    grid = Geometry.from_spacing((30, 30, 30), (4.0, 4.0, 4.0))
    body = torch.zeros(grid.shape_kji, dtype=torch.uint8)
    body[12:18, 12:18, 12:18] = 1
    region, fixed = Labels(body, grid), np.array([[58.0, 58.0, 62.0]])
    landmarks = LandmarkTerm(fixed, fixed + np.array([3.0, 0.0, 0.0]))
    distance = distance_to_region(grid, region, torch.zeros(()))
    window = Window.around(fading(distance, 24.0), grid)
    inside = window.taken_from(DisplacementField(distance.expand(3, -1, -1, -1), grid))[0]
    bodies = RigidRegions(region).on(window.geometry, inside)
    orders = Orders(landmarks, bodies, (inside > 0) & (inside < 24), 24.0)
    still = torch.zeros(3, *window.geometry.shape_kji)
    vectors = settle(still, still, window, orders)
    torch.testing.assert_close(vectors[0][inside == 0], torch.full((216,), 0.75), atol=1e-3, rtol=0)
    assert not vectors[:, inside >= 24].any()
    assert 0.1 < vectors[0][(inside > 4) & (inside < 9)].mean() < 0.7
