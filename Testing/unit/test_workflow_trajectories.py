"""Smoothing through time against known paths, and label maps between two others."""

from __future__ import annotations

import numpy as np
import pytest

from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Labels, Structure
from MedSegRegLib.workflows.blend_labels import blend_labels
from MedSegRegLib.workflows.trajectories import Route, choose_stiffness, smoothing_matrix

COUNT = 16
TIME = np.arange(COUNT) / COUNT
CYCLE = Route(tuple(range(COUNT)), 0, closed=True)
LINE = Route(tuple(range(COUNT)), 3)


def smoothed(route: Route, places: np.ndarray, apart_mm: float) -> np.ndarray:
    """[n, points], where two measurements differ by so much."""
    stiffness = choose_stiffness(route, places @ places.T, apart_mm**2 * places.shape[1])
    return smoothing_matrix(route, stiffness) @ places


def paths(route: Route, noise: float, points: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """True and measured displacements from the key frame in mm, [n, points], periodic."""
    random = np.random.default_rng(0)
    true = np.outer(1 - np.cos(2 * np.pi * TIME), random.normal(0, 3, points))
    true += np.outer(np.sin(2 * np.pi * TIME), random.normal(0, 1, points))
    true -= true[route.key]
    measured = true + random.normal(0, noise, true.shape)
    measured[route.key] = 0.0
    return true, measured


@pytest.mark.parametrize("route", [CYCLE, LINE], ids=["cycle", "line"])
@pytest.mark.parametrize("noise", [0.1, 0.5])
def test_noise_is_taken_away_and_the_motion_is_left(route, noise):
    true, measured = paths(route, noise)
    found = smoothed(route, measured, 1.5 * noise)
    assert np.square(found - true).mean() < 0.55 * np.square(measured - true).mean()
    np.testing.assert_array_equal(found[route.key], 0)


def test_motion_that_jumps_is_left_as_it_was_measured():
    true, _ = paths(LINE, 0.0)
    jumping = np.where(np.arange(COUNT)[:, None] % 2, true, -true)
    jumping[LINE.key] = 0
    assert np.abs(smoothed(LINE, jumping, 0.1) - jumping).mean() <= 0.1
    assert np.abs(smoothed(LINE, jumping, 10.0) - jumping).mean() > 1, (
        "this could be noise, if there were so much of it"
    )


def test_a_closed_route_has_no_beginning():
    """Turned by some frames, the weights are the same."""
    turned = Route(CYCLE.numbers, 5, closed=True)
    np.testing.assert_allclose(
        np.roll(smoothing_matrix(CYCLE, 2.0), (5, 5), axis=(0, 1)), smoothing_matrix(turned, 2.0), atol=1e-9
    )


def test_routes_too_short_to_tell_are_not_smoothed():
    assert choose_stiffness(Route((0, 1, 2, 3), 0), np.ones((4, 4)), 1e9) == 0.0
    np.testing.assert_array_equal(smoothing_matrix(Route((0, 1, 2, 3), 0), 0.0), np.diag([0, 1, 1, 1]))


GRID = Geometry.from_spacing((20, 12, 10), (1.0, 1.0, 2.0))


def a_box(first: int, last: int, value: int = 3) -> Labels:
    array = np.zeros(GRID.shape_kji, np.uint8)
    array[3:7, 3:9, first:last] = value
    return Labels.from_array(array, GRID, (Structure(3, "box"), Structure(4, "other")))


@pytest.mark.parametrize(("weight", "expected"), [(0.75, (4, 12)), (0.5, (6, 12)), (0.25, (8, 12))])
def test_the_border_lies_between_both_by_their_weights(weight, expected):
    blended = blend_labels([a_box(2, 12), a_box(10, 12)], [weight, 1 - weight])
    inside = np.nonzero(blended.numpy()[5, 6])[0]
    assert abs(inside[0] - expected[0]) <= 2
    assert inside[-1] + 1 == expected[1]
    assert blended.structures == a_box(2, 12).structures


def test_one_map_stays_as_it_is_and_a_structure_of_one_side_fades():
    whole = a_box(2, 12)
    assert blend_labels([whole], [0.4]) is whole
    assert not blend_labels([whole, a_box(0, 0)], [0.5, 0.5]).numpy().any()
    np.testing.assert_array_equal(blend_labels([whole, whole], [0.3, 0.7]).numpy(), whole.numpy())


def test_neighbours_do_not_overlap_and_leave_no_gap():
    array = np.zeros(GRID.shape_kji, np.uint8)
    array[3:7, 3:9, 2:8], array[3:7, 3:9, 8:14] = 3, 4
    other = np.zeros(GRID.shape_kji, np.uint8)
    other[3:7, 3:9, 2:10], other[3:7, 3:9, 10:14] = 3, 4
    maps = [Labels.from_array(one, GRID, a_box(2, 12).structures) for one in (array, other)]
    row = blend_labels(maps, [0.5, 0.5]).numpy()[5, 6]
    assert row[2:14].all()
    assert abs(int((row == 3).sum()) - 7) <= 1
