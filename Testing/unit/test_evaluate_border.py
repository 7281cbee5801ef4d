"""What an error of a border costs, and what the images say around it."""

from __future__ import annotations

import numpy as np
import pytest

from MedSegRegLib.evaluate.border import border_agreement, sensitivity_per_mm

BALL = np.linalg.norm(np.indices((30, 30, 30)) - 14.5, axis=0) < 9


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


@pytest.mark.parametrize("spacing_kji", [(1.0, 1.0, 1.0), (3.0, 0.5, 0.8)])
def test_the_sensitivity_is_the_dice_lost_by_a_shift_of_one_voxel(spacing_kji):
    lost = [(1 - dice(BALL, np.roll(BALL, 1, axis))) / mm for axis, mm in enumerate(spacing_kji)]
    assert sensitivity_per_mm(BALL, spacing_kji) == pytest.approx(np.mean(lost))


def test_thin_structures_are_more_sensitive():
    shell = BALL & ~(np.linalg.norm(np.indices((30, 30, 30)) - 14.5, axis=0) < 7)
    assert sensitivity_per_mm(shell, (1, 1, 1)) > 2 * sensitivity_per_mm(BALL, (1, 1, 1))


def test_where_a_structure_is_cut_off_it_has_no_border():
    assert sensitivity_per_mm(BALL[:, 10:20, 10:20], (1, 1, 1)) < sensitivity_per_mm(BALL, (1, 1, 1))


def test_agreement_does_not_ask_for_the_same_contrast():
    image = BALL + 0.1 * np.random.default_rng(0).normal(size=BALL.shape)
    assert border_agreement(image, image, BALL) > 0.9
    assert border_agreement(5 - 2 * image, image, BALL) > 0.9
    assert border_agreement(np.abs(image - 0.5), image, BALL) > 0.5


def test_agreement_falls_when_the_border_is_elsewhere():
    image = BALL + 0.1 * np.random.default_rng(0).normal(size=BALL.shape)
    assert border_agreement(np.roll(image, 6, axis=2), image, BALL) < 0.6
    noise = np.random.default_rng(1).normal(size=BALL.shape)
    assert border_agreement(noise, image, BALL) < 0.2


def test_a_constant_image_says_nothing():
    assert border_agreement(np.zeros(BALL.shape), BALL.astype(float), BALL) is None
    assert border_agreement(BALL.astype(float), np.zeros(BALL.shape), BALL) is None
