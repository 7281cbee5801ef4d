"""Smoothing and resizing by small matrices."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage
import torch

from MedSegRegLib.geometry import Geometry
from MedSegRegLib.register.filters import filter_axes, gaussian_axes, resize_axes


@pytest.fixture
def volume() -> torch.Tensor:
    return torch.randn((9, 12, 15), generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture
def grid() -> Geometry:
    return Geometry.from_spacing((15, 12, 9), (1.0, 0.5, 2.0))


def test_a_gaussian_in_mm_is_scipys_on_each_axis_away_from_the_border(volume, grid):
    padded = torch.zeros(49, 52, 55, dtype=torch.float64)
    padded[20:29, 20:32, 20:35] = volume
    wide = Geometry.from_spacing((55, 52, 49), grid.spacing_mm)
    ours = filter_axes(padded, gaussian_axes(wide, 1.5, padded))
    theirs = scipy.ndimage.gaussian_filter(padded.numpy(), (0.75, 3.0, 1.5), truncate=8)
    np.testing.assert_allclose(ours[10:-10, 20:-20, 15:-15], theirs[10:-10, 20:-20, 15:-15], atol=1e-9)


def test_a_gaussian_keeps_a_constant_up_to_the_border(grid):
    constant = torch.ones(grid.shape_kji)
    torch.testing.assert_close(filter_axes(constant, gaussian_axes(grid, 3.0, constant)), constant)


@pytest.mark.parametrize("spacing", [(0.7, 0.7, 0.7), (2.0, 1.5, 3.0)])
def test_resizing_keeps_every_intensity_at_its_place_in_the_world(grid, spacing):
    target = grid.with_spacing(spacing)

    def ramp(geometry):
        k, j, i = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in geometry.shape_kji), indexing="ij")
        points = geometry.map_voxels(torch.stack((i, j, k), dim=-1).numpy())
        return torch.from_numpy(points @ np.array([1.0, -2.0, 0.5]))

    resized = filter_axes(ramp(grid), resize_axes(grid, target, torch.empty((), dtype=torch.float64)))
    inner = (slice(2, -2), slice(3, -3), slice(2, -2)) if spacing[0] < 1 else (slice(1, -1),) * 3
    torch.testing.assert_close(resized[inner], ramp(target)[inner])
