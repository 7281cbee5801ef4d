"""From features to labels, voxel by voxel. Segmentation walk: stream -> restore with [decide] -> labels.

The head (the network's last 1x1x1 convolution) is applied here, a few voxels at a time, so that the scores of all
classes exist for no more than these.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from .engines import Head

SCORES_AT_ONCE, SCORES_AT_ONCE_ON_A_GPU = 1 << 18, 1 << 26  # on a CPU they stay in its cache


@dataclass(frozen=True, eq=False)
class Decision:
    """How scores become labels.

    Attributes:
        heads: of the members of an ensemble, whose features are joined; empty: the features are the scores.
        regions: empty: the class with the highest score (softmax). Else the label that each score paints where it is
            above zero (sigmoid), later ones over earlier ones.
        classes: number of scores.
        merged: the label of each score, where several are parts of one label: their probabilities are added.
        device: of the features.
    """

    heads: Sequence[Head]
    regions: tuple[int, ...]
    classes: int
    device: torch.device | None = None
    merged: tuple[int, ...] = ()

    @cached_property
    def _joint(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Weight [F, classes] and bias [classes] of the mean of all heads over their joined features."""
        weight = torch.cat([head.weight.T for head in self.heads]) / len(self.heads)
        bias = torch.stack([head.bias for head in self.heads]).mean(0)
        return weight.to(self.device), bias.to(self.device)

    def labels(self, features: torch.Tensor) -> torch.Tensor:
        """[F, N] -> [N] int32."""
        return torch.cat([self._choose(scores) for scores in self._scores(features)])

    def confidence(self, features: torch.Tensor) -> torch.Tensor:
        """[F, N] -> [2, N] uint8: margin and normalised entropy, 255 for 1.

        The margin is the probability of the chosen class less that of the next one; with regions the smallest distance
        of a region's probability from one half, doubled. The entropy is divided by its largest possible value; of
        regions the highest counts.
        """
        return torch.cat([self._doubt(scores) for scores in self._scores(features)], dim=1)

    def _scores(self, features: torch.Tensor) -> Iterator[torch.Tensor]:
        """[N, classes], or the labels that these are merged into, of a few voxels after the other."""
        at_once = SCORES_AT_ONCE if features.device.type == "cpu" else SCORES_AT_ONCE_ON_A_GPU
        chunk = max(1, at_once // max(self.classes, features.shape[0]))
        parts = features.split(chunk, dim=1)
        if not self.heads:
            return (self._merge(part.T) for part in parts)
        weight, bias = self._joint
        return (self._merge(torch.addmm(bias, part.T, weight)) for part in parts)

    def _merge(self, scores: torch.Tensor) -> torch.Tensor:
        if not self.merged:
            return scores
        members = [[n for n, own in enumerate(self.merged) if own == label] for label in range(max(self.merged) + 1)]
        return torch.stack([scores[:, group].logsumexp(1) for group in members], dim=1)

    def _choose(self, scores: torch.Tensor) -> torch.Tensor:
        if not self.regions:
            return _highest(scores).to(torch.int32)
        labels = torch.zeros(scores.shape[0], dtype=torch.int32, device=scores.device)
        for score, label in zip(scores.T, self.regions, strict=True):
            labels.masked_fill_(score > 0, label)
        return labels

    def _doubt(self, scores: torch.Tensor) -> torch.Tensor:
        if self.regions:
            p = scores.sigmoid()
            margin = (2 * p - 1).abs().amin(1)
            entropy = -(torch.xlogy(p, p) + torch.xlogy(1 - p, 1 - p)).amin(1) / math.log(2)
        else:
            p = scores.softmax(1)
            first, second = p.topk(2, dim=1).values.unbind(1)
            margin, entropy = first - second, -torch.xlogy(p, p).sum(1) / math.log(p.shape[1])
        return (torch.stack((margin, entropy)).clamp(0, 1) * 255).round().to(torch.uint8)


def _highest(scores: torch.Tensor) -> torch.Tensor:
    """[N, classes] -> [N]; the first of equal ones. numpy's is four times faster than torch's on a CPU."""
    return torch.from_numpy(scores.numpy().argmax(1)) if scores.device.type == "cpu" else scores.argmax(1)
