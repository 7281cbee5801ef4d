"""A flow can be stepped, brought to another grid, undone, and begun from a displacement."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from register_phantoms import distance_mm, smooth_noise
from scipy.spatial.transform import Rotation

from MedSegRegLib.geometry import Geometry
from MedSegRegLib.register.deformable import border_taper
from MedSegRegLib.register.displacement import to_displacement
from MedSegRegLib.register.flow import DisplacementField, Flow, VelocityField, resized
from MedSegRegLib.transform import Transform

TILT = Rotation.from_euler("xyz", [20, -15, 30], degrees=True).as_matrix()
GRID = Geometry.from_spacing((24, 22, 16), (2.0, 2.5, 4.0), (10.0, -20.0, 5.0), TILT)
KINDS = [VelocityField, DisplacementField]


def random_vectors(largest_voxels: float, seed: int = 0) -> torch.Tensor:
    """[3, 16, 22, 24] float64 in voxels, smooth, zero on the border."""
    vectors = smooth_noise(GRID, 9.0, seed, 3).double()
    vectors = vectors * border_taper(GRID, vectors)
    return largest_voxels * vectors / vectors.norm(dim=0).max()


def as_transform(flow: Flow, sign: float = 1.0) -> Transform:
    return Transform((to_displacement(flow.displacement(sign), flow.geometry),))


@pytest.fixture
def points() -> np.ndarray:
    """[300, 3] RAS mm inside the grid."""
    return GRID.map_voxels(np.random.default_rng(0).uniform(2, (21, 19, 13), (300, 3)))


def test_a_step_of_a_displacement_goes_first(points):
    flow, update = DisplacementField(random_vectors(1.5), GRID), random_vectors(0.5, 5)
    stepped = as_transform(flow.stepped(update))
    both = Transform((to_displacement(update, GRID),)).then(as_transform(flow))
    voxels = GRID.map_voxels(np.round(GRID.map_points(points)))
    np.testing.assert_allclose(stepped.map_points(voxels), both.map_points(voxels), atol=1e-9)


def test_a_small_step_of_a_velocity_is_a_step_of_the_motion(points):
    flow, update = VelocityField(random_vectors(1.5), GRID), random_vectors(0.2, 5)
    stepped = as_transform(flow.stepped(update))
    both = Transform((to_displacement(update, GRID),)).then(as_transform(flow))
    longest = float(to_displacement(update, GRID).vectors_ras_mm.norm(dim=0).max())
    assert distance_mm(stepped, both, points).max() < 0.3 * longest
    assert distance_mm(stepped, both, points).mean() < 0.1 * longest


@pytest.mark.parametrize("kind", KINDS)
def test_the_motion_stays_on_a_finer_grid(kind, points):
    flow = kind(random_vectors(1.5), GRID)
    finer = resized(flow, GRID.with_spacing((1.0, 1.3, 2.1)))
    assert finer.geometry.size_ijk != GRID.size_ijk
    assert type(finer) is kind
    before, after = as_transform(flow), as_transform(finer)
    assert distance_mm(before, Transform(), points).mean() > 0.8
    assert distance_mm(before, after, points).mean() < 0.05
    assert distance_mm(before, after, points).max() < 0.4


@pytest.mark.parametrize("kind", KINDS)
def test_the_inverse_leads_back(kind, points):
    flow = kind(random_vectors(1.5), GRID)
    both = as_transform(flow).then(as_transform(flow, -1.0))
    assert distance_mm(both, Transform(), points).mean() < 0.1  # voxels of 2 to 4 mm
    assert distance_mm(both, Transform(), points).max() < 0.5


def test_the_velocity_of_a_flow_makes_this_flow():
    field = VelocityField(random_vectors(2.0), GRID).displacement()
    again = VelocityField.from_displacement(field, GRID).displacement()
    assert float((again - field).norm(dim=0).mean()) < 0.01
    assert float((again - field).norm(dim=0).max()) < 0.2


def test_a_displacement_begins_as_it_is():
    field = random_vectors(2.0)
    assert torch.equal(DisplacementField.from_displacement(field, GRID).displacement(), field)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_what_is_searched_with_is_near_the_exact_motion(kind, sign):
    flow = kind(random_vectors(3.0), GRID)
    searched = flow.field(flow.squarings(0.0), sign)
    assert float((searched - flow.displacement(sign)).norm(dim=0).max()) < 0.25


def test_squarings_leave_room_for_growth():
    still = VelocityField(torch.zeros(3, *GRID.shape_kji), GRID)
    assert still.squarings(0.0) == 0
    assert still.squarings(4.0) >= 2
    assert DisplacementField(random_vectors(3.0), GRID).squarings(4.0) == 0
