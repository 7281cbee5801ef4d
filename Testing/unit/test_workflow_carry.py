"""Labels and points carried from one phantom to another, whose deformation is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from register_phantoms import bent, make_bend, make_head

from MedSegRegLib.errors import Cancelled
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Image, Labels, Structure
from MedSegRegLib.progress import Progress
from MedSegRegLib.register.settings import DeformableSettings, RegistrationSettings
from MedSegRegLib.report import Level
from MedSegRegLib.transform import Affine, Transform
from MedSegRegLib.workflows.carry import carry
from MedSegRegLib.workflows.carry_review import review_columns, review_structures
from MedSegRegLib.workflows.modality import choose_settings, local_correlation

pytestmark = pytest.mark.usefixtures("one_thread")

GRID = Geometry.from_spacing((28, 28, 28), (2.0, 2.0, 2.0), (-27.0, -27.0, -27.0))
FAST = RegistrationSettings(
    linear="none", deformable=DeformableSettings(coarsening=(2.0, 1.0), iterations=(15, 10), stiffness=1.0)
)
HEAD = make_head(GRID)
BEND = make_bend(GRID, largest_mm=4.0, sigma_mm=9.0)
TARGET = bent(HEAD, BEND)
POINTS = np.random.default_rng(0).uniform(-10, 10, (12, 3))


def balls(centres: dict[int, tuple[float, float, float]], radius_mm: float = 7.0) -> Labels:
    k, j, i = np.indices(GRID.shape_kji)
    ras = GRID.map_voxels(np.stack((i, j, k), axis=-1))
    array = np.zeros(GRID.shape_kji, np.uint8)
    for value, centre in centres.items():
        array[np.linalg.norm(ras - centre, axis=-1) < radius_mm] = value
    return Labels.from_array(array, GRID, (Structure(2, "left"), Structure(5, "right")), "balls")


DRAWN = balls({2: (-9.0, 2.0, 0.0), 5: (8.0, -3.0, 4.0)})
TRUTH = Transform((BEND,))


@pytest.fixture(scope="module")
def carried():
    return carry(HEAD, TARGET, labels=DRAWN, points=TRUTH.map_points(POINTS), settings=FAST)


def dice(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def test_labels_arrive_on_the_targets_grid(carried):
    k, j, i = np.indices(GRID.shape_kji)
    source = TRUTH.map_points(GRID.map_voxels(np.stack((i, j, k), axis=-1).reshape(-1, 3)))
    true_left = torch.from_numpy(np.linalg.norm(source - (-9.0, 2.0, 0.0), axis=1) < 7).reshape(GRID.shape_kji)
    assert carried.labels.geometry is TARGET.geometry
    assert dice(carried.labels.tensor == 2, true_left) > 0.9
    assert dice(DRAWN.tensor == 2, true_left) < 0.85
    assert [structure.name for structure in carried.labels.structures] == ["left", "right"]


def test_points_go_the_other_way_than_voxels(carried):
    """A point of the source at T(x) belongs to x in the target."""
    errors = np.linalg.norm(carried.points.ras - POINTS, axis=1)
    assert errors.mean() < 1.0
    assert np.linalg.norm(TRUTH.map_points(POINTS) - POINTS, axis=1).mean() > 1.2
    assert carried.points.inside.all()
    assert carried.points.disagreement_mm.mean() < 1.5


def test_the_inverse_and_further_points_fit_what_was_carried(carried):
    again = carried.carry_points(TRUTH.map_points(POINTS), TARGET.geometry)
    np.testing.assert_array_equal(again.ras, carried.points.ras)
    np.testing.assert_allclose(carried.transform.map_points(again.ras), TRUTH.map_points(POINTS), atol=0.2)


def test_each_structure_is_reviewed_the_least_certain_first(carried):
    assert {review.name for review in carried.review} == {"left", "right"}
    confidences = [review.confidence for review in carried.review]
    assert confidences == sorted(confidences)
    for review in carried.review:
        assert 0.5 < review.confidence < 1
        assert review.cycle_dice > 0.85
        assert review.cycle_mm < 1.5
        assert review.border_agreement > 0.8
        assert review.visible == 1.0
        assert review.target_ml == pytest.approx(review.source_ml, rel=0.4)


def test_the_sentence_says_what_was_carried(carried):
    assert carried.sentence.startswith("Carried 2 structures and 12 points (two registrations are ")
    assert "from head to bent head" in carried.sentence


def test_a_wrong_transform_is_given_little_confidence(carried):
    """The second registration disagrees, and the images are unlike along the border."""
    shift = np.eye(4)
    shift[:3, 3] = 6.0, -5.0, 4.0
    wrong = Transform((Affine(shift),)).then(carried.transform)
    reviews = review_structures(HEAD, TARGET, DRAWN, carried.labels, wrong, carried.second)
    right = {review.value: review for review in carried.review}
    for review in reviews:
        assert review.border_agreement < right[review.value].border_agreement - 0.2
        assert review.cycle_mm > right[review.value].cycle_mm + 4


def test_what_lies_outside_the_target_is_told():
    part = GRID.window((14, 0, 0), (14, 28, 28))
    small = Image(TARGET.tensor[..., 14:].clone(), part, "right half")
    result = carry(HEAD, small, labels=DRAWN, points=POINTS, settings=FAST)
    left = next(review for review in result.review if review.name == "left")
    assert left.visible < 0.3
    assert "outside the target's field of view" in left.remark
    assert any("points lie outside" in finding.message for finding in result.findings if finding.level is Level.WARN)


def test_structures_that_vanish_have_no_confidence(carried):
    empty = Labels(torch.zeros_like(DRAWN.tensor), GRID, DRAWN.structures)
    for review in review_structures(HEAD, TARGET, DRAWN, empty, carried.transform, carried.second):
        assert (review.confidence, review.target_ml, review.border_error_mm) == (0.0, 0.0, None)
        assert "lost" in review.remark


def test_the_review_becomes_columns_of_a_table(carried):
    columns = review_columns(carried.review)
    assert {len(cells) for cells in columns.values()} == {2}
    assert columns["structure"] == [review.name for review in carried.review]


def test_nothing_to_carry_gives_the_transforms():
    result = carry(HEAD, TARGET, settings=FAST.model_copy(update={"deformable": None}))
    assert (result.labels, result.points, result.review) == (None, None, ())
    assert "nothing but the transform" in result.sentence


def test_carrying_can_be_cancelled():
    with pytest.raises(Cancelled):
        carry(HEAD, TARGET, labels=DRAWN, settings=FAST, progress=Progress(should_cancel=lambda: True))


def test_modality_decides_the_settings():
    inverted = Image(torch.where(HEAD.tensor > 0.5, 12 - HEAD.tensor, 0.0), GRID, "other contrast")
    assert local_correlation(HEAD, TARGET, np.eye(4)) > 0.5
    assert local_correlation(HEAD, inverted, np.eye(4)) < 0
    assert choose_settings(HEAD, TARGET, np.eye(4)).deformable.similarity == "lncc"
    assert choose_settings(HEAD, inverted, np.eye(4)).deformable.similarity == "mind"
