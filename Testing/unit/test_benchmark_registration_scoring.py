"""The registration benchmark's judge gives known answers on an oblique, anisotropic grid; no peer is needed."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from MedSegRegLib.evaluate.deformation import folding, jacobian_determinant, sdlogj
from MedSegRegLib.files.itk import displacement_from_itk

sys.path.append(str(Path(__file__).parents[2] / "benchmarks" / "registration"))
score, pairs, child, table = (importlib.import_module(name) for name in ("score", "pairs", "child", "table"))

SIZE = (14, 12, 10)
SPACING = (0.8, 1.0, 3.0)


@pytest.fixture
def grid() -> sitk.Image:
    image = sitk.Image(SIZE, sitk.sitkUInt8)
    image.SetSpacing(SPACING)
    image.SetOrigin((-20.0, 35.0, 7.0))
    image.SetDirection(sitk.Euler3DTransform([0, 0, 0], 0.3, -0.2, 0.5).GetMatrix())
    return image


def field_of(transform: sitk.Transform, grid: sitk.Image) -> sitk.Image:
    return sitk.TransformToDisplacementField(
        transform, sitk.sitkVectorFloat32, grid.GetSize(), grid.GetOrigin(), grid.GetSpacing(), grid.GetDirection()
    )


def field_of_voxels(displacement_ijk: np.ndarray, grid: sitk.Image) -> sitk.Image:
    """[K, J, I, 3] in voxels to an LPS field."""
    steps = np.reshape(grid.GetDirection(), (3, 3)) * grid.GetSpacing()
    field = sitk.GetImageFromArray((displacement_ijk @ steps.T).astype(np.float32), isVector=True)
    field.CopyInformation(grid)
    return field


def constant_voxels(vector_ijk: tuple[float, float, float], grid: sitk.Image) -> sitk.Image:
    return field_of_voxels(np.broadcast_to(np.array(vector_ijk), (*SIZE[::-1], 3)), grid)


def affine(grid: sitk.Image) -> sitk.AffineTransform:
    transform = sitk.AffineTransform(3)
    transform.SetCenter(grid.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in SIZE]))
    transform.SetMatrix((1.1, 0.1, 0.0, -0.05, 0.9, 0.1, 0.0, 0.05, 1.05))
    return transform


def labels_with(box: tuple[slice, slice, slice], grid: sitk.Image) -> sitk.Image:
    array = np.zeros(SIZE[::-1], np.uint8)
    array[box] = 3
    image = sitk.GetImageFromArray(array)
    image.CopyInformation(grid)
    return image


def everywhere() -> np.ndarray:
    return np.ones(SIZE[::-1], bool)


def test_a_shift_that_undoes_a_shift_overlaps_completely(grid):
    fixed = labels_with((slice(2, 6), slice(3, 8), slice(4, 8)), grid)
    moving = labels_with((slice(2, 6), slice(3, 8), slice(6, 10)), grid)  # two voxels along i
    warped = score.warp_labels(moving, constant_voxels((2, 0, 0), grid))
    assert score.overlap(fixed, warped, {3}) == {"dice": 1.0, "hd95_mm": 0.0}
    assert score.overlap(fixed, moving, {3})["dice"] == 0.5


def test_the_surface_distance_is_in_millimetres_of_the_grid(grid):
    plate, behind = labels_with(np.s_[2:8, 2:10, 4:5], grid), labels_with(np.s_[2:8, 2:10, 6:7], grid)
    assert score.overlap(plate, behind, {3})["hd95_mm"] == pytest.approx(2 * SPACING[0])


def test_a_label_that_is_lost_has_no_overlap_and_no_distance(grid):
    fixed = labels_with(np.s_[2:6, 3:8, 4:8], grid)
    found = score.overlap(fixed, fixed * 0, {3})
    assert found["dice"] == 0
    assert np.isnan(found["hd95_mm"])


def test_landmarks_are_mapped_as_the_transform_maps_them(grid):
    points = np.array([grid.TransformContinuousIndexToPhysicalPoint(p) for p in ((3.2, 4.7, 5.1), (8.0, 2.5, 6.9))])
    expected = np.array([affine(grid).TransformPoint(p) for p in points.tolist()])
    np.testing.assert_allclose(score.map_points(field_of(affine(grid), grid), points), expected, atol=1e-4)


def test_determinants_of_an_affine_field_are_those_of_its_matrix(grid):
    field = field_of(affine(grid), grid)
    expected = np.linalg.det(np.reshape(affine(grid).GetMatrix(), (3, 3)))
    for differences in ("central", "corner"):
        np.testing.assert_allclose(score.determinants(field, differences), expected, rtol=1e-4)
    assert score.regularity(field, everywhere())["sdlogj"] == pytest.approx(0, abs=1e-4)


def test_regularity_agrees_with_the_library(grid):
    rng = np.random.default_rng(3)
    field = field_of_voxels(rng.normal(0, 0.35, (*SIZE[::-1], 3)), grid)
    ours, found = displacement_from_itk(field), score.regularity(field, everywhere())
    np.testing.assert_allclose(score.determinants(field, "central"), jacobian_determinant(ours), atol=1e-4)
    assert found["sdlogj"] == pytest.approx(sdlogj(ours), rel=1e-4)
    assert found["folded_percent"] == pytest.approx(folding(ours).percent)
    assert found["folded_corner_percent"] == pytest.approx(folding(ours).percent_any_corner)
    assert 0 < found["folded_percent"] < found["folded_corner_percent"]


def test_folds_that_central_differences_hide_are_counted_by_corners(grid):
    zigzag = np.zeros((*SIZE[::-1], 3))
    zigzag[..., ::2, 0] = 0.6
    zigzag[..., 1::2, 0] = -0.6
    region = np.pad(np.ones([n - 2 for n in SIZE[::-1]], bool), 1)
    found = score.regularity(field_of_voxels(zigzag, grid), region)
    assert found["folded_percent"] == 0
    assert found["folded_corner_percent"] == 100


def test_an_exact_inverse_has_no_error_and_a_shifted_one_its_shift(grid):
    field, inverse = field_of(affine(grid), grid), field_of(affine(grid).GetInverse(), grid)
    found = score.inverse_consistency(field, inverse, everywhere())
    assert found["inverse_p99_voxels"] < 1e-4
    shifted = sitk.Add(inverse, constant_voxels((0, 0.5, 0), grid))
    found = score.inverse_consistency(field, shifted, everywhere())
    assert found == pytest.approx({"inverse_mean_voxels": 0.5, "inverse_p99_voxels": 0.5}, abs=1e-4)


def test_the_inverse_is_not_judged_where_it_is_not_defined(grid):
    far = constant_voxels((100, 0, 0), grid)
    assert np.isnan(score.inverse_consistency(far, far, everywhere())["inverse_mean_voxels"])


@pytest.fixture
def a_pair(grid, tmp_path):
    fixed, moving = labels_with(np.s_[2:6, 3:8, 4:8], grid), labels_with(np.s_[2:6, 3:8, 6:10], grid)
    contents = {"fixed": fixed, "moving": moving, "fixed_seg": fixed, "moving_seg": moving}
    truth = constant_voxels((2, 0, 0), grid)
    return pairs.make_pair(tmp_path / "set" / "pair", lambda: {**contents, "truth": truth, "score_mask": fixed})


def test_a_run_is_scored_against_the_truth_inside_the_mask(a_pair, grid, tmp_path):
    wrong = np.zeros((*SIZE[::-1], 3))
    wrong[..., 0] = 2
    wrong[2:6, 3:8, 4:8, 2] = 0.25  # a quarter of a slice of 3 mm, in the mask only
    sitk.WriteImage(field_of_voxels(wrong, grid), str(tmp_path / "field.mha"))
    found = score.score_run(a_pair.folder, tmp_path)
    assert found["tre_mean_mm"] == pytest.approx(0.75, abs=1e-4)
    assert found["tre_p95_mm"] == pytest.approx(0.75, abs=1e-4)
    assert found["dice"] == 1.0


def test_a_field_that_is_not_finite_is_refused(a_pair, grid, tmp_path):
    sitk.WriteImage(constant_voxels((np.nan, 0, 0), grid), str(tmp_path / "field.mha"))
    with pytest.raises(ValueError, match="not finite"):
        score.score_run(a_pair.folder, tmp_path)


def test_a_pair_is_made_once_and_read_again(a_pair):
    def never() -> dict:
        raise AssertionError("made again")

    assert pairs.make_pair(a_pair.folder, never) == a_pair == pairs.read_pair(a_pair.folder)


def test_a_method_runs_in_its_own_process_and_lands_in_the_table(a_pair, tmp_path):
    conditions = child.Conditions(tmp_path, threads=1, device="cpu", timeout_s=120, keep_fields=False)
    for method in ("initial", "greedy"):
        child.run_once(a_pair, method, tmp_path / "results" / a_pair.name / method / "1", conditions)
    found = table.collect(tmp_path / "results", ["initial", "greedy"], [a_pair.name])
    scores = found["initial"]["mean"]
    assert scores["dice"] == 0.5
    assert scores["tre_mean_mm"] == pytest.approx(2 * SPACING[0], abs=1e-4)
    assert scores["peak_mib"] > 10
    assert "no environment 'peers'" in found["greedy"]["failures"][a_pair.name]
    assert "| initial | 1 | 0.5000 |" in table.as_markdown("title", found)
    assert not list(tmp_path.glob("results/**/field.mha"))


def test_the_table_takes_medians_of_repeats_and_relates_time_to_ours(tmp_path):
    def write(method: str, repeat: int, seconds: float) -> None:
        run = tmp_path / "pair" / method / str(repeat)
        run.mkdir(parents=True)
        (run / "usage.json").write_text(json.dumps({"cpu_s": seconds, "parts": {"affine": 1.0}}))
        (run / "score.json").write_text(json.dumps({"dice": 0.5}))

    for repeat, seconds in enumerate((10.0, 2.0, 4.0)):
        write("medsegreg:quick", repeat, seconds)
        write("greedy", repeat, 3 * seconds)
    found = table.collect(tmp_path, ["medsegreg:quick", "greedy"], ["pair"])
    assert found["medsegreg:quick"]["mean"]["cpu_s"] == 4.0
    assert found["greedy"]["mean"]["cpu_ratio"] == 3.0
    assert found["greedy"]["mean"]["affine_cpu_s"] == 1.0


def test_a_method_that_takes_too_long_is_a_row_with_the_reason(a_pair, tmp_path):
    conditions = child.Conditions(tmp_path, threads=1, device="cpu", timeout_s=0.01, keep_fields=False)
    child.run_once(a_pair, "initial", tmp_path / "run", conditions)
    assert (tmp_path / "run" / "failure.txt").read_text() == "stopped after 0.01 s"
