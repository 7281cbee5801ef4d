"""What is minimised. Training walk: network's scores and labels -> [losses] -> gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch.nn import functional

from .workers import ALONE, Workers

LossName = Literal["dice_cross_entropy", "dice_focal", "dice_boundary"]
SMOOTH = 1e-5
FOCUS = 2.0
BORDER_WEIGHT = 5.0


def segmentation_loss(
    scores: torch.Tensor, labels: torch.Tensor, name: LossName = "dice_cross_entropy", workers: Workers = ALONE
) -> torch.Tensor:
    """Soft Dice of every class but the background, over the whole batch, plus a loss of every voxel.

    With ``dice_cross_entropy`` that is the cross-entropy (Isensee et al., Nature Methods 2021); with ``dice_focal``
    voxels that are already right count less (Lin et al., ICCV 2017); with ``dice_boundary`` those beside a border
    between labels count more (after Ronneberger et al., MICCAI 2015).

    Args:
        scores: [N, classes, K, J, I] before softmax.
        labels: [N, K, J, I] long; what is -1 does not count. Without K in two dimensions.
        workers: the whole batch is that of all of them.
    """
    log_shares = scores.float().log_softmax(1).flatten(2)
    known = (labels >= 0).flatten(1).float()
    flat = labels.flatten(1).clamp(min=0)
    right = log_shares.gather(1, flat[:, None])[:, 0]
    weights = known
    if name == "dice_focal":
        weights = known * (1 - right.exp()) ** FOCUS
    elif name == "dice_boundary":
        weights = known * (1 + (BORDER_WEIGHT - 1) * at_border(labels).flatten(1))
    counted = weights.sum() if name == "dice_boundary" else known.sum()
    voxels = torch.stack((-(weights * right).sum(), counted))
    sums = workers.sum(torch.cat((voxels, _overlaps(log_shares, right, flat, known).flatten())))
    overlap, wanted, found = sums[2:].unflatten(0, (3, -1))
    dice = (2 * overlap + SMOOTH) / (found + wanted + SMOOTH)
    return 1 - dice[1:].mean() + sums[0] / sums[1].clamp(min=1)


def at_border(labels: torch.Tensor) -> torch.Tensor:
    """[N, K, J, I] float: 1 where one of the 26 neighbours (8 in [N, J, I]) has another label."""
    values = labels[:, None].float()
    pool = functional.max_pool3d if labels.ndim == 4 else functional.max_pool2d
    highest, lowest = (sign * pool(sign * values, 3, 1, 1)[:, 0] for sign in (1, -1))
    return (highest != lowest).float()


def _overlaps(log_shares: torch.Tensor, right: torch.Tensor, flat: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """[3, classes]: overlap, wanted and found, from log-probabilities [N, classes, V], those of the right class
    [N, V], the labels [N, V] and 1 where they are known [N, V]."""
    classes = right.new_zeros(log_shares.shape[1])
    overlap = classes.index_add(0, flat.flatten(), (known * right.exp()).flatten())
    wanted = classes.index_add(0, flat.flatten(), known.flatten())
    return torch.stack((overlap, wanted, (known[:, None] * log_shares.exp()).sum((0, 2))))


def deep_supervision_loss(
    scores: Sequence[torch.Tensor],
    labels: torch.Tensor,
    name: LossName = "dice_cross_entropy",
    workers: Workers = ALONE,
) -> torch.Tensor:
    """The loss at every resolution, each coarser one counting half of the finer.

    Args:
        scores: [N, classes, K, J, I] and coarser ones, finest first.
        labels: [N, K, J, I] long; what is -1 does not count. Without K in two dimensions.
        workers: the whole batch is that of all of them.
    """
    total, weights = scores[0].new_zeros(()), 0.0
    for level, level_scores in enumerate(scores):
        target = functional.interpolate(labels[:, None].float(), level_scores.shape[2:], mode="nearest")[:, 0].long()
        total = total + segmentation_loss(level_scores, target, name, workers) * 0.5**level
        weights += 0.5**level
    return total / weights
