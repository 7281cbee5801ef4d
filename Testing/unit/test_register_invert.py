"""The inverse of chains that came without one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from register_phantoms import make_bend
from scipy.spatial.transform import Rotation

from MedSegRegLib.evaluate.deformation import inverse_consistency
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.register.invert import border_motion_mm, fit_linear, invert
from MedSegRegLib.transform import Affine, Displacement, Transform

pytestmark = pytest.mark.usefixtures("one_thread")

GRID = Geometry.from_spacing((20, 20, 20), (3.0, 3.0, 3.0), (-28.5, -28.5, -28.5))
BEND = make_bend(GRID, largest_mm=4.0)


def turned(degrees: float = 60.0) -> Affine:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", (degrees, 20, -15), degrees=True).as_matrix() * 1.1
    matrix[:3, 3] = (70.0, -30.0, 12.0)
    return Affine(matrix)


@pytest.mark.parametrize(
    "chain",
    [(BEND,), (BEND, turned()), (turned(10), BEND), (BEND, turned(), make_bend(GRID, 2.0, seed=5))],
    ids=["field", "field, matrix", "matrix, field", "field, matrix, field"],
)
def test_the_inverse_of_a_chain_leads_back(chain):
    transform = Transform(chain)
    error = inverse_consistency(transform, invert(transform), GRID)
    assert error.mean_mm < 0.1
    assert error.p99_mm < 0.3


def test_the_inverse_leads_back_in_the_other_direction_too():
    transform = Transform((BEND,))
    assert inverse_consistency(invert(transform), transform, GRID).p99_mm < 0.3


def test_linear_stages_are_inverted_exactly():
    chain = Transform((turned(), turned(20)))
    matrix = invert(chain).matrix
    assert matrix is not None
    np.testing.assert_allclose(matrix @ chain.linear_part, np.eye(4), atol=1e-12)


def test_a_dense_field_with_a_large_turn_inside_is_inverted():
    """As other programs write it: one field for everything. A plain fixed point would not get there."""
    everything = Transform((Transform((BEND, turned())).to_displacement(GRID),))
    inverse = invert(everything)
    assert isinstance(inverse.stages[0], Affine)
    error = inverse_consistency(everything, inverse, GRID)
    assert error.mean_mm < 0.1
    assert error.p99_mm < 0.3


def test_a_field_that_dies_out_moves_nothing_far_away_in_its_inverse():
    far = np.array([[300.0, 0.0, 0.0]])
    np.testing.assert_array_equal(invert(Transform((BEND,))).map_points(far), far)


def test_a_single_slice_is_inverted():
    grid = Geometry.from_spacing((24, 24, 1), (2.0, 2.0, 6.0))
    slice_bend = make_bend(grid, largest_mm=3.0)
    flat = Displacement(slice_bend.vectors_ras_mm * torch.tensor([1.0, 1.0, 0.0]).reshape(3, 1, 1, 1), grid)
    inverse = invert(Transform((flat,)))
    assert inverse.stages[0].geometry.size_ijk[2] == 1
    assert inverse_consistency(Transform((flat,)), inverse, grid).mean_mm < 0.1


def test_the_border_of_a_field_is_measured():
    assert border_motion_mm(BEND) == 0.0
    shift = Displacement(torch.full((3, *GRID.shape_kji), 1.0), GRID)
    assert border_motion_mm(shift) == pytest.approx(np.sqrt(3))


def test_the_linear_fit_of_a_slice_leaves_its_normal_alone():
    points = np.random.default_rng(0).uniform(-50, 50, (40, 3)) * (1, 1, 0)
    matrix = np.eye(4)
    matrix[:2, :2] = [[0.9, -0.3], [0.2, 1.1]]
    matrix[:2, 3] = 5.0, -3.0
    found = fit_linear(points, points @ matrix[:3, :3].T + matrix[:3, 3])
    np.testing.assert_allclose(found, matrix, atol=1e-9)
