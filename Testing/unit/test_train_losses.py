"""Losses: MONAI's are the second opinion."""

from __future__ import annotations

import pytest
import torch
from monai.losses import DiceCELoss

from MedSegRegLib.train.chance import Chance
from MedSegRegLib.train.losses import at_border, deep_supervision_loss, segmentation_loss


@pytest.mark.parametrize("classes", [2, 5])
def test_dice_and_cross_entropy_are_those_of_monai(classes):
    scores = Chance(1).normal_noise((2, classes, 6, 7, 8)).requires_grad_()
    labels = (Chance(2).uniform_noise((2, 6, 7, 8)) * (classes - 0.5)).long()
    labels[labels == classes - 1] = 0 if classes > 2 else 1  # a class that is absent
    ours = segmentation_loss(scores, labels)
    (slope,) = torch.autograd.grad(ours, scores)
    monai = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, batch=True)(scores, labels[:, None])
    (monai_slope,) = torch.autograd.grad(monai, scores)
    torch.testing.assert_close(ours, monai)
    torch.testing.assert_close(slope, monai_slope, atol=1e-7, rtol=1e-4)


def test_the_loss_falls_as_the_scores_come_closer_to_the_labels():
    labels = torch.zeros((2, 8, 8, 8), dtype=torch.long)
    labels[:, 2:6, 2:6, 2:6] = 1
    right = torch.stack((1.0 - labels, labels.float()), dim=1)

    def loss(confidence: float) -> float:
        return float(deep_supervision_loss([confidence * right, confidence * right[..., ::2, ::2, ::2]], labels))

    losses = [loss(confidence) for confidence in (-5, 0, 5, 20)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] == pytest.approx(0, abs=1e-3)


def test_coarser_scores_count_half():
    labels = (Chance(0).uniform_noise((1, 8, 8, 8)) > 0.5).long()
    fine, coarse = (Chance(n).normal_noise((1, 2, side, side, side)) for n, side in ((1, 8), (2, 4)))
    parts = segmentation_loss(fine, labels), segmentation_loss(coarse, labels[:, ::2, ::2, ::2])
    torch.testing.assert_close(deep_supervision_loss([fine, coarse], labels), (parts[0] + 0.5 * parts[1]) / 1.5)


def random_case(classes: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    scores = 2 * Chance(3).normal_noise((2, classes, 6, 7, 8))
    return scores, (Chance(4).uniform_noise((2, 6, 7, 8)) * classes).long()


def test_the_focal_loss_is_that_of_lin_et_al():
    scores, labels = random_case()
    shares = scores.softmax(1).gather(1, labels[:, None])
    focal = -((1 - shares) ** 2 * shares.log()).mean()
    plain = segmentation_loss(scores, labels) - torch.nn.functional.cross_entropy(scores, labels)
    torch.testing.assert_close(segmentation_loss(scores, labels, "dice_focal"), plain + focal)


def test_a_border_is_where_a_neighbour_has_another_label():
    labels = torch.zeros((1, 5, 6, 7), dtype=torch.long)
    labels[:, :, :, 4:] = 2
    border = at_border(labels)
    assert border[..., 3:5].all()
    assert not border[..., :3].any()
    assert not border[..., 5:].any()


def test_an_error_at_a_border_costs_more_than_one_inside():
    labels = torch.zeros((1, 10, 10, 10), dtype=torch.long)
    labels[..., 5:] = 1
    right = 4.0 * torch.stack((1.0 - labels, labels.float()), dim=1)

    def cost(name: str, i: int) -> float:
        scores = right.clone()
        scores[..., 4:6, 4:6, i] *= -1
        return float(segmentation_loss(scores, labels, name))

    assert cost("dice_boundary", 5) > cost("dice_boundary", 8) + 1e-3
    assert cost("dice_cross_entropy", 5) == pytest.approx(cost("dice_cross_entropy", 8))
