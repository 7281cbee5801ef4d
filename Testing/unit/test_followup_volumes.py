"""The error of a volume, against simulation; and which lesion is which."""

from __future__ import annotations

import numpy as np
import pytest

from MedSegRegLib.errors import InputError
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Code, Image, Labels, Structure
from MedSegRegLib.transform import Affine, Transform
from MedSegRegLib.workflows.followup_compare import with_shared_values
from MedSegRegLib.workflows.followup_lesions import Parts, is_lesion, match_parts
from MedSegRegLib.workflows.followup_midway import Visit
from MedSegRegLib.workflows.followup_volumes import (
    counting_variance,
    measure_lesions,
    placing_variance,
    surface_mm2,
)

CUBES = Geometry.from_spacing((24, 24, 24))
SLICES = Geometry.from_spacing((30, 30, 10), (0.8, 0.8, 2.5))


def ball(grid: Geometry, radius: float, offset: np.ndarray | None = None) -> np.ndarray:
    k, j, i = np.indices(grid.shape_kji)
    centre = grid.centre_ras if offset is None else grid.centre_ras + offset
    return np.linalg.norm(grid.map_voxels(np.stack((i, j, k), axis=-1)) - centre, axis=-1) < radius


@pytest.mark.parametrize("grid", [CUBES, SLICES])
def test_the_surface_of_a_ball_is_known_from_its_faces(grid):
    areas = [
        surface_mm2(ball(grid, 9.0, offset), grid) for offset in np.random.default_rng(0).uniform(-0.5, 0.5, (20, 3))
    ]
    assert np.mean(areas) == pytest.approx(4 * np.pi * 81, rel=0.03)


@pytest.mark.parametrize("grid", [CUBES, SLICES])
def test_the_counting_error_is_what_random_places_give(grid):
    """Of balls of many sizes: a single one may lie better or worse on its lattice."""
    chance, errors = np.random.default_rng(1), []
    for radius in np.linspace(7.0, 9.0, 300):
        inside = ball(grid, radius, chance.uniform(-0.5, 0.5, 3) * grid.spacing_mm)
        errors.append(inside.sum() * grid.voxel_volume_mm3 - 4 / 3 * np.pi * radius**3)
    assert counting_variance(4 * np.pi * 64, grid) == pytest.approx(np.mean(np.square(errors)), rel=0.3)


def test_the_counting_error_of_cubes_is_a_known_constant():
    """Matheron's 0.0667 S h^4."""
    assert counting_variance(1.0, CUBES) == pytest.approx(0.0667, abs=0.001)
    assert counting_variance(1.0, CUBES.with_spacing((2.0, 2.0, 2.0))) == pytest.approx(16 * 0.0667, rel=0.02)


def test_patches_of_a_large_border_cancel_each_other():
    small, large = placing_variance(50.0, 0.3), placing_variance(5000.0, 0.3)
    assert small == pytest.approx((0.3 * 50) ** 2)
    assert large < (0.3 * 5000) ** 2 / 10
    assert placing_variance(5000.0, 0.3, np.inf) == pytest.approx((0.3 * 5000) ** 2)


def test_a_border_of_smooth_noise_gives_the_predicted_error():
    """A plane square of 60 mm whose border is misplaced by a random field with a Gaussian correlation of 5 mm."""
    from scipy.ndimage import gaussian_filter  # noqa: PLC0415 - only here

    chance = np.random.default_rng(2)
    fields = [gaussian_filter(chance.normal(size=(60, 60)), 5 / np.sqrt(2), mode="wrap") for _ in range(400)]
    simulated = np.var([0.3 * field.sum() for field in fields / np.std(fields)])
    assert placing_variance(3600.0, 0.3) == pytest.approx(simulated, rel=0.3)


def test_the_error_bar_holds_the_truth_in_nearly_all_cases():
    """Lesions that are drawn too wide or too tight by a voxel's uncertainty, anywhere on the grid."""
    chance, held = np.random.default_rng(3), 0
    for _ in range(100):
        drawn = ball(CUBES, 6.0 + chance.normal(0, 1 / np.sqrt(12)), chance.uniform(-0.5, 0.5, 3))
        size = measure_lesions(drawn, CUBES)
        held += abs(size.mm3 - 4 / 3 * np.pi * 216) <= 1000 * size.error_ml
    assert 0.88 < held / 100 <= 1.0


def test_lesions_are_misplaced_one_by_one():
    two = np.zeros((24, 24, 24), bool)
    two[2:6, 2:6, 2:6] = two[14:20, 14:20, 14:20] = True
    whole = measure_lesions(two, CUBES)
    single = [measure_lesions(part, CUBES) for part in (two[:10], two[10:])]
    assert whole.variance_mm6 == pytest.approx(sum(one.variance_mm6 for one in single))
    assert whole.mm3 == 4**3 + 6**3
    assert measure_lesions(np.zeros((2, 2, 2), bool), CUBES).mm3 == 0.0


def parts_of(*boxes: tuple[slice, slice, slice]) -> Parts:
    array = np.zeros(CUBES.shape_kji, np.uint8)
    for box in boxes:
        array[box] = 1
    return Parts.separate(Labels.from_array(array, CUBES), 1)


def at(k: int, j: int, i: int, size: int = 4) -> tuple[slice, slice, slice]:
    return slice(k, k + size), slice(j, j + size), slice(i, i + size)


def test_lesions_that_come_go_and_grow_together_are_matched():
    earlier = parts_of(at(2, 2, 2), at(2, 2, 8), at(16, 16, 2))
    later = parts_of((slice(2, 6), slice(2, 6), slice(2, 12)), at(16, 2, 16))
    matched = match_parts(earlier, later, Transform(), Transform())
    assert matched == [([1, 2], [1]), ([3], []), ([], [2])]


def test_lesions_are_matched_through_the_transform():
    matrix = np.eye(4)
    matrix[0, 3] = 10.0
    forward, backward = Transform((Affine(matrix),)), Transform((Affine(np.linalg.inv(matrix)),))
    earlier, later = parts_of(at(2, 2, 2)), parts_of(at(2, 2, 12))
    assert match_parts(earlier, later, forward, backward) == [([1], [1])]
    assert match_parts(earlier, later, Transform(), Transform()) == [([1], []), ([], [1])]


def test_no_lesions_at_a_visit_are_no_obstacle():
    some, none = parts_of(at(2, 2, 2)), parts_of()
    assert match_parts(none, some, Transform(), Transform()) == [([], [1])]
    assert match_parts(none, none, Transform(), Transform()) == []
    mask, grid = none.mask([])
    assert not mask.any()
    assert mask.shape == grid.shape_kji


def test_parts_are_cut_out_where_they_are():
    mask, grid = parts_of(at(2, 3, 5), at(16, 16, 16)).mask([1])
    assert mask.shape == (4, 4, 4)
    assert mask.all()
    np.testing.assert_allclose(grid.origin_ras, CUBES.map_voxels(np.array([5, 3, 2])))


def test_lesions_are_recognised_by_name_category_or_choice():
    coded = Structure(1, "region", category=Code("SCT", "49755003", "Morphologically Altered Structure"))
    assert is_lesion(coded)
    assert is_lesion(Structure(1, "MS Lesions"))
    assert not is_lesion(Structure(1, "hippocampus"))
    assert is_lesion(Structure(1, "hippocampus"), ["hippocampus"])
    assert not is_lesion(coded, [])


def test_structures_of_one_name_are_one_at_all_visits():
    grid = Geometry.from_spacing((4, 4, 4))
    image = Image(np.zeros((1, 4, 4, 4), np.float32), grid)

    def visit(*names: str) -> Visit:
        array = np.zeros((4, 4, 4), np.uint8)
        array[: len(names), 0, 0] = np.arange(1, len(names) + 1)
        structures = tuple(Structure(value, name) for value, name in enumerate(names, start=1))
        return Visit(image, Labels.from_array(array, grid, structures))

    first, second, third = with_shared_values([visit("a", "b"), visit("b", "c"), Visit(image)])
    assert [(one.name, one.value) for one in first.labels.structures] == [("a", 1), ("b", 2)]
    values = {one.name: one.value for one in second.labels.structures}
    assert second.labels.numpy()[0, 0, 0] == values["b"]
    assert second.labels.numpy()[1, 0, 0] == values["c"]
    assert values["c"] not in (1, 2)
    assert third.labels is None
    with pytest.raises(InputError, match="each name once"):
        with_shared_values([visit("a", "a"), visit("a")])
