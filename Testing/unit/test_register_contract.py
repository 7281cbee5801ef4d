"""What is said about a transform, and that each fault of one is found."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from random_geometries import random_affine
from register_phantoms import bent, make_bend, make_head
from scipy.spatial.transform import Rotation

from MedSegRegLib.files.itk_transform import itk_from_transform
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.register.contract import check_transform, disagreement_mm
from MedSegRegLib.register.direction import compare_directions
from MedSegRegLib.register.invert import invert
from MedSegRegLib.report import Level
from MedSegRegLib.transform import Affine, Displacement, Transform

pytestmark = pytest.mark.usefixtures("one_thread")

GRID = Geometry.from_spacing((20, 20, 20), (3.0, 3.0, 3.0), (-28.5, -28.5, -28.5))
BEND = make_bend(GRID, largest_mm=5.0)
HEAD = make_head(GRID)


def shifted(r: float) -> Affine:
    matrix = np.eye(4)
    matrix[0, 3] = r
    return Affine(matrix)


def check(transform: Transform, **more):
    return check_transform(transform, itk_from_transform(transform), **more)


def messages(contract) -> str:
    assert all(finding.level is Level.WARN for finding in contract.findings)
    return " | ".join(finding.message for finding in contract.findings)


def test_a_sound_transform_has_no_findings():
    contract = check(Transform((BEND, shifted(7.0))))
    assert contract.findings == ()
    assert contract.points_and_images_mm < 1e-3
    assert contract.support.covered == 1.0
    assert contract.folding.voxels_any_corner == 0
    assert contract.stages[0] == "displacement field, 20x20x20 vectors every 3, 3, 3 mm"
    np.testing.assert_allclose(contract.support.lowest_ras_mm, -30)


def test_the_sentence_says_what_moves_onto_what():
    other = bent(HEAD, BEND)
    sentence = check(Transform((shifted(7.0),)), fixed=HEAD, moving=other).sentence
    assert sentence.startswith("Takes points of head to bent head, and so moves the voxels of bent head onto head: ")
    assert "a shift of 7.0 mm at the centre, a rotation of 0.0 degrees" in sentence


def test_the_linear_part_hidden_in_a_field_is_told():
    everything = Transform((Transform((BEND, shifted(25.0))).to_displacement(GRID),))
    contract = check(everything)
    assert "a shift of 2" in contract.sentence
    assert contract.support.border_mm == pytest.approx(25.0, abs=0.1)
    assert "ends with vectors of up to 25.0 mm" in messages(contract)


@pytest.mark.parametrize("seed", range(6))
def test_points_and_images_agree_with_itk_on_any_grid(seed):
    rng = np.random.default_rng(seed)
    directions = Rotation.random(random_state=seed).as_matrix() * (1, 1, (-1) ** seed)
    field = Geometry.from_spacing((9, 8, 7), (5.0, 6.0, 7.0), (-20.0, 5.0, 10.0), directions)
    vectors = torch.from_numpy(rng.normal(0, 2, (3, *field.shape_kji)))
    chain = Transform(
        (random_affine(rng, GRID.centre_ras), Displacement(vectors, field), random_affine(rng, np.zeros(3)))
    )
    coarse = GRID.with_spacing((7.0, 5.0, 6.0))
    assert disagreement_mm(chain, itk_from_transform(chain), coarse) < 0.01


def test_a_file_that_itk_reads_otherwise_is_found():
    moved = sitk.TranslationTransform(3, (0.0, 0.0, 0.3))
    contract = check_transform(Transform(), moved)
    assert contract.points_and_images_mm == pytest.approx(0.3, abs=1e-4)
    assert "apart by up to 0.30 mm" in messages(contract)


def test_folding_is_counted():
    vectors = BEND.vectors_ras_mm.clone()
    vectors[0, 10, 10, 10] += 8.0
    contract = check(Transform((Displacement(vectors, GRID),)))
    assert contract.folding.voxels_any_corner > 0
    assert "fold" in messages(contract)


def test_a_field_that_covers_a_part_is_told():
    contract = check(Transform((make_bend(GRID.window((0, 0, 0), (10, 20, 20))),)), fixed=HEAD)
    assert contract.support.covered == pytest.approx(0.5, abs=0.03)
    assert "covers 50 % of the fixed image" in messages(contract)


def test_a_wrong_inverse_is_found():
    assert "inverse leads back with an error" in messages(check(Transform((BEND,)), inverse=Transform((shifted(9.0),))))


def test_the_direction_of_a_transform_is_seen_in_the_images():
    right = Transform((BEND, shifted(4.0)))
    fixed = bent(HEAD, right.to_displacement(GRID), noise=0.05)
    backwards = invert(right)
    good = compare_directions(fixed, HEAD, right, backwards)
    assert good.through > good.without > 0
    assert not good.looks_reversed
    assert not good.is_useless
    assert compare_directions(fixed, HEAD, backwards, right).looks_reversed
    assert "lead the other way" in str(check(backwards, inverse=right, fixed=fixed, moving=HEAD).findings[0])


def test_a_transform_of_other_images_is_told():
    assert "without" in messages(check(Transform((shifted(15.0),)), fixed=HEAD, moving=HEAD))


def test_images_that_do_not_meet_are_not_alike():
    apart = compare_directions(HEAD, HEAD, Transform((shifted(500.0),)), Transform((shifted(-500.0),)))
    assert (apart.through, apart.reversed) == (0.0, 0.0)
