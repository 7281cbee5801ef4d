"""Counts of voxels: against MONAI, and the rule for empty masks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.metrics.confusion_matrix import compute_confusion_matrix_metric, get_confusion_matrix

from MedSegRegLib.evaluate.overlap import Overlap, count_overlaps, number_labels

SCORES = ("dice", "iou", "accuracy", "sensitivity", "specificity", "precision")


@pytest.fixture
def two_label_maps() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(5)
    truth = random.choice([0, 3, 17, 14175], (6, 9, 8)).astype(np.int32)
    return truth, np.where(random.random(truth.shape) < 0.7, truth, random.permuted(truth))


def test_all_counts_of_all_structures_are_those_of_boolean_masks(two_label_maps):
    values = np.array([3, 17, 999, 14175])
    truth, prediction = two_label_maps
    overlaps = count_overlaps(number_labels(truth, values), number_labels(prediction, values), len(values), 2.0)
    for value, overlap in zip(values, overlaps, strict=True):
        t, p = truth == value, prediction == value
        counts = [int(m.sum()) for m in (t & p, ~t & p, t & ~p, ~t & ~p)]
        assert overlap == Overlap(*counts, 2.0)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("sensitivity", "sensitivity"),
        ("specificity", "specificity"),
        ("precision", "precision"),
        ("accuracy", "accuracy"),
        ("dice", "f1 score"),
        ("iou", "threat score"),
    ],
)
def test_scores_agree_with_monai(two_label_maps, ours, theirs):
    truth, prediction = (torch.from_numpy((m == 17).astype(np.float32))[None, None] for m in two_label_maps)
    expected = compute_confusion_matrix_metric(theirs, get_confusion_matrix(prediction, truth))
    values = np.array([17])
    (overlap,) = count_overlaps(*(number_labels(m, values) for m in two_label_maps), 1, 1.0)
    assert getattr(overlap, ours) == pytest.approx(expected.item(), abs=1e-6)


def test_volumes_are_in_millilitres_and_their_error_is_signed():
    overlap = Overlap(true_positive=600, false_positive=0, false_negative=400, true_negative=5, voxel_volume_mm3=2.5)
    assert (overlap.truth_ml, overlap.prediction_ml) == (2.5, 1.5)
    assert (overlap.volume_error_ml, overlap.volume_error_percent) == (-1.0, -40.0)


def test_nothing_applies_to_a_structure_that_is_nowhere():
    absent = Overlap(0, 0, 0, 100, 1.0)
    assert absent.outcome == "absent"
    assert [getattr(absent, name) for name in SCORES] == [None] * len(SCORES)
    assert absent.volume_error_percent is None


@pytest.mark.parametrize(
    ("overlap", "outcome"),
    [
        (Overlap(0, 0, 7, 93, 1.0), "missed"),
        (Overlap(0, 7, 0, 93, 1.0), "invented"),
    ],
)
def test_a_structure_in_one_map_only_scores_zero(overlap, outcome):
    assert overlap.outcome == outcome
    assert [overlap.dice, overlap.iou, overlap.sensitivity, overlap.precision] == [0, 0, 0, 0]


def test_specificity_needs_a_background():
    assert Overlap(50, 0, 50, 0, 1.0).specificity is None


counts = st.integers(0, 10**9)


@given(counts, counts, counts, counts)
def test_scores_are_none_or_between_zero_and_one_and_iou_follows_from_dice(tp, fp, fn, tn):
    overlap = Overlap(tp, fp, fn, tn, 1.0)
    assert all(score is None or 0 <= score <= 1 for score in (getattr(overlap, name) for name in SCORES))
    if overlap.dice is not None and overlap.iou is not None:
        assert overlap.iou == pytest.approx(overlap.dice / (2 - overlap.dice))
