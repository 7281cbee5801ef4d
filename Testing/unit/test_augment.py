"""Augmentation: image and labels move together, and only the seed decides."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy import ndimage

from MedSegRegLib.train.augment import Augmentation, augment
from MedSegRegLib.train.chance import Chance

STILL = {
    "rotation_degrees": 0,
    "scale": 0,
    "shift_voxels": 0,
    "foreground_probability": 0,
    "elastic_probability": 0,
    "intensity_probability": 0,
}
MOVING = Augmentation(intensity_probability=0, elastic_probability=1, elastic_voxels=1.0, mirror_axes=(0, 1, 2))


@pytest.fixture
def blobs() -> torch.Tensor:
    """Labels 0 and 1 [30, 34, 38] in a few large, unsymmetric pieces that do not touch the border."""
    smooth = ndimage.gaussian_filter(np.random.default_rng(4).normal(size=(26, 30, 34)), 4)
    return torch.from_numpy(np.pad(smooth > 0, 2).astype(np.int64))


@pytest.fixture
def an_image() -> torch.Tensor:
    return Chance(7).normal_noise((2, 20, 24, 28))


@pytest.mark.parametrize("seed", range(8))
def test_image_and_labels_move_together(seed, blobs):
    image, labels = augment(blobs[None].float(), blobs, (24, 24, 24), MOVING, Chance(seed))
    near_a_surface = ndimage.binary_dilation(labels.numpy()) & ndimage.binary_dilation(1 - labels.numpy())
    differing = ((image[0] > 0.5) != (labels > 0)).numpy()
    assert 0.1 < labels.float().mean() < 0.9
    assert not (differing & ~near_a_surface).any()
    assert differing.mean() < 0.05


@pytest.mark.parametrize("seed", range(4))
def test_the_labels_of_a_patch_are_labels_of_the_example(seed, blobs):
    labels = augment(blobs[None].float(), blobs * 7, (24, 24, 24), MOVING, Chance(seed))[1]
    assert set(labels.unique().tolist()) <= {0, 7}
    assert labels.dtype == blobs.dtype


def test_without_any_change_the_patch_is_the_example(an_image):
    labels = (an_image[0] > 0).long()
    patch, target = augment(an_image, labels, (20, 24, 28), Augmentation(**STILL), Chance(0))
    torch.testing.assert_close(patch, an_image, atol=1e-4, rtol=0)
    assert torch.equal(target, labels)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_mirrored_axis_flips_in_half_of_the_patches(axis, an_image):
    labels = (an_image[0] > 0).long()
    flipped = 0
    for seed in range(20):
        settings = Augmentation(**STILL, mirror_axes=(axis,))
        patch, target = augment(an_image, labels, (20, 24, 28), settings, Chance(seed))
        if not torch.equal(target, labels):
            flipped += 1
            torch.testing.assert_close(patch, an_image.flip(3 - axis), atol=1e-4, rtol=0)
            assert torch.equal(target, labels.flip(2 - axis))
    assert 4 <= flipped <= 16


def test_a_smaller_patch_is_a_part_of_the_example(an_image):
    patch, labels = augment(an_image, (an_image[0] > 0).long(), (8, 9, 10), Augmentation(**STILL), Chance(3))
    assert patch.shape == (2, 8, 9, 10)
    assert labels.shape == (8, 9, 10)
    assert an_image.min() <= patch.min() <= patch.max() <= an_image.max()


def test_smaller_patches_come_from_everywhere():
    place = torch.arange(64.0).expand(1, 64, 64, 64)
    starts = [
        float(
            augment(
                place, torch.zeros((64, 64, 64), dtype=torch.long), (16, 16, 16), Augmentation(**STILL), Chance(seed)
            )[0].min()
        )
        for seed in range(60)
    ]
    assert min(starts) < 5
    assert max(starts) > 43
    assert max(starts) <= 48


def test_patches_are_drawn_to_the_labels_if_asked():
    labels = torch.zeros((64, 64, 64), dtype=torch.long)
    labels[5, 60, 30] = 1
    settings = Augmentation(**{**STILL, "foreground_probability": 1.0})
    for seed in range(5):
        assert augment(labels[None].float(), labels, (16, 16, 16), settings, Chance(seed))[1].sum() == 1


def test_a_larger_patch_repeats_the_border_and_has_no_labels_there(an_image):
    labels = torch.ones((20, 24, 28), dtype=torch.long)
    patch, target = augment(an_image, labels, (30, 24, 40), Augmentation(**STILL), Chance(0))
    torch.testing.assert_close(patch[:, 5:25, :, 6:34], an_image, atol=1e-4, rtol=0)
    torch.testing.assert_close(patch[:, 0], patch[:, 5], atol=1e-4, rtol=0)
    assert target.sum() == labels.sum()
    assert target[5:25, :, 6:34].all()


def test_the_seed_decides_everything(an_image):
    labels = (an_image[0] > 0).long()
    every = Augmentation(intensity_probability=1, elastic_probability=1, mirror_axes=(0, 1, 2))
    (first, first_labels), (again, again_labels), (other, _) = (
        augment(an_image, labels, (16, 16, 16), every, Chance(seed)) for seed in (5, 5, 6)
    )
    assert torch.equal(first, again)
    assert torch.equal(first_labels, again_labels)
    assert not torch.equal(first, other)


def test_the_global_random_state_is_not_used(an_image):
    before = torch.get_rng_state()
    augment(an_image, (an_image[0] > 0).long(), (16, 16, 16), Augmentation(intensity_probability=1), Chance(0))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_example_is_not_changed(an_image):
    before = an_image.clone()
    augment(an_image, (an_image[0] > 0).long(), (20, 24, 28), Augmentation(intensity_probability=1), Chance(0))
    assert torch.equal(an_image, before)


@pytest.mark.parametrize(
    "strongest",
    [
        {"noise": 1.0},
        {"blur_voxels": 3.0},
        {"contrast": 0.9},
        {"gamma": 1.5},
        {"bias_field": 0.3},
        {"low_resolution": 8.0},
    ],
)
def test_intensity_changes_keep_the_place_and_stay_finite(strongest, an_image):
    weak = {"noise": 0, "blur_voxels": 0, "contrast": 0, "gamma": 0, "bias_field": 0, "low_resolution": 1}
    smooth = torch.from_numpy(ndimage.gaussian_filter(an_image.numpy(), (0, 3, 3, 3))) * 20
    settings = Augmentation(**{**STILL, **weak, **strongest, "intensity_probability": 1.0})
    patch, _ = augment(smooth, torch.zeros((20, 24, 28), dtype=torch.long), (20, 24, 28), settings, Chance(1))
    assert torch.isfinite(patch).all()
    assert (patch - smooth).abs().max() > 1e-3
    assert np.corrcoef(patch.numpy().ravel(), smooth.numpy().ravel())[0, 1] > 0.6


def test_a_constant_example_stays_finite():
    patch, _ = augment(
        torch.full((1, 12, 12, 12), 3.0),
        torch.zeros((12, 12, 12), dtype=torch.long),
        (8, 8, 8),
        Augmentation(intensity_probability=1.0),
        Chance(0),
    )
    assert torch.isfinite(patch).all()


@pytest.mark.parametrize(
    "wrong",
    [
        {"mirror_axes": (3,)},
        {"scale": 1.0},
        {"noise": -1},
        {"noise": float("inf")},
        {"gamma": float("nan")},
        {"cutout": 1},
    ],
)
def test_refuses_settings_that_are_not_possible(wrong):
    with pytest.raises(ValidationError):
        Augmentation(**wrong)
