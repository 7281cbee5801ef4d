"""Mutual information: global, normalised and local."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.metrics import normalized_mutual_information
from torch.nn import functional

from MedSegRegLib.geometry import Geometry
from MedSegRegLib.register import window_sums
from MedSegRegLib.register.information import MutualInformation, region_blocks

SHAPE = (24, 26, 28)
FULL = torch.ones(()).expand(SHAPE)
KINDS = [{}, {"normalised": True}, {"block_kji": (8, 9, 10)}]


def smooth_noise(seed: int) -> torch.Tensor:
    """[1, 24, 26, 28], 0..1."""
    noise = torch.rand((1, 1, *SHAPE), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    smooth = functional.avg_pool3d(noise, 5, 1, 2, count_include_pad=False)[0]
    return (smooth - smooth.min()) / (smooth.max() - smooth.min())


@pytest.fixture
def fixed() -> torch.Tensor:
    """Two channels."""
    return torch.cat((smooth_noise(1), smooth_noise(3)))


@pytest.fixture
def moved(fixed) -> torch.Tensor:
    return 0.7 * (fixed - 0.6) ** 2 + 0.3 * torch.cat((smooth_noise(2), smooth_noise(4)))


@pytest.fixture
def weight() -> torch.Tensor:
    weight = torch.ones(SHAPE, dtype=torch.float64)
    weight[:, :4] = 0
    weight[:, 4] = 0.5
    return weight


def information_in_numpy(fixed: np.ndarray, moved: np.ndarray, weight: np.ndarray, levels: int, bins: int) -> dict:
    """Both images on levels (the moved one shared between two), a Parzen window, entropies: voxel by voxel."""
    nearest, place = np.rint(fixed * (levels - 1)).astype(int), moved * (levels - 1)
    lower = np.minimum(np.floor(place).astype(int), levels - 2)
    counts = np.zeros((levels, levels))
    np.add.at(counts, (nearest, lower), weight * (1 - place + lower))
    np.add.at(counts, (nearest, lower + 1), weight * (place - lower))
    position = np.arange(bins)
    window = np.exp(-0.5 * ((position[:, None] - position) / 0.8) ** 2)
    window /= window.sum(axis=0)
    hats = np.maximum(0, 1 - np.abs(position[:, None] - np.arange(levels) * (bins - 1) / (levels - 1)))
    joint = window @ hats @ counts @ (window @ hats).T / weight.sum()

    def entropy(p):
        return -(p[p > 0] * np.log(p[p > 0])).sum()

    separate, both = entropy(joint.sum(axis=0)) + entropy(joint.sum(axis=1)), entropy(joint)
    return {"mi": separate - both, "nmi": separate / both}


@pytest.mark.parametrize("name", ["mi", "nmi"])
def test_the_value_is_that_of_an_independent_computation(name, fixed, moved, weight):
    ours = MutualInformation(fixed[:1], weight, normalised=name == "nmi").match(moved[:1]).value
    theirs = information_in_numpy(fixed[0].numpy(), moved[0].numpy(), weight.numpy(), 128, 32)[name]
    assert float(ours) == pytest.approx(theirs, rel=1e-5)


def test_the_normalised_value_is_near_that_of_scikit_image(fixed, moved):
    ours = MutualInformation(fixed[:1], FULL, normalised=True).match(moved[:1]).value
    theirs = normalized_mutual_information(fixed[0].numpy(), moved[0].numpy(), bins=16)
    assert float(ours) == pytest.approx(theirs, abs=0.05)


def test_local_information_of_one_block_is_that_of_the_block(fixed, moved, weight):
    ours = MutualInformation(fixed[:1], weight, block_kji=(99, 99, 99)).match(moved[:1]).value
    theirs = information_in_numpy(fixed[0].numpy(), moved[0].numpy(), weight.numpy(), 32, 16)["mi"]
    assert float(ours) == pytest.approx(theirs, rel=1e-5)


def test_local_information_is_the_mean_of_its_regions_by_weight(fixed, moved, weight):
    ours = MutualInformation(fixed[:1], weight, block_kji=(12, 26, 28)).match(moved[:1]).value
    expected = total = 0.0
    for own, other in ((slice(0, 12), slice(12, 24)), (slice(12, 24), slice(0, 12))):
        shares = weight.clone()
        shares[own], shares[other] = weight[own] * 2 / 3, weight[other] / 3
        value = information_in_numpy(fixed[0].numpy(), moved[0].numpy(), shares.numpy(), 32, 16)["mi"]
        expected, total = expected + value * float(shares.sum()), total + float(shares.sum())
    assert float(ours) == pytest.approx(expected / total, rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weighted", [True, False])
def test_the_gradient_predicts_what_a_small_change_does(kind, weighted, fixed, moved, weight):
    weight = weight if weighted else FULL
    measure = MutualInformation(fixed, weight, **kind)
    change = 1e-4 * (torch.cat((smooth_noise(5), smooth_noise(6))) - 0.5)
    gain = measure.match(moved + change).value - measure.match(moved - change).value
    predicted = 2 * (measure.match(moved).gradient * change).sum() / weight.sum()
    assert float(predicted) == pytest.approx(float(gain), rel=0.03)


@pytest.mark.parametrize("kind", KINDS)
def test_a_gauss_newton_step_of_intensities_raises_the_value(kind, fixed, moved):
    measure = MutualInformation(fixed, FULL, **kind)
    match = measure.match(moved)
    step = (match.gradient / match.curvature.clamp_min(1e-3)).clamp(-1, 1)
    assert measure.match((moved + 0.03 * step).clamp(0, 1)).value > match.value


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_masked_out_has_no_say(kind, fixed, moved, weight):
    measure, other = MutualInformation(fixed, weight, **kind), moved.clone()
    other[:, :, :4] = torch.rand_like(other[:, :, :4])
    before, after = measure.match(moved), measure.match(other)
    torch.testing.assert_close(before.value, after.value)
    assert (after.gradient[:, :, :4] == 0).all()
    assert (after.curvature >= 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_has_no_better_match_than_itself(kind, fixed):
    measure = MutualInformation(fixed, FULL, **kind)
    itself = measure.match(fixed).value
    for other in (fixed.roll(1, 3), functional.avg_pool3d(fixed, 3, 1, 1), 0.9 * fixed + 0.1 * smooth_noise(7)):
        assert measure.match(other).value < itself


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", ["fixed", "moved", "both"])
def test_constant_images_give_finite_numbers_and_no_force(kind, side, fixed, moved):
    fixed = torch.zeros_like(fixed) if side in ("fixed", "both") else fixed
    moved = torch.zeros_like(moved) if side in ("moved", "both") else moved
    match = MutualInformation(fixed.float(), FULL, **kind).match(moved.float())
    assert torch.isfinite(match.value)
    assert torch.isfinite(match.gradient).all()
    assert torch.isfinite(match.curvature).all()
    if side == "fixed":
        assert match.gradient.abs().max() < 1e-4


def test_blocks_without_weight_say_nothing(fixed, moved):
    weight = torch.zeros(SHAPE, dtype=fixed.dtype)
    weight[:8] = 1
    match = MutualInformation(fixed, weight, block_kji=(8, 9, 10)).match(moved)
    assert torch.isfinite(match.value)
    assert torch.isfinite(match.gradient).all()
    alone = MutualInformation(fixed[:, :8], weight[:8], block_kji=(8, 9, 10)).match(moved[:, :8])
    torch.testing.assert_close(match.value, alone.value)


def test_local_information_bears_a_change_of_brightness_that_global_information_does_not(fixed):
    ramp = torch.linspace(-0.5, 0.5, SHAPE[2], dtype=fixed.dtype)
    shaded = 0.5 * fixed + 0.25 + 0.4 * ramp
    plain = 0.5 * fixed + 0.25

    def kept(**kind) -> float:
        measure = MutualInformation(fixed, FULL, **kind)
        return float(measure.match(shaded).value / measure.match(plain).value)

    assert kept(block_kji=(24, 26, 4)) > kept() + 0.1


def test_the_sums_do_not_depend_on_how_the_volume_is_cut(fixed, moved, monkeypatch):
    whole = MutualInformation(fixed, FULL).match(moved)
    monkeypatch.setattr(window_sums, "SLAB_VOXELS", 1)
    torch.testing.assert_close(MutualInformation(fixed, FULL).match(moved).gradient, whole.gradient, atol=0, rtol=0)


def test_a_block_is_about_20_mm_and_at_least_6_voxels():
    assert region_blocks(Geometry.from_spacing((100, 90, 80), (1.0, 2.0, 5.0))) == (6, 10, 20)
