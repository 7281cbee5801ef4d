"""A template of bent heads: the shape between them, sharper than their affine mean; as a function and as a command."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from register_phantoms import bent, distance_mm, make_bend, make_head, tissue_points

from MedSegRegLib.errors import Cancelled, InputError
from MedSegRegLib.files import read_image, read_labels, read_transform, write_image, write_labels
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Image, Labels, Structure
from MedSegRegLib.progress import Progress
from MedSegRegLib.register.filters import filter_axes, gaussian_axes
from MedSegRegLib.register.settings import DeformableSettings, RegistrationSettings
from MedSegRegLib.resample import resample_labels
from MedSegRegLib.transform import Affine, Displacement, Transform
from MedSegRegLib.workflows.mean_shape import mean_image, mean_matrix, mean_shape, normalised
from MedSegRegLib.workflows.template import build_template

pytestmark = pytest.mark.usefixtures("one_thread")

GRID = Geometry.from_spacing((20, 20, 20), (3.0, 3.0, 3.0), (-28.5, -28.5, -28.5))
FAST = RegistrationSettings(
    linear="none", deformable=DeformableSettings(coarsening=(2.0, 1.0), iterations=(20, 15), stiffness=0.7)
)
ROUGH = make_head(GRID)
HEAD = Image(filter_axes(ROUGH.tensor, gaussian_axes(GRID, 3.5, ROUGH.tensor)), GRID, "head")
LEFT = make_bend(GRID, largest_mm=6.0, sigma_mm=9.0)
BENDS = (LEFT, Displacement(-LEFT.vectors_ras_mm, GRID))


def ball() -> Labels:
    k, j, i = np.indices(GRID.shape_kji)
    inside = np.linalg.norm(GRID.map_voxels(np.stack((i, j, k), axis=-1)) - (-4.0, 3.0, 2.0), axis=-1) < 9
    return Labels.from_array(np.where(inside, 4, 0), GRID, (Structure(4, "ball"),))


STUDIES = [bent(HEAD, bend, noise=0.02) for bend in BENDS]
DRAWN = [resample_labels(ball(), GRID, Transform((bend,))) for bend in BENDS]


@pytest.fixture(scope="module")
def template():
    return build_template(STUDIES, DRAWN, settings=FAST, rounds=2)


def test_the_template_has_the_mean_shape(template):
    """Two studies that are bent in opposite ways: the template lies between them."""
    points = tissue_points(HEAD)
    taken = [way.map_points(points) for way in template.transforms]
    apart = np.linalg.norm(taken[0] - taken[1], axis=1).mean()
    off_centre = np.linalg.norm(np.mean(taken, axis=0) - points, axis=1).mean()
    assert apart > 1.5
    assert off_centre < 0.2 * apart


def test_the_inverses_lead_back(template):
    points = tissue_points(HEAD)
    for way, back in zip(template.transforms, template.inverses, strict=True):
        assert np.linalg.norm(back.map_points(way.map_points(points)) - points, axis=1).mean() < 0.3


def test_the_template_is_sharper_than_the_affine_mean(template):
    affine, *later = template.rounds
    assert (affine.number, affine.change) == (0, None)
    assert affine.sharpness < later[0].sharpness
    assert later[-1].change < later[0].change


def test_the_transforms_are_those_that_bent_the_studies(template):
    """A study shows at x what the head shows at x + bend(x): the way from the head to it is the inverse."""
    points = tissue_points(HEAD)
    for way, opposite in zip(template.transforms, BENDS[::-1], strict=True):
        bend = Transform((opposite,))
        assert distance_mm(way, bend, points).mean() < 0.6 * distance_mm(bend, Transform(), points).mean()


def test_labels_are_averaged(template):
    one, other = template.labels.tensor == 4, ball().tensor == 4
    moved = resample_labels(template.labels, GRID).tensor == 4
    assert float(2 * (moved & other).sum() / (moved.sum() + other.sum())) > 0.8
    assert template.labels.structures[0].name == "ball"
    share = template.probabilities
    assert share.channel_names == ("ball",)
    assert set(share.tensor.unique().tolist()) == {0.0, 0.5, 1.0}
    assert bool((share.tensor[0][one] >= 0.5).all())


def test_the_grid_covers_the_median_field_of_view():
    """Studies that are shifted and cropped: the template lies in the middle."""
    shift = np.eye(4)
    shift[:3, 3] = 30.0, 0.0, 0.0
    far = Image(HEAD.tensor, GRID.moved(shift), "far")
    result = build_template([HEAD, far], settings=FAST.model_copy(update={"linear": "rigid"}), rounds=1)
    np.testing.assert_allclose(result.image.geometry.centre_ras, GRID.centre_ras + np.array([15.0, 0, 0]), atol=1.0)
    assert result.labels is None
    assert result.probabilities is None
    assert float(result.mask.tensor.float().mean()) > 0.9


def test_the_mean_shape_of_opposite_motions_is_none():
    grow, shrink = np.diag([1.25, 1.25, 1.25, 1.0]), np.diag([0.8, 0.8, 0.8, 1.0])
    pair = [Transform((bend, Affine(matrix))) for bend, matrix in zip(BENDS, (grow, shrink), strict=True)]
    points = tissue_points(HEAD)
    np.testing.assert_allclose(mean_shape(pair).map_points(points), points, atol=1e-5)
    half = mean_shape([pair[0], Transform((Affine(shrink),))])
    expected = Transform((Displacement(LEFT.vectors_ras_mm / 2, GRID),))
    np.testing.assert_allclose(half.map_points(points), expected.map_points(points), atol=1e-5)


def test_matrices_are_averaged_by_their_logarithms():
    turn = np.eye(4)
    turn[:2, :2] = (0.8, -0.6), (0.6, 0.8)
    half = mean_matrix([turn, np.eye(4)])
    np.testing.assert_allclose(half @ half, turn, atol=1e-12)


def test_single_outliers_do_not_count_and_missing_parts_are_left_out():
    still = Transform()
    values = (1.0, 2.0, 3.0, 4.0, 500.0)
    studies = [Image(torch.full((1, *GRID.shape_kji), value), GRID) for value in values]
    image, count = mean_image(studies, [still] * 5, GRID)
    assert float(image.tensor.mean()) == 3.0
    part = Image(studies[1].tensor[..., :10], GRID.window((0, 0, 0), (10, 20, 20)))
    image, count = mean_image([studies[0], part], [still] * 2, GRID)
    assert count[0, 0].tolist() == [2] * 10 + [1] * 10
    assert image.tensor[0, 0, 0].tolist() == [1.5] * 10 + [1.0] * 10


def test_brightness_of_the_scanner_is_taken_out():
    brighter = Image(HEAD.tensor * 40 + 100, GRID)
    torch.testing.assert_close(normalised(brighter).tensor, normalised(HEAD).tensor, atol=1.0, rtol=0)


def test_refuses_what_has_no_mean():
    with pytest.raises(InputError, match="There are 1 studies"):
        build_template([HEAD])
    with pytest.raises(InputError, match="2 studies and 1 label maps"):
        build_template(STUDIES, DRAWN[:1])
    with pytest.raises(Cancelled):
        build_template(STUDIES, settings=FAST, progress=Progress(should_cancel=lambda: True))


def test_the_command_leaves_template_labels_and_transforms(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number, (study, drawn) in enumerate(zip(STUDIES, DRAWN, strict=True)):
        write_image(study, tmp_path / f"study{number}.nii.gz")
        write_labels(drawn, tmp_path / f"drawn{number}.seg.nrrd")
    (tmp_path / "fast.json").write_text(FAST.model_dump_json())
    command = ("template", "study0.nii.gz", "study1.nii.gz", "--settings", "fast.json", "--rounds", "1", "-o", "out")
    labels = ("-l", "drawn0.seg.nrrd", "-l", "drawn1.seg.nrrd")
    code, out, err = run(*command, *labels, "--json")
    assert code == 0, err
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [one["number"] for one in json.loads(out)["rounds"]] == [one["number"] for one in report["rounds"]] == [0, 1]
    image = read_image(tmp_path / "out" / "template.nii.gz")
    assert read_labels(tmp_path / "out" / "labels.seg.nrrd").geometry.same_grid(image.geometry)
    assert float(read_image(tmp_path / "out" / "probability_4.nii.gz").tensor.max()) == 1.0
    way, back = (read_transform(tmp_path / "out" / "001" / f"{name}.h5") for name in ("transform", "inverse"))
    points = tissue_points(HEAD)
    assert np.linalg.norm(back.map_points(way.map_points(points)) - points, axis=1).mean() < 0.3
    code, _, err = run(*command)
    assert code == 3
    assert "template.nii.gz" in err
