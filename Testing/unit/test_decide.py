"""From features to labels and to how sure they are, compared with the whole scores."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import expit, softmax
from scipy.stats import entropy

from MedSegRegLib.segment.decide import SCORES_AT_ONCE, Decision
from MedSegRegLib.segment.engines import Head
from streamed import LiveMemory, noise


def head(classes: int, features: int, seed: int = 0) -> Head:
    generator = torch.Generator().manual_seed(seed)
    return Head(torch.randn((classes, features), generator=generator), torch.randn(classes, generator=generator))


def test_the_class_with_the_highest_score_wins_and_the_first_of_equal_ones():
    scores = torch.tensor([[1.0, 2.0, 0.0, 3.0], [1.0, 1.0, 5.0, 3.0], [0.0, 2.0, 5.0, 3.0]])
    assert Decision((), (), 3).labels(scores).tolist() == [0, 0, 1, 0]


def test_a_head_makes_the_scores_of_all_classes_voxel_by_voxel():
    features, one = noise(4, 5000), head(30, 4)
    expected = torch.nn.functional.conv3d(
        features.reshape(1, 4, 50, 10, 10), one.weight.reshape(30, 4, 1, 1, 1), one.bias
    )
    assert torch.equal(Decision((one,), (), 30).labels(features).long(), expected[0].argmax(0).flatten())


def test_the_heads_of_an_ensemble_give_the_mean_of_their_scores():
    heads, features = [head(9, 3, 1), head(9, 5, 2), head(9, 2, 3)], noise(10, 400)
    scores = [one.weight @ part + one.bias[:, None] for one, part in zip(heads, features.split((3, 5, 2)), strict=True)]
    assert torch.equal(Decision(heads, (), 9).labels(features).long(), torch.stack(scores).mean(0).argmax(0))


def test_regions_are_painted_where_their_score_is_above_zero_later_ones_over_earlier_ones():
    scores = torch.tensor([[1.0, 1, 1, -1, -1, 0], [-1.0, 1, 1, 1, -1, 0], [-1.0, -1, 1, 1, -1, 0]])
    assert Decision((), (2, 1, 3), 3).labels(scores).tolist() == [2, 1, 3, 3, 0, 0]


def test_regions_of_a_network_with_a_head_are_painted_too():
    one, features = head(6, 2), noise(2, 500)
    scores = (one.weight @ features + one.bias[:, None]).numpy()
    expected = np.zeros(500, int)
    for score, label in zip(scores, (1, 2, 4, 3, 6, 5), strict=True):
        expected[score > 0] = label
    np.testing.assert_array_equal(Decision((one,), (1, 2, 4, 3, 6, 5), 6).labels(features), expected)


@pytest.mark.parametrize("classes", [2, 3, 40])
def test_confidence_is_that_of_the_softmax(classes):
    scores = 3 * noise(classes, 700)
    p = softmax(scores.double().numpy(), axis=0)
    ranked = np.sort(p, axis=0)
    expected = np.stack((ranked[-1] - ranked[-2], entropy(p, axis=0) / math.log(classes)))
    found = Decision((), (), classes).confidence(scores)
    assert found.dtype == torch.uint8
    np.testing.assert_allclose(found, 255 * expected, atol=0.51)


def test_confidence_of_regions_is_that_of_the_least_sure_one():
    scores = 3 * noise(3, 700)
    p = expit(scores.double().numpy())
    each = np.stack((p, 1 - p))
    expected = np.stack((np.abs(2 * p - 1).min(0), entropy(each, base=2).max(0)))
    np.testing.assert_allclose(Decision((), (1, 2, 3), 3).confidence(scores), 255 * expected, atol=0.51)


def test_a_certain_and_an_undecided_voxel_are_the_ends_of_the_scale():
    decision = Decision((), (), 4)
    assert decision.confidence(torch.tensor([[1e4, 0.0], [-1e4, 0], [-1e4, 0], [-1e4, 0]])).tolist() == [
        [255, 0],
        [0, 255],
    ]
    regions = Decision((), (1,), 1)
    assert regions.confidence(torch.tensor([[1e4, 0.0, -1e4]])).tolist() == [[255, 0, 255], [0, 255, 0]]


def test_confidence_of_a_network_with_a_head_is_that_of_its_scores():
    one, features = head(12, 3), noise(3, 300)
    scores = one.weight @ features + one.bias[:, None]
    found, expected = Decision((one,), (), 12).confidence(features), Decision((), (), 12).confidence(scores)
    torch.testing.assert_close(found.int(), expected.int(), atol=1, rtol=0)


def test_the_scores_of_all_classes_exist_for_few_voxels_at_once():
    one, features = head(200, 4), noise(4, 50_000)
    decision = Decision((one,), (), 200)
    assert 30 * SCORES_AT_ONCE < 200 * 50_000
    with LiveMemory(features) as memory:
        labels = decision.labels(features)
    assert memory.peak < 4 * (3 * SCORES_AT_ONCE + 2 * labels.numel())
    assert torch.equal(labels.long(), (one.weight @ features + one.bias[:, None]).argmax(0))


def test_no_voxel_gives_no_label():
    assert Decision((), (), 3).labels(torch.empty((3, 0))).shape == (0,)
    assert Decision((head(5, 2),), (), 5).labels(torch.empty((2, 0))).shape == (0,)


def test_the_probabilities_of_classes_that_are_merged_into_one_label_are_added():
    scores = torch.tensor([[0.4, 0.3, 0.3], [0.6, 0.2, 0.2], [0.2, 0.2, 0.6]]).log().T.contiguous()
    merged = Decision((), (), 3, merged=(0, 1, 1))
    assert Decision((), (), 3).labels(scores).tolist() == [0, 0, 2]
    assert merged.labels(scores).tolist() == [1, 0, 1]
    margin, doubt = merged.confidence(scores).double() / 255
    assert np.allclose(margin, [0.2, 0.2, 0.6], atol=0.003)
    assert np.allclose(
        doubt, [entropy([0.6, 0.4], base=2), entropy([0.6, 0.4], base=2), entropy([0.8, 0.2], base=2)], atol=0.003
    )
