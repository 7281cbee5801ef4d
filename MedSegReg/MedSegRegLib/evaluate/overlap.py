"""How many voxels agree: counts of one structure and what follows from them. Evaluation, first stop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Outcome = Literal["scored", "missed", "invented", "absent"]


@dataclass(frozen=True)
class Overlap:
    """Voxel counts of one structure in two label maps on one grid.

    Empty masks follow one rule, so that a missed structure can never improve a mean: if the structure is in neither
    map (``absent``) every score is None, *not applicable*; if it is in exactly one of them (``missed``: only in the
    truth, ``invented``: only in the prediction) Dice, IoU, sensitivity and precision are 0.

    >>> Overlap(true_positive=6, false_positive=2, false_negative=2, true_negative=90, voxel_volume_mm3=500.0).dice
    0.75
    """

    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int
    voxel_volume_mm3: float

    @property
    def outcome(self) -> Outcome:
        """``scored`` when the structure is in both maps, else ``missed``, ``invented`` or ``absent``."""
        in_truth = self.true_positive + self.false_negative > 0
        in_prediction = self.true_positive + self.false_positive > 0
        if in_truth:
            return "scored" if in_prediction else "missed"
        return "invented" if in_prediction else "absent"

    @property
    def dice(self) -> float | None:
        """2 TP / (2 TP + FP + FN)."""
        return self._score(2 * self.true_positive, 2 * self.true_positive + self.false_positive + self.false_negative)

    @property
    def iou(self) -> float | None:
        """Intersection over union (Jaccard), TP / (TP + FP + FN)."""
        return self._score(self.true_positive, self.true_positive + self.false_positive + self.false_negative)

    @property
    def accuracy(self) -> float | None:
        """(TP + TN) / all voxels of the image: close to 1 for every small structure, so a poor measure alone."""
        right = self.true_positive + self.true_negative
        return self._score(right, right + self.false_positive + self.false_negative)

    @property
    def sensitivity(self) -> float | None:
        """Recall, TP / (TP + FN); 0 for an invented structure."""
        return self._score(self.true_positive, self.true_positive + self.false_negative)

    @property
    def specificity(self) -> float | None:
        """TN / (TN + FP); None too when the truth fills the whole image."""
        negative = self.true_negative + self.false_positive
        return self._score(self.true_negative, negative) if negative else None

    @property
    def precision(self) -> float | None:
        """Positive predictive value, TP / (TP + FP); 0 for a missed structure."""
        return self._score(self.true_positive, self.true_positive + self.false_positive)

    @property
    def truth_ml(self) -> float:
        """Volume in the truth in millilitres."""
        return (self.true_positive + self.false_negative) * self.voxel_volume_mm3 / 1000

    @property
    def prediction_ml(self) -> float:
        """Volume in the prediction in millilitres."""
        return (self.true_positive + self.false_positive) * self.voxel_volume_mm3 / 1000

    @property
    def volume_error_ml(self) -> float:
        """Prediction minus truth: positive when too much was segmented."""
        return self.prediction_ml - self.truth_ml

    @property
    def volume_error_percent(self) -> float | None:
        """Prediction minus truth in percent of the truth; None when the truth is empty."""
        return 100 * self.volume_error_ml / self.truth_ml if self.truth_ml else None

    def _score(self, part: int, whole: int) -> float | None:
        if self.outcome == "absent":
            return None
        return part / whole if whole else 0.0


def number_labels(labels: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Replace the label values by their place in a list.

    Args:
        labels: [K, J, I] integers.
        values: [N] wanted label values, ascending, N < 65536.

    Returns:
        [K, J, I] uint16: n + 1 where ``labels == values[n]``, 0 elsewhere.

    >>> number_labels(np.array([[[0, 17, 53, 4]]]), np.array([17, 53]))
    array([[[0, 1, 2, 0]]], dtype=uint16)
    """
    numbers = np.zeros(labels.shape, np.uint16)
    for plane, out in zip(labels, numbers, strict=True):  # by plane: bounded memory
        place = np.searchsorted(values, plane).clip(max=len(values) - 1)
        out[...] = np.where(values[place] == plane, place + 1, 0)
    return numbers


def count_overlaps(truth: np.ndarray, prediction: np.ndarray, count: int, voxel_volume_mm3: float) -> list[Overlap]:
    """Count the voxels of all structures in one pass.

    Args:
        truth, prediction: [K, J, I] from :func:`number_labels`, same shape.
        count: how many structures there are.
        voxel_volume_mm3: volume of one voxel.

    Returns:
        One Overlap a structure, in their order.
    """
    in_truth, in_prediction, in_both = np.zeros((3, count + 1), np.int64)
    for a, b in zip(truth, prediction, strict=True):
        in_truth += np.bincount(a.ravel(), minlength=count + 1)
        in_prediction += np.bincount(b.ravel(), minlength=count + 1)
        in_both += np.bincount(a[a == b], minlength=count + 1)
    return [
        Overlap(both, p - both, t - both, truth.size - t - p + both, voxel_volume_mm3)
        for t, p, both in zip(in_truth[1:].tolist(), in_prediction[1:].tolist(), in_both[1:].tolist(), strict=True)
    ]
