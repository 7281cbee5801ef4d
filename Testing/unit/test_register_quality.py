"""The numbers beside a result are those that another program would find."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from random_geometries import itk_image, itk_transform
from register_phantoms import CUBE, bent, distance_mm, make_bend, make_head

from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Image, Labels
from MedSegRegLib.register.flow import DisplacementField
from MedSegRegLib.register.guidance import Guidance
from MedSegRegLib.register.pyramid import Pair, prepare_study
from MedSegRegLib.register.quality import Quality, describe_registration, measure_quality
from MedSegRegLib.register.solution import Solution
from MedSegRegLib.transform import Displacement, Transform

MATRIX = np.array([[1.0, 0.05, 0.0, 3.0], [-0.05, 1.02, 0.0, -2.0], [0.0, 0.0, 0.98, 1.0], [0, 0, 0, 1]])


@pytest.fixture(scope="module")
def head() -> Image:
    """[1, 40, 40, 40], 1.5 mm."""
    return make_head()


@pytest.fixture(scope="module")
def bend() -> Displacement:
    """At most 4 mm."""
    return make_bend()


@pytest.fixture(scope="module")
def solution(bend) -> Solution:
    """The bend on its own grid, then a matrix."""
    return Solution(MATRIX, DisplacementField(bend.vectors_ras_mm / 1.5, CUBE))


def pair_of(fixed: Image, moving: Image) -> Pair:
    return Pair.at(*(prepare_study(image, None, torch.device("cpu")) for image in (fixed, moving)), 3.0)


def measure(head: Image, solution: Solution, guidance: Guidance | None = None, name: str = "lncc") -> Quality:
    fixed = bent(head, Displacement(solution.transform.to_displacement(CUBE).vectors_ras_mm, CUBE))
    return measure_quality(pair_of(fixed, head), name, Transform(), solution, guidance or Guidance())


def test_the_right_answer_is_more_alike_than_the_start(head, solution):
    for name in ("lncc", "mi", "nmi", "ssd"):
        quality = measure(head, solution, name=name)
        assert quality.similarity == name
        assert quality.after > quality.before


def test_deformation_numbers_are_those_of_the_dense_part(head, bend, solution):
    quality = measure(head, solution)
    length = bend.vectors_ras_mm.norm(dim=0)
    assert quality.mean_motion_mm == pytest.approx(float(length.mean()), rel=1e-4)
    assert quality.largest_motion_mm == pytest.approx(float(length.max()), rel=1e-4)
    assert quality.folding.voxels_any_corner == 0
    slopes = np.stack([np.stack(np.gradient(u, 1.5))[::-1] for u in bend.vectors_ras_mm.numpy()])  # [3, 3, K, J, I]
    jacobian = np.linalg.det(np.moveaxis(slopes, (0, 1), (-2, -1)) + np.eye(3))
    assert quality.sdlogj == pytest.approx(float(np.log(jacobian).std()), rel=1e-3)


def test_inverse_consistency_is_told_from_both_sides(head, solution):
    quality = measure(head, solution)
    there, back = itk_transform(solution.transform), itk_transform(solution.inverse)
    grid = CUBE.with_spacing((3.0, 3.0, 3.0))  # where it is measured
    points = grid.map_voxels(np.random.default_rng(0).integers(0, 20, (600, 3))) * np.array([-1, -1, 1])
    for one, other, told in (
        (there, back, quality.inverse_consistency),
        (back, there, quality.inverse_consistency_of_moving),
    ):
        errors = [np.linalg.norm(np.array(other.TransformPoint(one.TransformPoint(p))) - p) for p in points.tolist()]
        assert told.mean_mm == pytest.approx(np.mean(errors), rel=0.3)
        assert told.mean_mm <= told.p99_mm <= told.max_mm
        assert told.mean_mm < 0.05 * 1.5


def test_landmark_error_is_the_mean_distance_before_and_after(head, solution):
    fixed = CUBE.map_voxels(np.random.default_rng(1).uniform(8, 30, (6, 3)))
    moving = solution.transform.map_points(fixed) + np.array([0.0, 3.0, 4.0])
    quality = measure(head, solution, Guidance(fixed, moving))
    assert quality.landmarks_mm.after == pytest.approx(5.0, abs=1e-4)
    assert quality.landmarks_mm.before == pytest.approx(float(np.linalg.norm(fixed - moving, axis=1).mean()))
    assert measure(head, solution).landmarks_mm is None


def test_dice_is_that_of_simpleitk_before_and_after(head, solution):
    tensor = torch.zeros(CUBE.shape_kji, dtype=torch.uint8)
    tensor[12:28, 10:24, 8:20], tensor[12:28, 10:24, 22:32], tensor[2:4, 2:4, 2:4] = 1, 4, 7
    moving = Labels(tensor, CUBE)
    fixed_tensor = tensor.roll((2, 1), (0, 2))
    fixed_tensor[fixed_tensor == 7] = 0
    fixed = Labels(fixed_tensor, CUBE)
    quality = measure(head, solution, Guidance(fixed_labels=fixed, moving_labels=moving))
    assert list(quality.dice) == [1, 4]
    reference, image = (itk_image(labels.numpy(), CUBE) for labels in (fixed, moving))
    for which, transform in (("before", Transform()), ("after", solution.transform)):
        carried = sitk.Resample(image, reference, itk_transform(transform), sitk.sitkNearestNeighbor, 0)
        overlap = sitk.LabelOverlapMeasuresImageFilter()
        overlap.Execute(reference, carried)
        for value in (1, 4):
            assert getattr(quality.dice[value], which) == pytest.approx(overlap.GetDiceCoefficient(value), abs=1e-3)


def test_a_linear_result_has_no_deformation(head):
    quality = measure(head, Solution(MATRIX))
    assert quality.folding is None
    assert (quality.sdlogj, quality.mean_motion_mm, quality.largest_motion_mm) == (0, 0, 0)
    assert quality.inverse_consistency.max_mm < 1e-3


def test_nothing_is_known_of_a_start_without_overlap(head):
    shift = np.eye(4)
    shift[0, 3] = 300.0
    far = Image(head.tensor, Geometry(CUBE.size_ijk, shift @ CUBE.ijk_to_ras), "far head")
    quality = measure_quality(pair_of(head, far), "mi", Transform(), Solution(shift), Guidance())
    assert quality.before is None
    assert quality.overlap > 0.99
    sentence = describe_registration(head, far, shift, quality)
    assert sentence.startswith("Moves far head onto head: a shift of 300.0 mm at the centre, a rotation of 0.0 degrees")
    assert "deformation" not in sentence


def test_the_sentence_tells_growth_and_folds(head, solution):
    quality = measure(head, solution)
    sentence = describe_registration(head, head, MATRIX, quality)
    growth = 100 * (1 / np.linalg.det(MATRIX) - 1)
    assert f"{'growth' if growth > 0 else 'shrinkage'} by {abs(growth):.1f} % in volume" in sentence
    assert "4.0 mm at most (no folding)" in sentence
    assert distance_mm(solution.transform, Transform(), CUBE.corners_ras()).max() > 3
