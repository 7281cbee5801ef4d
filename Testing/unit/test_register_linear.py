"""The linear stage: starts, the search over rotations and shifts, slices, and what is said about a doubtful result."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from register_phantoms import CUBE, make_head, smooth_noise, tissue_points
from scipy.spatial.transform import Rotation

from MedSegRegLib.errors import NoOverlap
from MedSegRegLib.files.images import read_image
from MedSegRegLib.geometry import Geometry, translation
from MedSegRegLib.image import Image, Labels
from MedSegRegLib.progress import SILENT
from MedSegRegLib.register.affine import evaluate_pair, linear_generators, optimise_linear
from MedSegRegLib.register.linear import register_linear, spacing_for
from MedSegRegLib.register.plausibility import check_plausibility, distinctness
from MedSegRegLib.register.presets import PRESETS
from MedSegRegLib.register.pyramid import Pair, Study, prepare_study
from MedSegRegLib.register.run import register
from MedSegRegLib.register.search import ShiftSearch, search_placements
from MedSegRegLib.register.settings import RegistrationSettings
from MedSegRegLib.register.starts import find_start, start_candidates, turn_trust
from MedSegRegLib.resample import resample_labels
from MedSegRegLib.samples import sample_path
from MedSegRegLib.transform import Affine, Transform

CHEST = Path(__file__).parents[2].parent / "shared" / "data" / "chest_xray"
SLICE = Geometry.from_spacing((64, 64, 1), (1.0, 1.0, 1.0), (-31.5, -31.5, 5.0))


@pytest.fixture(scope="module")
def head() -> Image:
    """Large structures, as anatomy has: a turn shows at 6 mm. [1, 40, 40, 40], 1.5 mm."""
    k, j, i = torch.meshgrid(*(torch.linspace(-1, 1, 40),) * 3, indexing="ij")
    inside = ((i / 0.6) ** 2 + (j / 0.85) ** 2 + (k / 0.7) ** 2 < 1).float()
    return Image(inside * (6 + 2 * smooth_noise(CUBE, 6.0, 7).clamp(-2, 2)), CUBE, "head")


@pytest.fixture(scope="module")
def other_contrast(head) -> Image:
    return head.with_tensor(torch.where(head.tensor > 1, 13 - head.tensor, head.tensor))


@pytest.fixture(scope="module")
def slice_image() -> Image:
    return make_head(SLICE, seed=5)


def study(image: Image, mask: Labels | None = None) -> Study:
    return prepare_study(image, mask, torch.device("cpu"))


def pair(fixed: Image, moving: Image, spacing_mm: float = 1.5) -> Pair:
    return Pair.at(study(fixed), study(moving), spacing_mm)


def placed(image: Image, matrix: np.ndarray) -> Image:
    """The same voxels elsewhere: the matrix is then the true map."""
    return Image(image.tensor, Geometry(image.geometry.size_ijk, matrix @ image.geometry.ijk_to_ras), "placed")


def motion(degrees: tuple[float, float, float], shift_mm: tuple[float, float, float], scale: float = 1.0) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = scale * Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    matrix[:3, 3] = shift_mm
    return matrix


def error_mm(found: np.ndarray, truth: np.ndarray, image: Image) -> float:
    points = tissue_points(image)
    difference = (found - truth) @ np.concatenate((points, np.ones((len(points), 1))), axis=1).T
    return float(np.linalg.norm(difference[:3], axis=0).mean())


def solve(fixed: Image, moving: Image, model: str = "rigid", **settings) -> tuple[np.ndarray, list[str]]:
    wanted = RegistrationSettings(linear=model, deformable=None, linear_voxels=30_000, **settings)
    matrix, findings = register_linear((study(fixed), study(moving)), wanted, None, SILENT)
    return matrix, [finding.message for finding in findings]


@pytest.mark.parametrize(
    ("degrees", "scale", "model"), [((60, -50, 40), 1.0, "rigid"), ((-45, 55, -60), 1.25, "affine")]
)
def test_a_large_turn_between_two_contrasts_is_found(head, other_contrast, degrees, scale, model):
    truth = motion(degrees, (50.0, -40.0, 30.0), scale)
    found, said = solve(head, placed(other_contrast, truth), model)
    assert error_mm(found, truth, head) < 1.0
    assert not [message for message in said if "share" not in message]


def test_half_a_head_is_found_in_a_turned_head(head):
    upper = Image(head.tensor[:, 20:].contiguous(), CUBE.window((0, 0, 20), (40, 40, 20)), "upper half")
    truth = motion((50, 30, -40), (20.0, -30.0, 10.0))
    found, _ = solve(head, placed(upper, truth))
    assert error_mm(found, truth, head) < 0.5


def test_turns_that_the_header_says_are_not_undone_without_need(head):
    turned_over = np.diag([-1.0, -1.0, 1.0])
    matrix = np.eye(4)
    matrix[:3, :3] = turned_over
    own = pair(head, head)
    assert turn_trust(own, np.eye(4)) == turn_trust(own, motion((20, 0, 0), (0, 0, 0), 0.7)) == 1
    assert turn_trust(own, matrix) == pytest.approx(0.85)


def test_the_shift_of_the_search_is_the_one_that_trying_all_shifts_finds(head, other_contrast):
    offset = np.array([12.0, -9.0, 6.0])
    fixed, moving = study(head).coarsen(3.0), study(placed(other_contrast, translation(offset))).coarsen(3.0)
    (best,) = ShiftSearch(fixed, moving, 3.0, 1.0).best_shifts(np.eye(3)[None])
    around = CUBE.centre_ras
    np.testing.assert_allclose(best.matrix[:3, :3] @ around + best.matrix[:3, 3], around + offset, atol=2.2)


def test_the_search_puts_the_right_turn_first(head, other_contrast):
    truth = motion((40, -60, 20), (35.0, 10.0, -25.0))
    placements = search_placements(pair(head, placed(other_contrast, truth)), (1.0,), SILENT)
    turn = placements[0].matrix[:3, :3] @ truth[:3, :3].T
    assert np.degrees(np.arccos((np.trace(turn) - 1) / 2)) < 30
    assert [p.score for p in placements] == sorted((p.score for p in placements), reverse=True)


def test_what_a_mask_hides_does_not_draw_the_search(head):
    covered = head.tensor.clone()
    covered[0, :, :, :16] = 12 * torch.rand((40, 40, 16), generator=torch.Generator().manual_seed(1))
    mask = torch.ones(CUBE.shape_kji, dtype=torch.uint8)
    mask[:, :, :16] = 0
    truth = motion((30, 40, -30), (25.0, 15.0, 5.0))
    moving = placed(head.with_tensor(covered), truth)
    masked = study(moving, Labels(mask, moving.geometry))
    wanted = RegistrationSettings(linear="rigid", deformable=None, linear_voxels=30_000)
    found, _ = register_linear((study(head), masked), wanted, None, SILENT)
    assert error_mm(found, truth, head) < 0.5


def test_an_image_onto_itself_stays_exactly_where_it_is(head):
    found, said = solve(head, head, "affine")
    assert np.array_equal(found, np.eye(4))
    assert said == []


def test_the_same_input_gives_the_same_start(head, other_contrast):
    own = pair(head, placed(other_contrast, motion((30, 0, 20), (9.0, 5.0, 5.0))), 3.0)
    assert np.array_equal(find_start(own, "mi", SILENT).matrix, find_start(own, "mi", SILENT).matrix)


@pytest.mark.parametrize("similarity", ["mi", "nmi", "lncc", "ssd"])
def test_every_similarity_prefers_the_truth_to_less_overlap_and_to_a_turned_head(head, similarity):
    truth = motion((35, -20, 10), (15.0, 0.0, -10.0))
    moving = placed(head, truth)
    start = find_start(pair(head, moving, 3.0), similarity, SILENT)
    assert error_mm(start.matrix, truth, head) < 2.0


@pytest.mark.parametrize(("model", "free"), [("rigid", 6), ("similarity", 7), ("affine", 12)])
def test_a_model_has_its_degrees_of_freedom(model, free):
    generators = linear_generators(model, CUBE)
    assert generators.shape == (free, 4, 4)
    assert np.linalg.matrix_rank(generators.reshape(free, 16)) == free
    turns_and_sizes = generators[3:7, :3, :3]
    symmetric = turns_and_sizes + turns_and_sizes.transpose(0, 2, 1)
    assert np.abs(symmetric[:3]).max() == 0
    if model == "similarity":
        np.testing.assert_allclose(symmetric[3], symmetric[3][0, 0] * np.eye(3), atol=1e-15)


def test_a_similarity_keeps_angles(head):
    truth = motion((10, 5, -8), (4.0, 3.0, 0.0), 1.15)
    found, _ = solve(head, placed(head, truth), "similarity")
    singular = np.linalg.svd(found[:3, :3], compute_uv=False)
    assert np.ptp(singular) < 1e-9
    assert singular[0] == pytest.approx(1.15, abs=0.01)


@pytest.mark.parametrize(("axis", "model"), [(2, "rigid"), (2, "affine"), (1, "similarity")])
def test_a_slice_moves_in_its_plane_only(slice_image, axis, model):
    in_plane = np.eye(4)
    scale = 1.0 if model == "rigid" else 1.2
    in_plane[:2, :2] = scale * Rotation.from_euler("z", 50, degrees=True).as_matrix()[:2, :2]
    in_plane[:2, 3] = (14.0, -9.0)
    turn = np.eye(4) if axis == 2 else np.eye(4)[[0, 2, 1, 3]]
    voxels = slice_image.tensor.movedim(1, 3 - axis).contiguous()
    order = [0, 1, 2, 3] if axis == 2 else [0, 2, 1, 3]
    geometry = Geometry(tuple(np.array(SLICE.size_ijk)[order[:3]]), turn @ SLICE.ijk_to_ras[:, order])
    fixed, truth = Image(voxels, geometry, "slice"), turn @ in_plane @ turn
    found, said = solve(fixed, placed(fixed, truth), model)

    def corners_at(matrix: np.ndarray) -> np.ndarray:
        return Transform((Affine(matrix),)).map_points(geometry.corners_ras())

    np.testing.assert_allclose(corners_at(found), corners_at(truth), atol=0.2)
    assert np.array_equal(found[axis], np.eye(4)[axis])
    assert np.array_equal(found[:, axis], np.eye(4)[:, axis])
    assert said == []


def test_slices_in_different_planes_are_laid_into_one(slice_image):
    truth = motion((70, 20, 10), (30.0, -60.0, 80.0))
    found, _ = solve(slice_image, placed(slice_image, truth))
    np.testing.assert_allclose(found, truth, atol=0.01)


def test_starts_of_a_slice_never_turn_it_over(slice_image):
    tilted = placed(slice_image, motion((30, 40, 50), (0.0, 0.0, 0.0)))
    for start in start_candidates(pair(slice_image, tilted))[1:]:
        normal = start.matrix[:3, :3] @ SLICE.directions[:, 2]
        np.testing.assert_allclose(normal, tilted.geometry.directions[:, 2], atol=1e-12)


def test_the_lungs_of_two_chest_x_rays_overlap_better():
    if not CHEST.exists():
        pytest.skip("the chest X-rays are not beside the repository")
    (fixed, lungs), (moving, other_lungs) = (read_x_ray(name) for name in ("1", "2"))
    found, said = solve(fixed, moving, "affine")
    before, after = (
        dice(lungs, resample_labels(other_lungs, fixed.geometry, Transform((Affine(matrix),))))
        for matrix in (np.eye(4), found)
    )
    assert before < 0.81
    assert after > 0.91
    assert said == []


def test_the_lungs_overlap_better_still_after_a_deformation_within_the_plane():
    if not CHEST.exists():
        pytest.skip("the chest X-rays are not beside the repository")
    (fixed, lungs), (moving, other_lungs) = (read_x_ray(name) for name in ("1", "2"))
    result = register(fixed, moving, PRESETS["deformable"])
    after = dice(lungs, resample_labels(other_lungs, fixed.geometry, result.transform))
    assert after > 0.94
    assert result.transform.stages[0].vectors_ras_mm[2].abs().max() == 0
    assert result.quality.folding.voxels_any_corner == 0


def read_x_ray(name: str) -> tuple[Image, Labels]:
    pixels, lungs = (
        sitk.GetArrayFromImage(sitk.ReadImage(str(CHEST / file), sitk.sitkUInt8))[None]
        for file in (f"{name}.jpg", f"{name}_lungs.png")
    )
    grid = Geometry.from_spacing((pixels.shape[2], pixels.shape[1], 1), (0.7, 0.7, 1.0))
    return Image.from_array(pixels.astype(np.float32), grid), Labels.from_array((lungs > 127).astype(np.uint8), grid)


def dice(a: Labels, b: Labels) -> float:
    first, second = a.tensor > 0, b.tensor > 0
    return 2 * float((first & second).sum()) / float(first.sum() + second.sum())


def test_real_heads_of_two_people_are_brought_together_without_a_warning():
    fixed, moving = (read_image(sample_path(name)) for name in ("icbm152-t1", "s1-t1"))
    settings = RegistrationSettings(linear="affine", deformable=None, linear_voxels=60_000)
    studies = study(fixed), study(moving)
    near, _ = register_linear(studies, settings, translation(moving.geometry.centre_ras), SILENT)
    moved = motion((-50, 40, 55), (40.0, 50.0, -30.0))
    found, findings = register_linear((studies[0], study(placed(moving, moved))), settings, None, SILENT)
    assert error_mm(found, moved @ near, fixed) < 4
    assert findings == []


@pytest.mark.parametrize("sigma_mm", [0.1, 6.0])
def test_noise_is_not_passed_off_as_aligned(head, sigma_mm):
    noise = Image(smooth_noise(CUBE, sigma_mm, 3), CUBE, "noise")
    _, said = solve(head, noise, "affine")
    assert said


def test_implausible_sizes_stretches_and_overlaps_are_told(head):
    own = pair(head, head)
    assert check_plausibility(own, np.eye(4)) == []
    for matrix, words in (
        (np.diag([0.6, 0.6, 0.6, 1.0]), "change its size"),
        (np.diag([1.4, 0.7, 1.0, 1.0]), "stretched 2.0 times"),
        (translation(np.array([58.0, 0.0, 0.0])), "of what they could"),
        (translation(np.array([15.0, 10.0, 0.0])), "hardly better than after being displaced"),
    ):
        assert any(words in finding.message for finding in check_plausibility(own, matrix)), words


def test_a_right_result_is_more_distinct_than_one_beside_it(head, other_contrast):
    own = pair(head, other_contrast)
    assert distinctness(own, np.eye(4)) > 1.8
    assert distinctness(own, translation(np.array([15.0, 0.0, 0.0]))) < 1.45


def test_an_image_that_covers_less_than_a_hundredth_is_refused(head):
    crumb = Image(head.tensor[:, 17:23, 17:23, 17:23].contiguous(), CUBE.window((17, 17, 17), (6, 6, 6)), "crumb")
    with pytest.raises(NoOverlap, match="under any start"):
        find_start(pair(head, crumb, 3.0), "mi", SILENT)


def test_a_level_does_not_go_on_from_what_only_a_coarser_one_liked(head, monkeypatch):
    """The first affine step is led astray; the finer levels begin at the better of what is known."""
    astray = np.diag([1.3, 0.8, 1.0, 1.0])
    steps = []

    def optimise(at, start, model, similarity, *, iterations, progress):
        steps.append(start)
        if model == "affine" and len(steps) == 2:
            return astray, evaluate_pair(at, astray, similarity)
        return optimise_linear(at, start, model, similarity, iterations=iterations, progress=progress)

    monkeypatch.setattr("MedSegRegLib.register.linear.optimise_linear", optimise)
    settings = RegistrationSettings(linear="affine", deformable=None, linear_voxels=30_000)
    start = translation(np.array([2.0, 1.0, 0.0]))
    found, _ = register_linear((study(head), study(head)), settings, start, SILENT)
    assert error_mm(found, np.eye(4), head) < 0.1
    assert not any(np.array_equal(step, astray) for step in steps)


def test_the_working_spacing_of_a_slice_counts_its_area():
    flat, cube = Geometry.from_spacing((400, 400, 1), (0.5, 0.5, 8.0)), Geometry.from_spacing((100, 100, 100))
    studies = [Study(torch.zeros(1, *g.shape_kji), torch.ones(g.shape_kji), g) for g in (flat, cube)]
    assert spacing_for(studies[0], 10_000) == pytest.approx(2.0)
    assert spacing_for(studies[1], 125_000) == pytest.approx(2.0)
    assert spacing_for(studies[0], 10**9) == pytest.approx(0.5)
