"""Visits of one phantom, whose changes are known."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from register_phantoms import bent, make_bend, make_head

from MedSegRegLib.errors import Cancelled, InputError, InvalidSetting, NoOverlap, StructureNotFound
from MedSegRegLib.files import read_image, read_labels, read_transform
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Image, Labels, Structure
from MedSegRegLib.progress import Progress
from MedSegRegLib.register.settings import DeformableSettings, RegistrationSettings
from MedSegRegLib.resample import resample_image
from MedSegRegLib.transform import Affine, Transform
from MedSegRegLib.workflows.followup import follow_up
from MedSegRegLib.workflows.followup_midway import Visit, find_midway, mean_motion, reference_mask
from MedSegRegLib.workflows.followup_report import change_columns, volume_columns, write_html, write_pdf

pytestmark = pytest.mark.usefixtures("one_thread")

PATIENT = Path(__file__).parents[3] / "shared" / "data" / "ms_longitudinal" / "patient01"
GRID = Geometry.from_spacing((28, 28, 28), (2.0, 2.0, 2.0), (-27.0, -27.0, -27.0))
HEAD = make_head(GRID)
FAST = RegistrationSettings(
    linear="rigid",
    linear_search=False,
    linear_voxels=6000,
    deformable=DeformableSettings(
        coarsening=(2.0, 1.0), iterations=(10, 6), stiffness=2.0, model="velocity", symmetric=True
    ),
)
RIGID = FAST.model_copy(update={"deformable": None})
STRUCTURES = (Structure(1, "lobe"), Structure(2, "lesions"))


def turn(degrees: float, shift: tuple[float, float, float]) -> np.ndarray:
    """4x4 rotation about S, then a shift."""
    angle = np.radians(degrees)
    matrix = np.eye(4)
    matrix[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    matrix[:3, 3] = shift
    return matrix


def distances(matrix: np.ndarray, centre: tuple[float, float, float]) -> np.ndarray:
    """[K, J, I] mm from a point of the head, in a visit whose points a matrix takes to the head's."""
    k, j, i = np.indices(GRID.shape_kji)
    ras = Transform((Affine(matrix),)).map_points(GRID.map_voxels(np.stack((i, j, k), axis=-1).reshape(-1, 3)))
    return np.linalg.norm(ras - centre, axis=1).reshape(GRID.shape_kji)


def visit(matrix: np.ndarray, radii: tuple[float, float, float], seed: int, name: str) -> Visit:
    """The head moved, with a lobe and three lesions of these radii; 0 for one that is not there. Lesions are bright."""
    image = resample_image(HEAD, GRID, Transform((Affine(matrix),))).numpy()[0].copy()
    array = np.zeros(GRID.shape_kji, np.uint8)
    array[distances(matrix, (0.0, 0.0, -9.0)) < 7] = 1
    for centre, radius in zip(((9.0, 3.0, 6.0), (-9.0, 3.0, 6.0), (0.0, -11.0, 5.0)), radii, strict=True):
        inside = distances(matrix, centre) < radius
        array[inside] = 2
        image[inside] += 12
    image += np.random.default_rng(seed).normal(0, 0.1, image.shape)
    return Visit(Image.from_array(image, GRID, name), Labels.from_array(array, GRID, STRUCTURES))


MOVED = turn(4.0, (2.0, -1.0, 1.5))
FIRST = visit(np.eye(4), (5.0, 4.5, 0.0), 0, "2024")
SECOND = visit(MOVED, (6.5, 4.5, 5.0), 1, "2025")


@pytest.fixture(scope="module")
def compared():
    return follow_up([FIRST, SECOND], FAST, border_mm=0.3)


@pytest.fixture(scope="module")
def unchanged():
    return follow_up([FIRST, FIRST], FAST, border_mm=0.3)


def ball_ml(radius: float) -> float:
    return 4 / 3 * np.pi * radius**3 / 1000


def test_a_lesion_that_grew_one_that_came_and_one_that_stayed_are_told_apart(compared):
    lesions = [change for change in compared.intervals[0].changes if change.lesion]
    assert [(one.name, one.verdict) for one in lesions] == [
        ("lesions 1", "grown"),
        ("lesions 2", "unchanged"),
        ("lesions 3", "new"),
    ]
    grown, same, new = lesions
    assert grown.change_ml == pytest.approx(ball_ml(6.5) - ball_ml(5.0), abs=grown.error_ml)
    assert new.before_ml == 0.0
    assert new.after_ml == pytest.approx(ball_ml(5.0), abs=new.error_ml)
    assert new.percent is None
    assert abs(same.change_ml) < same.error_ml
    assert 0 < grown.error_ml < grown.change_ml


def test_the_same_image_twice_gives_no_change_within_the_error(unchanged):
    interval = unchanged.intervals[0]
    for change in interval.changes:
        assert change.verdict == "unchanged"
        assert change.change_ml == 0.0
        assert change.error_ml > 0
        assert abs(change.deformation_ml) < max(change.deformation_error_ml, 1e-4)
    assert np.abs(interval.subtraction.numpy()).max() < 1e-3
    np.testing.assert_allclose(interval.jacobian.numpy(), 1.0, atol=1e-3)
    assert "no change beyond the error" in unchanged.sentence or "2 lesions: 2 unchanged" in unchanged.sentence


def test_the_whole_of_all_lesions_is_a_structure_too(compared):
    whole = next(change for change in compared.intervals[0].changes if change.name == "lesions")
    parts = [change for change in compared.intervals[0].changes if change.lesion]
    assert whole.after_ml == pytest.approx(sum(one.after_ml for one in parts))
    assert whole.error_ml == pytest.approx(np.sqrt(sum(one.error_ml**2 for one in parts)))
    (volumes,) = [one for one in compared.volumes if one.name == "lesions"]
    assert volumes.ml == (whole.before_ml, whole.after_ml)


def test_transforms_lead_from_visit_to_visit(compared):
    """A point x of the first visit lies where MOVED would take it back from in the second."""
    points = np.random.default_rng(0).uniform(-14, 14, (40, 3))
    truth = Transform((Affine(np.linalg.inv(MOVED)),))
    interval = compared.intervals[0]
    assert np.linalg.norm(interval.transform.map_points(points) - truth.map_points(points), axis=1).mean() < 0.5
    back = interval.inverse.map_points(interval.transform.map_points(points))
    assert np.linalg.norm(back - points, axis=1).max() < 0.1


def test_the_visits_meet_half_way(compared):
    first, second = compared.midway.to_visit
    half = turn(2.0, (0.0, 0.0, 0.0))
    np.testing.assert_allclose(first[:2, :2], half[:2, :2], atol=0.01)
    np.testing.assert_allclose(second[:2, :2], half[:2, :2].T, atol=0.01)
    assert compared.midway.rigid_error_mm[0] == 0.0
    assert 0 < compared.midway.rigid_error_mm[1] < 0.5


def test_exchanging_the_visits_gives_the_opposite(compared):
    other = follow_up([SECOND, FIRST], FAST, border_mm=0.3)
    ahead, back = compared.intervals[0], other.intervals[0]
    opposite = {"grown": "shrunk", "new": "gone", "unchanged": "unchanged"}
    assert [opposite[one.verdict] for one in ahead.changes] == [one.verdict for one in back.changes]
    assert [-one.change_ml for one in ahead.changes] == [one.change_ml for one in back.changes]
    points = np.random.default_rng(0).uniform(-14, 14, (40, 3))
    apart = np.linalg.norm(ahead.transform.map_points(points) - back.inverse.map_points(points), axis=1)
    assert apart.mean() < 0.2


def test_the_map_of_change_shows_what_came_and_grew_and_nothing_else(compared):
    change = compared.intervals[0].subtraction
    grid = compared.midway.grid
    k, j, i = np.indices(grid.shape_kji)
    first = Transform((Affine(compared.midway.to_visit[0]),))
    ras = first.map_points(grid.map_voxels(np.stack((i, j, k), axis=-1).reshape(-1, 3))).reshape(*grid.shape_kji, 3)
    came = np.linalg.norm(ras - (0.0, -11.0, 5.0), axis=-1) < 4
    stayed = np.linalg.norm(ras - (-9.0, 3.0, 6.0), axis=-1) < 6
    values = change.numpy()[0]
    assert np.median(values[came]) > 5
    assert np.abs(np.median(values[stayed])) < np.median(values[came]) / 4


def test_growth_of_tissue_is_found_by_the_deformation_alone():
    """A structure of the first visit only; the head swells by a known amount around it."""
    bend = make_bend(GRID, largest_mm=2.0, sigma_mm=10.0)
    later = bent(HEAD, bend, noise=0.05)
    array = np.zeros(GRID.shape_kji, np.uint8)
    array[distances(np.eye(4), (0.0, 0.0, 0.0)) < 10] = 1
    drawn = Labels.from_array(array, GRID, (Structure(1, "middle"),))
    settings = FAST.model_copy(update={"linear": "none"})
    result = follow_up([Visit(HEAD, drawn), Visit(later)], settings)
    (change,) = result.intervals[0].changes
    inside = np.linalg.norm(
        Transform((bend,)).map_points(GRID.map_voxels(np.argwhere(np.ones(GRID.shape_kji))[:, ::-1])), axis=1
    )
    truth = (inside < 10).sum() * GRID.voxel_volume_mm3 / 1000 - drawn.numpy().sum() * GRID.voxel_volume_mm3 / 1000
    assert change.after_ml is None
    assert change.change_ml is None
    assert change.deformation_ml == pytest.approx(truth, abs=change.deformation_error_ml)
    assert abs(truth) > 0.1
    assert any("deformation alone" in finding.message for finding in result.findings)


def test_three_visits_give_two_intervals():
    result = follow_up([FIRST, SECOND, FIRST], RIGID)
    assert [(one.earlier, one.later) for one in result.intervals] == [(0, 1), (1, 2)]
    assert len(result.midway.to_visit) == 3
    logs = [matrix[:3, 3] for matrix in result.midway.to_visit]
    assert np.linalg.norm(np.sum(logs, axis=0)) < 0.5
    assert [len(one.ml) for one in result.volumes] == [3, 3]
    assert result.names == ("2024 (visit 1)", "2025 (visit 2)", "2024 (visit 3)")


def test_without_a_deformable_part_only_labels_and_intensities_are_compared():
    result = follow_up([FIRST, SECOND], RIGID, border_mm=0.3)
    assert bool((result.intervals[0].jacobian.tensor == 1).all())
    assert [one.verdict for one in result.intervals[0].changes if one.lesion] == ["grown", "unchanged", "new"]


def test_a_reference_structure_alone_decides_the_rigid_motion():
    """A bright block moves within the head; what is held still is the rim around it."""
    image = HEAD.numpy()[0].copy()
    image[8:20, 8:20, 8:20] = np.roll(image, (2, 2), (1, 2))[8:20, 8:20, 8:20]
    rim = np.ones(GRID.shape_kji, np.uint8)
    rim[6:22, 6:22, 6:22] = 0
    mask = Labels.from_array(rim, GRID)
    later = Image.from_array(image, GRID)
    held = find_midway([Visit(HEAD, None, mask), Visit(later, None, mask)], RIGID, None, "cpu", Progress())
    free = find_midway([Visit(HEAD), Visit(later)], RIGID, None, "cpu", Progress())
    still, moved = (np.linalg.norm(one.to_visit[1][:3, 3] - one.to_visit[0][:3, 3]) for one in (held, free))
    assert still < 0.3
    assert still < moved


def test_a_reference_structure_is_found_by_name():
    mask = reference_mask(FIRST.image, FIRST.labels, "lobe")
    assert int(mask.tensor.sum()) == int((FIRST.labels.tensor == 1).sum())
    with pytest.raises(StructureNotFound, match="skull"):
        reference_mask(FIRST.image, FIRST.labels, "skull")
    with pytest.raises(StructureNotFound, match="skull"):
        reference_mask(FIRST.image, None, "skull")


def test_the_middle_of_several_motions_does_not_depend_on_the_first():
    motions = [np.eye(4), turn(10, (4.0, 0.0, 0.0)), turn(-4, (0.0, 2.0, 6.0))]
    middle = mean_motion(motions)
    others = [motion @ np.linalg.inv(motions[1]) for motion in motions]
    np.testing.assert_allclose(motions[1] @ middle, mean_motion(others), atol=1e-9)


def test_the_report_is_one_page_with_pictures_and_numbers(compared, tmp_path):
    write_html(compared, tmp_path / "report.html")
    write_pdf(compared, tmp_path / "report.pdf")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 1
    assert "lesions 1" in page
    assert "<td>grown</td>" in page
    assert len(re.findall(rb"/Type /Page\b", (tmp_path / "report.pdf").read_bytes())) == 1


def test_tables_have_a_cell_for_each_row(compared):
    changes, volumes = change_columns(compared.intervals[0]), volume_columns(compared)
    assert {len(cells) for cells in changes.values()} == {5}
    assert volumes["visit"] == ["2024", "2025"]
    assert {len(cells) for cells in volumes.values()} == {2}
    for ml, least, most in zip(
        volumes["lobe (ml)"], volumes["lobe, least (ml)"], volumes["lobe, most (ml)"], strict=True
    ):
        assert least < ml < most


def test_names_in_a_report_are_not_markup(tmp_path):
    named = Image(FIRST.image.tensor, GRID, "<script>$x$")
    result = follow_up([Visit(named), Visit(named)], RIGID)
    write_html(result, tmp_path / "report.html")
    write_pdf(result, tmp_path / "report.pdf")
    assert "<script>" not in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_single_visit_and_visits_of_different_places_are_refused():
    with pytest.raises(InputError, match="1 visit"):
        follow_up([FIRST], RIGID)
    far = Image(HEAD.tensor, GRID.moved(turn(0, (500.0, 0.0, 0.0))))
    still = RIGID.model_copy(update={"linear": "none"})
    with pytest.raises(NoOverlap):
        follow_up([FIRST, Visit(far)], still)


@pytest.mark.parametrize("lengths", [{"spacing_mm": 0.0}, {"spacing_mm": float("nan")}, {"border_mm": -1.0}])
def test_lengths_that_are_none_are_refused(lengths):
    with pytest.raises(InvalidSetting, match="mm"):
        follow_up([FIRST, SECOND], RIGID, **lengths)


def test_following_up_can_be_cancelled():
    with pytest.raises(Cancelled):
        follow_up([FIRST, SECOND], RIGID, progress=Progress(should_cancel=lambda: True))


def test_calibrated_intensities_are_compared_as_they_are():
    """Hounsfield units: a change of all tissue by the same amount is a change."""
    noise = [torch.randn(HEAD.tensor.shape, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2)]
    hounsfield = [
        Visit(Image(HEAD.tensor * 30 - 100 + rise + 5 * own, GRID)) for rise, own in zip((0, 40), noise, strict=True)
    ]
    scaled = [Visit(Image(HEAD.tensor * scale, GRID)) for scale in (1, 3)]
    ct, mr = (follow_up(visits, RIGID).intervals[0].subtraction for visits in (hounsfield, scaled))
    assert float(ct.tensor.median()) > 3
    assert float(mr.tensor.abs().median()) < 0.1


@pytest.mark.skipif(not PATIENT.is_dir(), reason="needs the data of patient01")
def test_a_patient_at_two_visits_is_aligned_as_the_given_affines_do():
    """Raw FLAIR on two oblique grids; the affines that come with the data have up to 0.4 % of scaling."""
    visits = []
    for number in (1, 2):
        image = read_image(PATIENT / f"study{number}_FLAIR.nii.gz")
        visits.append(Visit(resample_image(image, image.geometry.with_spacing((3.0, 3.0, 3.0)))))
    rigid = RIGID.model_copy(update={"linear_voxels": 50_000})
    midway = find_midway(visits, rigid, 4.0, "cpu", Progress())
    given = [read_transform(PATIENT / f"study{number}_FLAIR_to_common_space.txt") for number in (1, 2)]
    brain = read_labels(PATIENT / "common_space_brainmask.nii.gz")
    points = brain.geometry.map_voxels(np.argwhere(brain.numpy() > 0)[::5000, ::-1])
    first, second = (one.map_points(points) for one in given)
    ours = Transform((Affine(midway.to_visit[1] @ np.linalg.inv(midway.to_visit[0])),))
    assert np.linalg.norm(first - second, axis=1).mean() > 5
    assert np.linalg.norm(ours.map_points(first) - second, axis=1).mean() < 1.0
