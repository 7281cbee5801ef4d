"""What is minimised. Training walk: network's scores and labels -> [losses] -> gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch.nn import functional

LossName = Literal["dice_cross_entropy", "dice_focal", "dice_boundary"]
SMOOTH = 1e-5
FOCUS = 2.0
BORDER_WEIGHT = 5.0


def segmentation_loss(
    scores: torch.Tensor, labels: torch.Tensor, name: LossName = "dice_cross_entropy"
) -> torch.Tensor:
    """Soft Dice of every class but the background, over the whole batch, plus a loss of every voxel.

    With ``dice_cross_entropy`` that is the cross-entropy (Isensee et al., Nature Methods 2021); with ``dice_focal``
    voxels that are already right count less (Lin et al., ICCV 2017); with ``dice_boundary`` those beside a border
    between labels count more (after Ronneberger et al., MICCAI 2015).

    Args:
        scores: [N, classes, K, J, I] before softmax.
        labels: [N, K, J, I] long.
    """
    log_shares = scores.float().log_softmax(1).flatten(2)
    flat = labels.flatten(1)
    right = log_shares.gather(1, flat[:, None])[:, 0]
    if name == "dice_focal":
        voxels = -((1 - right.exp()) ** FOCUS * right).mean()
    elif name == "dice_boundary":
        weights = 1 + (BORDER_WEIGHT - 1) * at_border(labels).flatten(1)
        voxels = -(weights * right).sum() / weights.sum()
    else:
        voxels = -right.mean()
    return _dice_loss(log_shares, right, flat) + voxels


def at_border(labels: torch.Tensor) -> torch.Tensor:
    """[N, K, J, I] float: 1 where one of the 26 neighbours has another label."""
    values = labels[:, None].float()
    highest, lowest = (sign * functional.max_pool3d(sign * values, 3, 1, 1)[:, 0] for sign in (1, -1))
    return (highest != lowest).float()


def _dice_loss(log_shares: torch.Tensor, right: torch.Tensor, flat: torch.Tensor) -> torch.Tensor:
    """From log-probabilities [N, classes, V], those of the right class [N, V] and the labels [N, V]."""
    classes = right.new_zeros(log_shares.shape[1])
    overlap = classes.index_add(0, flat.flatten(), right.exp().flatten())
    wanted = classes.index_add(0, flat.flatten(), torch.ones_like(right).flatten())
    found = log_shares.exp().sum((0, 2))
    dice = (2 * overlap + SMOOTH) / (found + wanted + SMOOTH)
    return 1 - dice[1:].mean()


def deep_supervision_loss(
    scores: Sequence[torch.Tensor], labels: torch.Tensor, name: LossName = "dice_cross_entropy"
) -> torch.Tensor:
    """The loss at every resolution, each coarser one counting half of the finer.

    Args:
        scores: [N, classes, K, J, I] and coarser ones, finest first.
        labels: [N, K, J, I] long.
    """
    total, weights = scores[0].new_zeros(()), 0.0
    for level, level_scores in enumerate(scores):
        target = functional.interpolate(labels[:, None].float(), level_scores.shape[2:], mode="nearest")[:, 0].long()
        total = total + segmentation_loss(level_scores, target, name) * 0.5**level
        weights += 0.5**level
    return total / weights
