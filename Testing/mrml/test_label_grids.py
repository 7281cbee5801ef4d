"""Label values on other grids, as VTK reads them in Slicer's window: the same as the library does with torch."""

from __future__ import annotations

import numpy as np
import pytest

from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Labels
from MedSegRegLib.mrml.label_grids import renumbered, values_on_grid
from MedSegRegLib.resample import resample_labels


@pytest.fixture
def values(any_grid):
    return np.random.default_rng(0).integers(0, 5, any_grid.shape_kji).astype(np.uint8)


@pytest.mark.parametrize("start", [(0, 0, 0), (2, 1, 3), (-3, 4, -2), (50, 0, 0)])
def test_whole_voxels_apart_the_values_are_those_of_the_library(any_grid, values, start):
    grid = any_grid.window(start, (11, 13, 8))
    expected = resample_labels(Labels.from_array(values, any_grid), grid).numpy()
    np.testing.assert_array_equal(values_on_grid(values, any_grid, grid), expected)


def test_on_a_grid_of_other_voxels_and_directions_too(any_grid, values):
    grid = Geometry.from_spacing((17, 15, 13), (1.7, 2.3, 3.1), tuple(any_grid.origin_ras + np.array((1.3, 0.7, 2.9))))
    expected = resample_labels(Labels.from_array(values, any_grid), grid).numpy()
    assert expected.any()
    np.testing.assert_array_equal(values_on_grid(values, any_grid, grid), expected)


def test_the_same_voxels_are_not_copied(any_grid, values):
    assert values_on_grid(values, any_grid, any_grid) is values


def test_values_get_other_numbers_and_unknown_ones_none():
    values = np.array([0, 1, 2, 3, 200], np.uint8)
    assert renumbered(values, {1: 2, 2: 300}).tolist() == [0, 2, 300, 0, 0]
    assert renumbered(values, {1: 1, 2: 2}).tolist() == [0, 1, 2, 0, 0]
    assert renumbered(np.array([-1, 1], np.int16), {1: 1}).tolist() == [0, 1]
    assert renumbered(values[:4], {1: 1, 2: 2, 3: 3}).base is values
