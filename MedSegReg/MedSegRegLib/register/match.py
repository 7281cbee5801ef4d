"""What every similarity measure answers to the linear and the dense stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch


@dataclass(frozen=True)
class Match:
    """An answer.

    Attributes:
        value: scalar tensor, larger is better; the sum over all channels.
        gradient: [C, K, J, I], of ``value * total weight`` by each moved voxel.
        curvature: [C, K, J, I], about minus the second derivative, never negative.
    """

    value: torch.Tensor
    gradient: torch.Tensor
    curvature: torch.Tensor


class Similarity(Protocol):
    """A measure prepared for one fixed image."""

    def match(self, moved: torch.Tensor) -> Match:
        """Compare with a moved image [C, K, J, I] of intensities in 0..1 on the fixed grid."""
        ...
