"""Local correlation against its definition, autograd and double precision."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from MedSegRegLib.register import window_sums
from MedSegRegLib.register.correlation import LocalCorrelation

SHAPE = (12, 11, 10)
RADIUS = 2
FULL = torch.ones(()).expand(SHAPE)


def smooth_noise(seed: int, shape: tuple[int, int, int] = SHAPE) -> torch.Tensor:
    """[1, *shape], 0..1."""
    noise = np.random.default_rng(seed).random((1, *shape))
    return torch.from_numpy(scipy.ndimage.uniform_filter(noise, (1, 3, 3, 3), mode="nearest"))


@pytest.fixture
def fixed() -> torch.Tensor:
    """Two channels, [2, 12, 11, 10]."""
    return torch.cat((smooth_noise(1), smooth_noise(3)))


@pytest.fixture
def moved(fixed) -> torch.Tensor:
    return (0.6 * fixed + 0.4 * torch.cat((smooth_noise(2), smooth_noise(4)))).requires_grad_()


@pytest.fixture
def weight() -> torch.Tensor:
    weight = torch.ones(SHAPE, dtype=torch.float64)
    weight[:, :4] = 0
    weight[:, 4] = 0.5
    return weight


def as_defined(fixed: torch.Tensor, moved: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
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


@pytest.mark.parametrize("planes_a_slab", [1, 3, 100])
def test_value_and_gradient_are_those_of_the_definition_and_autograd(planes_a_slab, fixed, moved, weight, monkeypatch):
    monkeypatch.setattr(window_sums, "SLAB_VOXELS", planes_a_slab * 13 * 12)
    value = sum(as_defined(f, m, weight) for f, m in zip(fixed, moved, strict=True))
    (gradient,) = torch.autograd.grad(value, moved)
    match = LocalCorrelation(fixed, weight, RADIUS).match(moved.detach())
    torch.testing.assert_close(match.value, value.detach(), atol=1e-12, rtol=1e-9)
    torch.testing.assert_close(match.gradient / weight.sum(), gradient, atol=1e-12, rtol=1e-7)


@pytest.mark.parametrize("shape", [(12, 11, 10), (1, 30, 28), (20, 1, 18), (2, 3, 40)])
def test_one_expanded_number_as_weight_means_that_everything_counts(shape):
    fixed, moved = smooth_noise(1, shape), smooth_noise(2, shape)
    implied = LocalCorrelation(fixed, torch.ones(()).expand(shape), 3).match(moved)
    stated = LocalCorrelation(fixed, torch.ones(shape, dtype=fixed.dtype), 3).match(moved)
    for name in ("value", "gradient", "curvature"):
        torch.testing.assert_close(getattr(implied, name), getattr(stated, name))


def test_a_measure_may_be_asked_again_about_another_image(fixed, moved, weight):
    measure, moved = LocalCorrelation(fixed, weight, RADIUS), moved.detach()
    first = measure.match(moved)
    kept = first.gradient.clone()
    measure.match(fixed)
    torch.testing.assert_close(first.gradient, kept)
    torch.testing.assert_close(measure.match(moved).gradient, kept)


@pytest.mark.parametrize("change", [lambda x: 1 - x, lambda x: 0.2 + 0.5 * x])
def test_brightness_contrast_and_inversion_do_not_matter(change, fixed):
    match = LocalCorrelation(fixed, FULL, RADIUS).match(change(fixed))
    assert float(match.value) > 2 * 0.97


@pytest.mark.parametrize(("offset", "tolerance"), [(0.0, 2e-5), (10.0, 2e-3)])
def test_single_precision_is_enough_also_of_images_with_an_offset(offset, tolerance):
    shape = (40, 44, 48)
    fixed, other = smooth_noise(1, shape), smooth_noise(2, shape)
    fixed, moved = fixed + offset, 0.6 * fixed + 0.4 * other + offset
    full = torch.ones(()).expand(shape)
    exact = LocalCorrelation(fixed, full, 3).match(moved)
    single = LocalCorrelation(fixed.float(), full, 3).match(moved.float())
    assert float(single.value) == pytest.approx(float(exact.value), rel=tolerance)
    assert (single.gradient - exact.gradient).abs().max() < tolerance * exact.gradient.abs().max()


@given(
    st.integers(0, 2**16),
    st.sampled_from(["both", "fixed", "moved"]),
    st.sampled_from([(14, 13, 12), (1, 24, 24)]),
    st.floats(0, 1),
    st.booleans(),
)
def test_a_constant_background_pulls_at_nothing(seed, side, shape, grey, masked):
    background = torch.zeros(shape, dtype=torch.bool)
    background[..., shape[2] // 2 :] = True
    fixed, moved = smooth_noise(seed, shape).float(), smooth_noise(seed + 1, shape).float()
    constant = [image for image, of in ((fixed, "fixed"), (moved, "moved")) if side in ("both", of)]
    for image in constant:
        image.masked_fill_(background, grey)
    weight = (~background).float() if masked else torch.ones(()).expand(shape)
    match = LocalCorrelation(fixed, weight, 2).match(moved)
    far = (..., slice(shape[2] // 2 + 4, None))
    assert torch.isfinite(match.value)
    assert torch.isfinite(match.gradient).all()
    assert (match.curvature >= 0).all()
    assert torch.isfinite(match.curvature).all()
    assert match.gradient[far].abs().max() <= 1e-3 * match.gradient.abs().max()
