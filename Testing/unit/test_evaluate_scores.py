"""Scores of label maps and their summary over cases; above all the rules for structures that are missing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from MedSegRegLib.errors import Cancelled, GeometryMismatch, InvalidSetting
from MedSegRegLib.evaluate.scores import METRICS, compare_labels, diagonal_mm, summarize
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Labels, Structure
from MedSegRegLib.progress import Progress

SHEARED = Geometry((7, 6, 5), [[0.8, 0.2, 0, 10], [0, 1.1, 0.4, -20], [0, 0.1, 3, 30], [0, 0, 0, 1]])
LIVER, SPLEEN = Structure(2, "liver"), Structure(7, "spleen")
HIGH = [m.name for m in METRICS if m.best == "high" and m.name not in ("accuracy", "specificity")]
LOW = [m.name for m in METRICS if m.best == "low"]


def labels(array: np.ndarray, geometry: Geometry = SHEARED, structures: tuple[Structure, ...] = ()) -> Labels:
    return Labels.from_array(array, geometry, structures)


@pytest.fixture
def truth() -> Labels:
    array = np.zeros(SHEARED.shape_kji, int)
    array[1:4, 1:4, 1:4], array[1:4, 1:4, 5:] = 2, 7
    return labels(array, structures=(LIVER, SPLEEN))


def test_a_perfect_prediction_has_perfect_scores(truth):
    for score in compare_labels(truth, truth):
        assert score.outcome == "scored"
        assert [getattr(score, name) for name in HIGH] == [1] * len(HIGH)
        assert [getattr(score, name) for name in LOW] == [0] * len(LOW)
        assert score.volume_error_ml == 0


def test_volumes_on_a_sheared_grid_are_in_millilitres(truth):
    liver, _ = compare_labels(truth, truth)
    assert liver.truth_ml == pytest.approx(27 * np.linalg.det(SHEARED.ijk_to_ras[:3, :3]) / 1000)


def test_scores_every_structure_that_is_named_or_present_in_either_map(truth):
    other = truth.numpy().copy()
    other[other == 7] = 9
    prediction = labels(other, structures=(Structure(2, "Leber"), Structure(30, "kidney")))
    found = {(s.value, s.name): s.outcome for s in compare_labels(truth, prediction)}
    assert found == {
        (2, "liver"): "scored",
        (7, "spleen"): "missed",
        (9, "label 9"): "invented",
        (30, "kidney"): "absent",
    }


def test_scores_only_the_structures_asked_for(truth):
    assert [s.name for s in compare_labels(truth, truth, [SPLEEN])] == ["spleen"]


def test_two_empty_unnamed_maps_have_no_scores():
    empty = labels(np.zeros(SHEARED.shape_kji, int))
    assert compare_labels(empty, empty) == []


def test_a_missed_structure_has_the_worst_scores_there_are(truth):
    prediction = labels(np.where(truth.numpy() == 7, 0, truth.numpy()))
    _, spleen = compare_labels(truth, prediction)
    assert spleen.outcome == "missed"
    assert [getattr(spleen, name) for name in HIGH] == [0] * len(HIGH)
    assert spleen.hd95_mm == spleen.assd_mm == diagonal_mm(SHEARED)
    assert spleen.volume_error_percent == -100


def test_nothing_applies_to_a_structure_in_neither_map(truth):
    (absent,) = compare_labels(truth, truth, [Structure(99, "gallbladder")])
    assert absent.outcome == "absent"
    assert {getattr(absent, name) for name in (*HIGH, *LOW)} == {None}


def test_the_diagonal_of_an_image_is_its_longest():
    assert diagonal_mm(Geometry.from_spacing((3, 4, 6), (1, 1, 2))) == 13
    assert diagonal_mm(SHEARED) > np.linalg.norm(np.multiply(SHEARED.size_ijk, SHEARED.spacing_mm))


def test_refuses_maps_on_different_grids(truth):
    elsewhere = SHEARED.window((1, 0, 0), SHEARED.size_ijk)
    with pytest.raises(GeometryMismatch, match="resample the prediction onto the truth's grid"):
        compare_labels(truth, labels(truth.numpy(), elsewhere))


@pytest.mark.parametrize("tolerance_mm", [-1.0, float("nan"), float("inf")])
def test_refuses_a_tolerance_that_is_no_distance(truth, tolerance_mm):
    with pytest.raises(InvalidSetting):
        compare_labels(truth, truth, tolerance_mm=tolerance_mm)


def test_can_be_cancelled_and_says_what_it_scores(truth):
    seen = []
    compare_labels(truth, truth, progress=Progress(lambda fraction, message: seen.append((fraction, message))))
    assert seen == [(0.0, "Scoring liver"), (0.5, "Scoring spleen"), (1.0, "")]
    with pytest.raises(Cancelled):
        compare_labels(truth, truth, progress=Progress(should_cancel=lambda: True))


label_maps = arrays(np.uint8, SHEARED.shape_kji, elements=st.sampled_from([0, 0, 2, 7]))


@settings(max_examples=20, deadline=None)
@given(label_maps, label_maps, st.sampled_from([2, 7]))
def test_missing_a_structure_never_improves_a_mean(truth, prediction, missed):
    truth[0, 0, 0] = missed
    without = np.where(prediction == missed, 0, prediction).astype(np.uint8)
    perfect = compare_labels(labels(truth), labels(truth))
    compared = (compare_labels(labels(truth), labels(p)) for p in (prediction, without))
    before, after = ({s.value: s for s in summarize({"a": perfect, "b": scores})}[missed] for scores in compared)
    assert after.missed > 0
    assert after.cases == before.cases
    assert all(after.metrics[name].mean <= before.metrics[name].mean for name in HIGH)
    assert all(after.metrics[name].mean >= before.metrics[name].mean for name in LOW)


@settings(max_examples=20, deadline=None)
@given(label_maps, label_maps)
def test_no_score_is_ever_nan_and_no_distance_beyond_the_diagonal(truth, prediction):
    for score in compare_labels(labels(truth), labels(prediction), [LIVER, SPLEEN, Structure(9, "kidney")]):
        numbers = [getattr(score, metric.name) for metric in METRICS]
        assert all(number is None or np.isfinite(number) for number in numbers)
        assert score.hd95_mm is None or score.hd95_mm <= diagonal_mm(SHEARED)


def test_summary_counts_absent_cases_apart_and_names_the_worst(truth):
    empty = labels(np.zeros(SHEARED.shape_kji, int))
    cases = {
        "good": compare_labels(truth, truth, [LIVER]),
        "bad": compare_labels(truth, empty, [LIVER]),
        "invented": compare_labels(empty, truth, [LIVER]),
        "healthy": compare_labels(empty, empty, [LIVER]),
    }
    (liver,) = summarize(cases)
    assert (liver.cases, liver.absent, liver.missed, liver.invented) == (3, 1, 1, 1)
    dice = liver.metrics["dice"]
    assert (dice.mean, dice.median, dice.worst, dice.worst_case) == (pytest.approx(1 / 3), 0, 0, "bad")
    assert liver.metrics["hd95_mm"].worst == diagonal_mm(SHEARED)
    assert liver.metrics["volume_error_ml"].worst_case == "bad"


def test_summary_of_one_case_has_no_interval(truth):
    liver, _ = summarize({"only": compare_labels(truth, truth)})
    assert (liver.metrics["dice"].low, liver.metrics["dice"].high) == (None, None)


def test_summary_of_a_structure_that_is_nowhere_has_no_metric(truth):
    (kidney,) = summarize({"only": compare_labels(truth, truth, [Structure(9, "kidney")])})
    assert (kidney.cases, kidney.absent, kidney.metrics) == (0, 1, {})


def test_the_interval_holds_the_mean_and_depends_on_the_seed_only(truth):
    noise = np.random.default_rng(0).random(truth.tensor.shape)
    cases = {f"{n}": compare_labels(truth, labels(np.where(noise < 0.1 * n, 0, truth.numpy()))) for n in range(8)}
    first, again, other = (summarize(cases, seed)[0].metrics["dice"] for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert first.low < first.mean < first.high
    dice = [scores[0].dice for scores in cases.values()]
    half = 1.96 * np.std(dice) / np.sqrt(len(dice))  # the bootstrap's own limit
    assert (first.low, first.high) == pytest.approx((first.mean - half, first.mean + half), abs=0.05)
