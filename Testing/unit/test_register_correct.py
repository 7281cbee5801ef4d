"""A correction brings points to their targets, near them only and without folds; and refuses what cannot be."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from register_phantoms import bent, distance_mm, make_bend, make_head, tissue_points

from MedSegRegLib.errors import Cancelled, InputError
from MedSegRegLib.evaluate.deformation import folding, inverse_consistency
from MedSegRegLib.files import read_image
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Image, Labels
from MedSegRegLib.progress import Progress
from MedSegRegLib.register.correct import correct
from MedSegRegLib.register.guidance import Guidance
from MedSegRegLib.register.presets import PRESETS
from MedSegRegLib.register.run import Registration, register
from MedSegRegLib.register.settings import DeformableSettings, RegistrationSettings
from MedSegRegLib.resample import resample_image
from MedSegRegLib.samples import sample_path
from MedSegRegLib.transform import Affine, Displacement, Transform

REACH_MM = 40.0
LONG = Geometry.from_spacing((56, 18, 18), (2.5, 2.5, 2.5), (-68.75, -21.25, -21.25))
SETTINGS = RegistrationSettings(linear="none", deformable=DeformableSettings(stiffness=1.0))


@pytest.fixture(scope="module")
def head() -> Image:
    """[1, 18, 18, 56], 2.5 mm: long enough that much of it lies beyond the reach of a correction."""
    return make_head(LONG)


@pytest.fixture(scope="module")
def truth() -> Transform:
    """Fixed to moving points, at most 4 mm."""
    return Transform((make_bend(LONG),))


@pytest.fixture(scope="module")
def bent_head(head, truth) -> Image:
    """The fixed image."""
    return bent(head, truth.stages[0])


@pytest.fixture(scope="module")
def found(bent_head, head) -> Registration:
    """What is to be corrected."""
    return register(bent_head, head, SETTINGS)


@pytest.fixture(scope="module")
def marks(found) -> Guidance:
    """Three pairs at one end of the head, 4 mm from where the registration takes them."""
    fixed = np.array([[-36.0, 2.0, 1.0], [-28.0, -6.0, 5.0], [-24.0, 6.0, -6.0]])
    wanted = found.transform.map_points(fixed) + np.array([[4.0, 0.0, 0.0], [2.0, -3.0, 1.7], [0.0, 2.5, -3.1]])
    return Guidance(fixed, wanted)


@pytest.fixture(scope="module")
def corrected(bent_head, head, found, marks) -> Registration:
    """By these marks."""
    return correct(bent_head, head, found, marks)


def ball(geometry: Geometry, centre_ras: tuple[float, float, float], radius_mm: float) -> Labels:
    """Value 1 inside."""
    k, j, i = torch.meshgrid(*(torch.arange(n) for n in geometry.shape_kji), indexing="ij")
    places = geometry.map_voxels(torch.stack((i, j, k), dim=-1).numpy())
    inside = np.linalg.norm(places - centre_ras, axis=-1) < radius_mm
    return Labels(torch.from_numpy(inside.astype(np.uint8)), geometry)


def points_in(labels: Labels) -> np.ndarray:
    """[N, 3] RAS mm."""
    return labels.geometry.map_voxels(np.argwhere(labels.tensor.numpy() > 0)[:, ::-1])


def rigidity_mm(transform: Transform, points: np.ndarray) -> float:
    """How far points are moved, at most, from where their best rigid motion takes them."""
    after = transform.map_points(points)
    x, y = points - points.mean(axis=0), after - after.mean(axis=0)
    left, _, right = np.linalg.svd(x.T @ y)
    turn = left @ np.diag([1, 1, np.sign(np.linalg.det(left @ right))]) @ right
    return float(np.linalg.norm(x @ turn - y, axis=1).max())


def test_three_marks_are_met_near_them_only_and_nothing_folds(head, found, marks, corrected):
    fixed, moving = marks.points
    assert np.linalg.norm(found.transform.map_points(fixed) - moving, axis=1).min() > 3.9
    assert np.linalg.norm(corrected.transform.map_points(fixed) - moving, axis=1).max() < 0.2
    points = tissue_points(head)
    away = np.linalg.norm(points[:, None] - fixed, axis=-1).min(axis=1) > REACH_MM
    assert away.sum() > 100
    assert distance_mm(found.transform, corrected.transform, points[away]).max() < 0.1
    assert corrected.quality.folding.voxels_any_corner <= found.quality.folding.voxels_any_corner == 0


def test_a_real_brain_is_corrected_near_three_marks_only():
    fixed, moving = (
        resample_image(image, image.geometry.with_spacing((4.0, 4.0, 4.0)))
        for image in (read_image(sample_path(name)) for name in ("icbm152-t1", "s1-t1"))
    )
    found = register(fixed, moving, PRESETS["quick"])
    marks = np.array([[-40.0, 10.0, 30.0], [38.0, -30.0, 20.0], [2.0, 40.0, 10.0]])
    wanted = found.transform.map_points(marks) + np.array([[3.0, 3.0, -3.0], [-4.0, 2.0, 2.0], [0.0, 0.0, 5.0]])
    result = correct(fixed, moving, found, Guidance(marks, wanted))
    assert result.quality.landmarks_mm.before > 4.8
    assert np.linalg.norm(result.transform.map_points(marks) - wanted, axis=1).max() < 0.5
    points = tissue_points(fixed)
    away = np.linalg.norm(points[:, None] - marks, axis=-1).min(axis=1) > REACH_MM
    assert away.sum() > 100
    assert distance_mm(found.transform, result.transform, points[away]).max() < 0.1
    assert result.quality.folding.voxels_any_corner == 0


def test_marks_at_true_places_bring_their_surroundings_nearer_to_the_truth(head, bent_head, truth):
    still = Transform((Displacement(torch.zeros(3, *LONG.shape_kji), LONG),))
    fixed = np.array([[-30.0, 2.0, 1.0], [-20.0, -6.0, 5.0]])
    result = correct(bent_head, head, still, Guidance(fixed, truth.map_points(fixed)), SETTINGS)
    points = tissue_points(head, every=1)
    near = points[np.linalg.norm(points[:, None] - fixed, axis=-1).min(axis=1) < 12]
    before, after = (distance_mm(transform, truth, near).mean() for transform in (still, result.transform))
    assert after < before / 2


def test_the_inverse_is_corrected_alike(found, corrected, head):
    error = inverse_consistency(corrected.transform, corrected.inverse, head.geometry)
    was = inverse_consistency(found.transform, found.inverse, head.geometry)
    assert error.mean_mm < was.mean_mm + 0.02
    assert corrected.quality.inverse_consistency.mean_mm == pytest.approx(error.mean_mm, abs=0.01)


def test_a_second_correction_keeps_the_first(bent_head, head, corrected, marks):
    fixed, moving = marks.points
    new = np.array([[-44.0, -4.0, -3.0]])
    wanted = corrected.transform.map_points(new) + np.array([0.0, 2.0, 1.0])
    both = Guidance(np.vstack((fixed, new)), np.vstack((moving, wanted)))
    again = correct(bent_head, head, corrected, both)
    assert np.linalg.norm(again.transform.map_points(both.fixed_points) - both.moving_points, axis=1).max() < 0.2


def test_marks_that_are_met_already_change_nothing(bent_head, head, corrected, marks):
    again = correct(bent_head, head, corrected, marks)
    fields = (r.transform.stages[0].vectors_ras_mm for r in (again, corrected))
    torch.testing.assert_close(*fields, atol=1e-5, rtol=0)
    assert any("Nothing was left" in finding.message for finding in again.findings)


def test_what_was_found_is_not_changed(bent_head, head, found, marks):
    before = found.transform.stages[0].vectors_ras_mm.clone()
    correct(bent_head, head, found, marks)
    assert torch.equal(found.transform.stages[0].vectors_ras_mm, before)


def test_a_transform_alone_is_enough(bent_head, head, found, marks, corrected):
    result = correct(bent_head, head, found.transform, marks, SETTINGS)
    torch.testing.assert_close(
        result.transform.stages[0].vectors_ras_mm, corrected.transform.stages[0].vectors_ras_mm, atol=1e-5, rtol=0
    )


def test_a_chain_with_its_displacement_last_is_corrected_too(head, truth, marks):
    matrix = np.eye(4)
    matrix[:3, 3] = (3.0, -2.0, 1.0)
    chain = Transform((Affine(matrix), *truth.stages))
    fixed = marks.fixed_points
    wanted = chain.map_points(fixed) + np.array([2.0, 0.0, 0.0])
    result = correct(head, head, chain, Guidance(fixed, wanted), SETTINGS)
    assert np.linalg.norm(result.transform.map_points(fixed) - wanted, axis=1).max() < 0.2
    points = tissue_points(head)
    away = points[np.linalg.norm(points[:, None] - fixed, axis=-1).min(axis=1) > REACH_MM]
    assert distance_mm(chain, result.transform, away).mean() < 0.2  # drawn on a grid of half the resolution
    assert any("drawn" in finding.message for finding in result.findings)


def test_the_transform_is_shown_as_soon_as_the_points_are_met(bent_head, head, found, marks, corrected):
    shown = []
    correct(bent_head, head, found, marks, on_level=lambda transform, level: shown.append((transform, level)))
    assert [level.number for _, level in shown] == [0, 1]
    for transform, level in shown:
        assert level.levels == 2
        left = np.linalg.norm(transform.map_points(marks.fixed_points) - marks.moving_points, axis=1)
        assert left.max() < 0.2
    assert torch.equal(shown[1][0].stages[0].vectors_ras_mm, corrected.transform.stages[0].vectors_ras_mm)
    assert shown[1][1].similarity > shown[0][1].similarity


def test_pairs_that_contradict_each_other_are_refused_by_their_numbers(bent_head, head, found):
    fixed = np.array([[-20.0, 0.0, 0.0], [-30.0, 0.0, 0.0], [-27.0, 0.0, 0.0]])
    wanted = found.transform.map_points(fixed) + np.array([[0.0, 0.0, 0.0], [4.0, 0.0, 0.0], [-4.0, 0.0, 0.0]])
    with pytest.raises(InputError, match="pairs 2 and 3 contradict"):
        correct(bent_head, head, found, Guidance(fixed, wanted))


def test_close_pairs_that_move_differently_are_met_without_folds(bent_head, head, found):
    fixed = np.array([[-30.0, 0.0, 0.0], [-24.0, 0.0, 0.0]])
    wanted = found.transform.map_points(fixed) + np.array([[0.0, 2.0, 0.0], [0.0, -2.0, 0.0]])
    result = correct(bent_head, head, found, Guidance(fixed, wanted))
    assert np.linalg.norm(result.transform.map_points(fixed) - wanted, axis=1).max() < 0.5
    assert result.quality.folding.voxels_any_corner == 0


def test_a_point_that_must_go_far_takes_more_around_with_it(bent_head, head, found):
    fixed = np.array([[-20.0, 0.0, 0.0]])
    wanted = found.transform.map_points(fixed) + np.array([14.0, 0.0, 0.0])
    result = correct(bent_head, head, found, Guidance(fixed, wanted))
    assert np.linalg.norm(result.transform.map_points(fixed) - wanted) < 0.2
    assert result.quality.folding.voxels_any_corner == 0
    assert any("56 mm around" in finding.message for finding in result.findings)


def test_a_point_outside_the_field_is_refused(bent_head, head, found):
    fixed = np.array([[0.0, 0.0, 0.0], [300.0, 0.0, 0.0]])
    with pytest.raises(InputError, match=r"landmark 2 .* outside"):
        correct(bent_head, head, found, Guidance(fixed, fixed + 1))


def test_settings_without_a_deformable_part_are_refused(bent_head, head, marks):
    with pytest.raises(InputError, match="no deformable part"):
        correct(bent_head, head, Transform(), marks, PRESETS["rigid"])


def test_a_region_becomes_rigid_and_what_is_far_from_it_stays(bent_head, head, found):
    bone = ball(LONG, (-30.0, 0.0, 0.0), 9.0)
    inside = points_in(bone)
    assert rigidity_mm(found.transform, inside) > 0.5
    result = correct(bent_head, head, found, Guidance(rigid=bone))
    assert rigidity_mm(result.transform, inside) < 0.01
    points = tissue_points(head)
    away = np.linalg.norm(points - [-30.0, 0.0, 0.0], axis=1) > 9 + 20 + 2 * max(LONG.spacing_mm) * 2
    assert distance_mm(found.transform, result.transform, points[away]).max() < 0.1
    assert result.quality.folding.voxels_any_corner == 0


def test_a_rigid_region_goes_where_the_point_in_it_goes(bent_head, head, found):
    bone, mark = ball(LONG, (-30.0, 0.0, 0.0), 9.0), np.array([[-28.0, 1.0, 3.0]])
    wanted = found.transform.map_points(mark) + np.array([3.0, 0.0, 0.0])
    result = correct(bent_head, head, found, Guidance(mark, wanted, rigid=bone))
    assert np.linalg.norm(result.transform.map_points(mark) - wanted) < 0.2
    assert rigidity_mm(result.transform, points_in(bone)) < 0.01
    assert result.quality.folding.voxels_any_corner == 0


def test_points_that_a_rigid_region_cannot_obey_are_reported(bent_head, head, found):
    bone, ends = ball(LONG, (-30.0, 0.0, 0.0), 9.0), np.array([[-36.0, 0.0, 0.0], [-24.0, 0.0, 0.0]])
    wanted = found.transform.map_points(ends) + np.array([[-3.0, 0.0, 0.0], [3.0, 0.0, 0.0]])
    result = correct(bent_head, head, found, Guidance(ends, wanted, rigid=bone))
    assert rigidity_mm(result.transform, points_in(bone)) < 0.01
    assert any("could not be met" in finding.message for finding in result.findings)


def test_the_images_do_not_count_inside_an_ignored_region(bent_head, head, truth, found):
    hole = ball(LONG, (-30.0, 0.0, 0.0), 9.0)
    noise = 20 * torch.rand(bent_head.tensor.shape, generator=torch.Generator().manual_seed(1))
    spoilt = bent_head.with_tensor(torch.where(hole.tensor > 0, noise, bent_head.tensor))
    misled = register(spoilt, head, SETTINGS)
    result = correct(spoilt, head, misled, Guidance(ignore=hole))
    inside = points_in(hole)
    before, after = (distance_mm(r.transform, truth, inside).mean() for r in (misled, result))
    assert after < before / 2
    assert result.quality.folding.voxels_any_corner == 0


def test_a_correction_is_cancelled_at_once(bent_head, head, found, marks):
    with pytest.raises(Cancelled):
        correct(bent_head, head, found, marks, progress=Progress(should_cancel=lambda: True))


def test_a_correction_that_is_stopped_has_met_its_points(bent_head, head, found, marks):
    result = correct(bent_head, head, found, marks, progress=Progress(should_stop=lambda: True))
    left = np.linalg.norm(result.transform.map_points(marks.fixed_points) - marks.moving_points, axis=1)
    assert left.max() < 0.2
    assert any("Stopped" in finding.message for finding in result.findings)


def test_slices_are_corrected_within_their_plane():
    plane = Geometry.from_spacing((40, 40, 1), (1.5, 1.5, 5.0), (-29.25, -29.25, 0.0))
    head = make_head(plane)
    still = Transform((Displacement(torch.zeros(3, *plane.shape_kji), plane),))
    mark = np.array([[5.0, 3.0, 0.0]])
    wanted = mark + np.array([2.0, 1.0, 0.0])
    result = correct(head, head, still, Guidance(mark, wanted), SETTINGS)
    assert np.linalg.norm(result.transform.map_points(mark) - wanted) < 0.2
    assert not result.transform.stages[0].vectors_ras_mm[2].any()
    assert folding(result.transform.stages[0]).voxels_any_corner == 0
