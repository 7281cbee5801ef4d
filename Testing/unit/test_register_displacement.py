"""Dense fields in voxels: composition, flow, inverse, and the way to millimetres."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from MedSegRegLib.evaluate.deformation import folding
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.register.displacement import (
    compose,
    count_squarings,
    exponentiate,
    from_displacement,
    grid_coordinates,
    invert,
    to_displacement,
)
from MedSegRegLib.register.filters import filter_axes, gaussian_axes
from MedSegRegLib.register.logarithm import logarithm
from MedSegRegLib.transform import Transform

OBLIQUE = np.array([[0.8, -0.6, 0.2], [0.6, 0.8, 0.0], [0.0, 0.1, -0.9]])
OBLIQUE = OBLIQUE / np.linalg.norm(OBLIQUE, axis=0)


@pytest.fixture
def velocity() -> torch.Tensor:
    """[3, 24, 22, 20], smooth, at most 2 voxels, zero at the border."""
    noise = torch.randn((3, 24, 22, 20), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    noise[:, [0, -1]] = noise[:, :, [0, -1]] = noise[:, :, :, [0, -1]] = 0
    smooth = filter_axes(noise, gaussian_axes(Geometry.from_spacing((20, 22, 24)), 4.0, noise))
    ramps = [torch.minimum(torch.arange(n), n - 1 - torch.arange(n)).clamp_max(4) / 4 for n in (24, 22, 20)]
    smooth = smooth * ramps[0][:, None, None] * ramps[1][:, None] * ramps[2]
    return 2 * smooth / smooth.norm(dim=0).max()


def test_the_flow_of_minus_the_velocity_is_the_inverse(velocity):
    identity = grid_coordinates(velocity)
    there, back = exponentiate(velocity, identity), exponentiate(-velocity, identity)
    residue = compose(back, there, identity).norm(dim=0)
    assert float(there.norm(dim=0).max()) > 1
    assert float(residue.mean()) < 0.03
    assert float(residue.max()) < 0.5


def test_the_flow_follows_the_velocity_as_small_steps_do(velocity):
    identity, euler = grid_coordinates(velocity), torch.zeros_like(velocity)
    for _ in range(256):
        euler = compose(velocity / 256, euler, identity)
    assert float((exponentiate(velocity, identity) - euler).norm(dim=0).max()) < 0.15


def test_the_fixed_point_inverse_undoes_the_field(velocity):
    identity = grid_coordinates(velocity)
    field = exponentiate(velocity, identity)
    assert float(compose(field, invert(field), identity).norm(dim=0).max()) < 1e-3


def test_the_flow_of_nothing_is_exactly_nothing():
    nothing = torch.zeros(3, 4, 5, 6)
    assert torch.equal(exponentiate(nothing, grid_coordinates(nothing)), nothing)


def test_voxels_become_millimetres_through_the_whole_grid_matrix(velocity):
    geometry = Geometry.from_spacing((20, 22, 24), (0.7, 1.1, 2.5), (30.0, -40.0, 5.0), OBLIQUE)
    displacement = to_displacement(velocity, geometry)
    ijk = np.array([[9.0, 10.0, 11.0], [5.0, 14.0, 8.0]])
    expected = geometry.map_voxels(ijk + np.array([velocity[:, int(k), int(j), int(i)].tolist() for i, j, k in ijk]))
    np.testing.assert_allclose(Transform((displacement,)).map_points(geometry.map_voxels(ijk)), expected, atol=1e-6)
    torch.testing.assert_close(from_displacement(displacement), velocity)


def test_a_given_number_of_squarings_is_the_same_flow(velocity):
    identity = grid_coordinates(velocity)
    squarings = count_squarings(velocity)
    assert squarings == 3
    torch.testing.assert_close(
        exponentiate(velocity, identity, squarings=squarings), exponentiate(velocity, identity), rtol=0, atol=0
    )


def test_the_inverse_is_found_where_neighbours_stretch_apart():
    field = torch.zeros((3, 4, 5, 36), dtype=torch.float64)
    knots, heights = [0, 4, 14, 20, 30, 35], [0, 0, -6, 6, 0, 0]  # slopes of -0.6 and 2
    field[0] = torch.as_tensor(np.interp(np.arange(36), knots, heights))
    inverse = invert(field)
    assert float(compose(field, inverse, grid_coordinates(field)).norm(dim=0).max()) < 1e-3
    expected = np.interp(np.arange(36), np.add(knots, heights), knots) - np.arange(36)
    np.testing.assert_allclose(inverse[0, 2, 2], expected, atol=2e-3)


def test_the_logarithm_of_a_flow_has_that_flow(velocity):
    identity = grid_coordinates(velocity)
    field = exponentiate(2 * velocity, identity)
    found, lacking = logarithm(field)
    assert float(field.norm(dim=0).max()) > 3
    torch.testing.assert_close(lacking, field - exponentiate(found, identity))
    assert float(lacking.norm(dim=0).mean()) < 0.01
    assert float(lacking.norm(dim=0).max()) < 0.15
    assert float((found - 2 * velocity).norm(dim=0).mean()) < 0.03


def test_the_logarithm_of_nothing_is_nothing():
    nothing = torch.zeros(3, 7, 8, 9)
    found, lacking = logarithm(nothing)
    assert not found.any()
    assert not lacking.any()


def test_the_logarithm_of_a_noisy_field_is_smooth_and_near(velocity):
    noise = torch.randn(velocity.shape, generator=torch.Generator().manual_seed(7), dtype=velocity.dtype)
    identity = grid_coordinates(velocity)
    field = exponentiate(velocity, identity) + 0.7 * noise
    found, _ = logarithm(field)
    assert folded(field) > 100
    assert folded(exponentiate(found, identity)) == 0
    assert float((found - velocity).norm(dim=0).mean()) < 0.5 * float(velocity.norm(dim=0).mean())


def test_the_logarithm_of_a_field_that_folds_does_not(velocity):
    field = 6 * velocity
    found, _ = logarithm(field)
    assert folded(field) > 20
    assert folded(exponentiate(found, grid_coordinates(field))) == 0
    assert float((found * field).sum()) > 0


def folded(field: torch.Tensor) -> int:
    """Voxels of a unit grid that fold, by any corner."""
    return folding(to_displacement(field, Geometry.from_spacing((20, 22, 24)))).voxels_any_corner
