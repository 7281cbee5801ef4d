"""Similarity measures and their closed-form gradients."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from MedSegRegLib.geometry import Geometry
from MedSegRegLib.register.similarity import image_gradient, prepare_similarity

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


def lncc_as_defined(fixed: torch.Tensor, moved: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Squared correlation of each window, computed voxel by voxel of the window, weighted by the window's weight."""

    def windows(x):
        padded = functional.pad(x[None, None], (RADIUS,) * 6)[0, 0]
        for axis in range(3):
            padded = padded.unfold(axis, 2 * RADIUS + 1, 1)
        return padded.flatten(-3)

    w, f, m = windows(weight), windows(fixed), windows(moved)
    total = w.sum(-1)
    counted = total > 1e-3 * total.max()
    w, f, m, total = w[counted], f[counted], m[counted], total[counted]
    f = f - (w * f).sum(-1, keepdim=True) / total[:, None]
    m = m - (w * m).sum(-1, keepdim=True) / total[:, None]
    variances = [(w * x * x).sum(-1) / total + 1e-5 for x in (f, m)]
    return ((((w * f * m).sum(-1) / total) ** 2 / (variances[0] * variances[1])) * total).sum() / total.sum()


def test_the_closed_form_lncc_gradient_is_that_of_autograd(fixed, moved, weight):
    value = sum(lncc_as_defined(f, m, weight) for f, m in zip(fixed, moved, strict=True))
    (gradient,) = torch.autograd.grad(value, moved)
    match = prepare_similarity("lncc", fixed, weight, GRID, RADIUS).match(moved.detach())
    windows = functional.conv3d(weight[None, None], weight.new_ones(1, 1, 5, 5, 5), padding=RADIUS).sum()
    torch.testing.assert_close(match.value, value.detach(), atol=1e-12, rtol=1e-9)
    torch.testing.assert_close(match.gradient / windows, gradient, atol=1e-12, rtol=1e-7)


@pytest.mark.parametrize(("name", "tolerance"), [("ssd", 1e-9), ("mi", 0.05)])
def test_the_gradient_predicts_what_a_small_change_does(name, tolerance, fixed, moved, weight):
    measure, moved = prepare_similarity(name, fixed, weight, GRID, RADIUS), moved.detach()
    change = 1e-4 * (torch.cat((smooth_noise(5), smooth_noise(6))) - 0.5)
    gain = measure.match(moved + change).value - measure.match(moved - change).value
    predicted = 2 * (measure.match(moved).gradient * change).sum() / weight.sum()
    assert abs(gain - predicted) <= tolerance * abs(gain)


@pytest.mark.parametrize("name", ["lncc", "mi", "ssd"])
def test_what_is_masked_out_has_no_say(name, fixed, moved, weight):
    measure, moved = prepare_similarity(name, fixed, weight, GRID, RADIUS), moved.detach()
    other = moved.clone()
    other[:, :, :4] = torch.rand_like(other[:, :, :4])
    before, after = measure.match(moved), measure.match(other)
    torch.testing.assert_close(before.value, after.value)
    assert (after.gradient[:, :, :4] == 0).all()
    assert (after.curvature >= 0).all()


@pytest.mark.parametrize("change", [lambda x: 1 - x, lambda x: 0.2 + 0.5 * x])
def test_lncc_does_not_mind_brightness_contrast_or_inversion(change, fixed):
    everywhere = torch.ones_like(fixed[0])
    match = prepare_similarity("lncc", fixed, everywhere, GRID, RADIUS).match(change(fixed))
    assert float(match.value) > 2 * 0.97


def test_mutual_information_sees_a_relation_that_no_correlation_sees():
    fixed = smooth_noise(1)
    everywhere = torch.ones_like(fixed[0])
    spread = (fixed - fixed.min()) / (fixed.max() - fixed.min())
    measure = prepare_similarity("mi", spread, everywhere, GRID, RADIUS)
    folded = 4 * (spread - 0.5) ** 2
    assert float(measure.match(folded).value) > 3 * float(measure.match(smooth_noise(9)).value)


def test_a_flat_background_gives_no_force_and_no_infinities():
    fixed = torch.zeros((1, *GRID.shape_kji))
    fixed[:, 4:8, 4:8, 4:8] = 1
    for name in ("lncc", "mi", "ssd"):
        match = prepare_similarity(name, fixed, torch.ones_like(fixed[0]), GRID, RADIUS).match(fixed.roll(1, 3))
        assert torch.isfinite(match.gradient).all()
        assert torch.isfinite(match.curvature).all()
        if name != "mi":
            assert match.gradient[0, 0, 0, 0] == 0


def test_float32_moments_stay_right_on_images_with_an_offset():
    fixed, moved = smooth_noise(1), 0.6 * smooth_noise(1) + 0.4 * smooth_noise(2)
    ones = torch.ones_like(fixed[0])
    exact = prepare_similarity("lncc", fixed, ones, GRID, RADIUS).match(moved)
    single = prepare_similarity("lncc", fixed.float(), ones.float(), GRID, RADIUS).match(moved.float())
    assert abs(float(exact.value) - float(single.value)) < 1e-4
    assert float((exact.gradient - single.gradient).abs().max()) < 1e-3 * float(exact.gradient.abs().max())


def test_the_image_gradient_of_a_ramp_is_its_slope_up_to_the_border():
    k, j, i = torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in (4, 5, 6)), indexing="ij")
    gradient = image_gradient(2 * i - j + 0.5 * k)
    torch.testing.assert_close(gradient, torch.tensor([2.0, -1.0, 0.5]).reshape(3, 1, 1, 1).expand_as(gradient))
