"""What all similarity measures promise, and the gradient of an image."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from torch.nn import functional

from MedSegRegLib.geometry import Geometry
from MedSegRegLib.register.similarity import MeasureName, image_gradient, prepare_similarity

NAMES = get_args(MeasureName)
RADIUS = 2
GRID = Geometry.from_spacing((10, 11, 12))


def smooth_noise(seed: int) -> torch.Tensor:
    """[1, 12, 11, 10]."""
    noise = torch.rand((1, 1, *GRID.shape_kji), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return functional.avg_pool3d(noise, 3, 1, 1, count_include_pad=False)[0]


@pytest.fixture
def fixed() -> torch.Tensor:
    """Two channels, [2, 12, 11, 10]."""
    return torch.cat((smooth_noise(1), smooth_noise(3)))


@pytest.fixture
def moved() -> torch.Tensor:
    other = torch.cat((smooth_noise(2), smooth_noise(4)))
    return (0.6 * torch.cat((smooth_noise(1), smooth_noise(3))) + 0.4 * other).requires_grad_()


@pytest.fixture
def weight() -> torch.Tensor:
    weight = torch.ones(GRID.shape_kji, dtype=torch.float64)
    weight[:, :4] = 0
    weight[:, 4] = 0.5
    return weight


@pytest.mark.parametrize(
    ("name", "tolerance"), [("ssd", 1e-9), ("mind", 1e-9), ("lncc", 1e-3), ("mi", 0.05), ("nmi", 0.05), ("lmi", 0.05)]
)
def test_the_gradient_predicts_what_a_small_change_does(name, tolerance, fixed, moved, weight):
    measure, moved = prepare_similarity(name, fixed, weight, GRID, RADIUS), moved.detach()
    change = 1e-4 * (torch.cat((smooth_noise(5), smooth_noise(6))) - 0.5)
    gain = measure.match(moved + change).value - measure.match(moved - change).value
    predicted = 2 * (measure.match(moved).gradient * change).sum() / weight.sum()
    assert abs(gain - predicted) <= tolerance * abs(gain)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_masked_out_has_no_say(name, fixed, moved, weight):
    measure, moved = prepare_similarity(name, fixed, weight, GRID, RADIUS), moved.detach()
    other = moved.clone()
    other[:, :, :4] = torch.rand_like(other[:, :, :4])
    before, after = measure.match(moved), measure.match(other)
    torch.testing.assert_close(before.value, after.value)
    assert (after.gradient[:, :, :4] == 0).all()
    assert (after.curvature >= 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_without_any_weight_nothing_is_said(name, fixed, moved):
    match = prepare_similarity(name, fixed, torch.zeros_like(fixed[0]), GRID, RADIUS).match(moved.detach())
    assert match.value == 0
    assert not match.gradient.any()
    assert not match.curvature.any()


def test_a_flat_background_gives_no_force_and_no_infinities():
    fixed = torch.zeros((1, *GRID.shape_kji))
    fixed[:, 4:8, 4:8, 4:8] = 1
    for name in NAMES:
        match = prepare_similarity(name, fixed, torch.ones_like(fixed[0]), GRID, RADIUS).match(fixed.roll(1, 3))
        assert torch.isfinite(match.gradient).all()
        assert torch.isfinite(match.curvature).all()
        if name in ("lncc", "mind", "ssd"):
            assert match.gradient[0, 0, 0, 0] == 0


def test_the_image_gradient_of_a_ramp_is_its_slope_up_to_the_border():
    k, j, i = torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in (4, 5, 6)), indexing="ij")
    gradient = image_gradient(2 * i - j + 0.5 * k)
    torch.testing.assert_close(gradient, torch.tensor([2.0, -1.0, 0.5]).reshape(3, 1, 1, 1).expand_as(gradient))


@pytest.mark.parametrize("shape", [(1, 5, 6), (4, 1, 6), (4, 5, 1), (2, 2, 2), (1, 1, 3)])
def test_the_image_gradient_is_that_of_numpy_and_0_along_an_axis_of_one_voxel(shape):
    volume = torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    gradient = image_gradient(volume)
    for slope, axis in zip(gradient, (2, 1, 0), strict=True):
        expected = np.gradient(volume.numpy(), axis=axis) if shape[axis] > 1 else np.zeros(shape)
        np.testing.assert_allclose(slope, expected)


@pytest.mark.parametrize("name", NAMES)
def test_one_expanded_number_as_weight_means_that_everything_counts(name, fixed, moved):
    implied, stated = (
        prepare_similarity(name, fixed, weight, GRID, RADIUS).match(moved.detach())
        for weight in (torch.ones((), dtype=fixed.dtype).expand(fixed.shape[1:]), torch.ones_like(fixed[0]))
    )
    torch.testing.assert_close(implied.value, stated.value)
    torch.testing.assert_close(implied.gradient, stated.gradient)
    torch.testing.assert_close(implied.curvature, stated.curvature)


@pytest.mark.parametrize("name", NAMES)
def test_one_slice_can_be_compared(name):
    grid = Geometry.from_spacing((10, 11, 1))
    fixed, moved = smooth_noise(1)[:, :1], smooth_noise(2)[:, :1]
    match = prepare_similarity(name, fixed, torch.ones_like(fixed[0]), grid, RADIUS).match(moved)
    assert torch.isfinite(match.gradient).all()
    assert match.gradient.abs().max() > 0
