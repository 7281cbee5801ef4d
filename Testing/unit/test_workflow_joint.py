"""Two phantoms with labels: the labels help to register them, contradictions between them are told and fused."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from register_phantoms import bent, distance_mm, make_bend, make_head, tissue_points
from scipy import ndimage

from MedSegRegLib.errors import Cancelled, InputError
from MedSegRegLib.files import read_labels, read_transform, write_image, write_labels
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Image, Labels, Structure
from MedSegRegLib.progress import Progress
from MedSegRegLib.register.settings import DeformableSettings, RegistrationSettings
from MedSegRegLib.resample import resample_labels
from MedSegRegLib.transform import Transform
from MedSegRegLib.workflows import joint as joint_module
from MedSegRegLib.workflows.drawn import Drawn, draw_by_model
from MedSegRegLib.workflows.joint import refine_jointly
from MedSegRegLib.workflows.joint_labels import agreement_columns, compare, disagreement, fuse, signed_distance
from small_training import ball as ball_case

pytestmark = pytest.mark.usefixtures("one_thread")

GRID = Geometry.from_spacing((20, 20, 20), (3.0, 3.0, 3.0), (-28.5, -28.5, -28.5))
FAST = RegistrationSettings(
    linear="none", deformable=DeformableSettings(coarsening=(1.0,), iterations=(12,), stiffness=1.0)
)
HEAD = make_head(GRID)
BEND = make_bend(GRID, largest_mm=6.0, sigma_mm=9.0)
TRUTH = Transform((BEND,))
NAMES = (Structure(2, "left"), Structure(5, "right"))


def balls(shift_mm: float = 0.0) -> Labels:
    k, j, i = np.indices(GRID.shape_kji)
    ras = GRID.map_voxels(np.stack((i, j, k), axis=-1))
    array = np.zeros(GRID.shape_kji, np.uint8)
    for value, centre in {2: (-9.0, 2.0, 0.0), 5: (9.0 + shift_mm, -3.0, 4.0)}.items():
        array[np.linalg.norm(ras - centre, axis=-1) < 8] = value
    return Labels.from_array(array, GRID, NAMES, "balls")


def box(first: int, last: int, value: int = 2) -> Labels:
    array = np.zeros(GRID.shape_kji, np.uint8)
    array[5:15, 5:15, first:last] = value
    return Labels.from_array(array, GRID, NAMES)


MOVING = Drawn(HEAD, balls())
FIXED = Drawn(bent(HEAD, BEND), resample_labels(balls(), GRID, TRUTH))


@pytest.fixture(scope="module")
def joint():
    return refine_jointly(FIXED, MOVING, settings=FAST, rounds=1)


def test_labels_bring_the_studies_nearer_to_the_truth(joint):
    """By the images alone the few iterations do not suffice; the labels show the way."""
    alone, helped = joint.rounds
    assert joint.kept == 1
    assert helped.dice > alone.dice + 0.02
    assert helped.score > alone.score - joint_module.TOLERATED
    points = tissue_points(HEAD)
    inside = np.array([point for point in points if np.linalg.norm(point - (-9.0, 2.0, 0.0)) < 10])
    assert distance_mm(joint.transform, TRUTH, inside).mean() < distance_mm(Transform(), TRUTH, inside).mean()
    assert distance_mm(joint.transform.then(joint.inverse), Transform(), points).mean() < 0.3


def test_each_study_gets_carried_and_proposed_labels_and_a_map_on_its_grid(joint):
    for study, drawn in ((joint.fixed, FIXED), (joint.moving, MOVING)):
        assert torch.equal(study.own.tensor, drawn.labels.tensor)
        for labels in (study.carried, study.fused):
            assert labels.geometry.same_grid(GRID)
            assert [structure.name for structure in labels.structures] == ["left", "right"]
        agree = study.own.tensor == study.carried.tensor
        assert torch.equal(study.fused.tensor[agree], study.own.tensor[agree])
        assert bool((study.disagreement.tensor[0][agree] == 0).all())
        assert {row.name for row in study.structures} == {"left", "right"}
        assert all(0 < row.carried_confidence < row.own_confidence for row in study.structures)
    assert "better" in joint.sentence


def test_a_structure_that_contradicts_is_found(monkeypatch):
    """The right ball of the moving study is drawn at a wrong place."""
    wrong = replace(MOVING, labels=balls(shift_mm=-7.0))
    result = refine_jointly(FIXED, wrong, settings=FAST, rounds=1)
    assert [row.name for row in result.fixed.structures] == ["right", "left"]
    assert result.fixed.structures[0].dice < result.fixed.structures[1].dice - 0.1
    assert float(result.fixed.disagreement.tensor.max()) >= 3.0


@pytest.mark.parametrize(
    ("bar", "height", "said"),
    [("NOT_BETTER", 1.0, "The labels do not help"), ("TOLERATED", -1.0, "The images contradict the labels")],
)
def test_a_round_that_does_not_help_or_is_contradicted_by_the_images_is_dropped(monkeypatch, bar, height, said):
    monkeypatch.setattr(joint_module, bar, height)
    result = refine_jointly(FIXED, MOVING, settings=FAST, rounds=3)
    assert [one.number for one in result.rounds] == [0, 1]
    assert result.kept == 0
    assert result.sentence.startswith(said)
    assert result.registration is result.alone


def test_the_fused_border_lies_between_by_weight():
    """Two boxes that end at 11 and at 15."""
    own, carried = box(4, 11), box(4, 15)

    def end(own_weight: float, carried_weight: float) -> int:
        fused = fuse(own, carried, {2: own_weight}, {2: carried_weight})
        return int(np.nonzero(fused.numpy()[10, 10])[0].max()) + 1

    assert end(1.0, 0.0) == 11
    assert end(1.0, 1.0) == 13
    assert end(0.0, 1.0) == 15
    assert end(0.9, 0.3) == 12


def test_neighbours_do_not_overlap_and_empty_ones_give_way():
    own = Labels.from_array(box(2, 10).numpy() + box(10, 18, 5).numpy(), GRID, NAMES)
    carried = Labels.from_array(box(2, 14).numpy() + box(14, 18, 5).numpy(), GRID, NAMES)
    fused = fuse(own, carried, {2: 1.0, 5: 1.0}, {2: 1.0, 5: 1.0})
    assert fused.numpy()[10, 10].tolist() == [0] * 2 + [2] * 10 + [5] * 6 + [0] * 2
    nothing = Labels.from_array(np.zeros(GRID.shape_kji), GRID)
    kept = fuse(own, nothing, {2: 0.9, 5: 0.9}, {2: 0.1, 5: 0.1})
    assert torch.equal(kept.tensor, own.tensor)


def test_signed_distances_are_those_of_scipy_and_end():
    mask = box(5, 15).numpy() > 0
    depth = signed_distance(mask, GRID)
    inwards = ndimage.distance_transform_edt(mask, sampling=3.0)
    np.testing.assert_allclose(depth[mask], np.minimum(inwards[mask] - 1.5, 12.0))
    assert depth.min() == -12.0
    assert (signed_distance(np.zeros_like(mask), GRID) == -12.0).all()


def test_disagreement_is_deep_where_much_of_a_structure_is_in_question():
    deep = disagreement(box(4, 11), box(4, 15)).tensor[0]
    assert float(deep[:, :, :11].max()) == 0.0
    assert float(deep.max()) == 6.0
    (row,) = compare(box(4, 11), box(4, 15), box(4, 13), {2: 0.9}, {2: 0.6})
    assert row.dice == pytest.approx(14 / 18)
    assert (row.own_ml, row.carried_ml, row.fused_ml) == pytest.approx((18.9, 29.7, 24.3))
    (lost,) = compare(box(4, 11), Labels.from_array(np.zeros(GRID.shape_kji), GRID), box(4, 11), {2: 0.9}, {})
    assert (lost.dice, lost.distance_mm, lost.carried_ml) == (0.0, None, 0.0)
    columns = agreement_columns((row, lost))
    assert {len(cells) for cells in columns.values()} == {2}


def test_refuses_what_cannot_help():
    other = Labels.from_array(np.where(balls().numpy() > 0, 9, 0), GRID)
    with pytest.raises(InputError, match="no value in common"):
        refine_jointly(FIXED, replace(MOVING, labels=other))
    with pytest.raises(InputError, match="no deformation"):
        refine_jointly(FIXED, MOVING, settings=FAST.model_copy(update={"deformable": None}))
    with pytest.raises(Cancelled):
        refine_jointly(FIXED, MOVING, settings=FAST, progress=Progress(should_cancel=lambda: True))


def test_a_model_draws_both_studies_and_says_how_sure_it_is(a_model_folder):
    image = Image.from_array(ball_case(3)[0], Geometry.from_spacing((24, 24, 24)), "ball")
    drawn = draw_by_model(image, a_model_folder, device="cpu")
    assert drawn.labels.geometry.same_grid(image.geometry)
    present = set(drawn.labels.tensor.unique().tolist()) - {0}
    assert set(drawn.confidence) == present
    assert all(0 <= sure <= 1 for sure in drawn.confidence.values())


def test_the_command_leaves_labels_maps_and_tables(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, drawn in (("fixed", FIXED), ("moving", MOVING)):
        write_image(drawn.image, tmp_path / f"{name}.nii.gz")
        write_labels(drawn.labels, tmp_path / f"{name}.seg.nrrd")
    (tmp_path / "fast.json").write_text(FAST.model_dump_json())
    command = ("joint", "fixed.nii.gz", "moving.nii.gz", "--settings", "fast.json", "--rounds", "1", "-o", "out")
    labels = ("--fixed-labels", "fixed.seg.nrrd", "--moving-labels", "moving.seg.nrrd")
    code, out, err = run(*command, *labels, "--json")
    assert code == 0, err
    told = json.loads(out)
    assert told["sentence"] == json.loads((tmp_path / "out" / "report.json").read_text())["sentence"]
    assert [one["number"] for one in told["rounds"]] == [0, 1]
    assert read_labels(tmp_path / "out" / "moving_fused.seg.nrrd").structures[0].name == "left"
    with (tmp_path / "out" / "fixed_agreement.csv").open() as file:
        assert [row["structure"] for row in csv.DictReader(file)] == [
            row["name"] for row in told["structures"]["fixed"]
        ]
    way, back = (read_transform(tmp_path / "out" / f"{name}.h5") for name in ("transform", "inverse"))
    assert distance_mm(way.then(back), Transform(), tissue_points(HEAD)).mean() < 0.3
    code, _, err = run(*command, *labels)
    assert code == 3
    assert "transform.h5" in err
    code, _, err = run(*command[:-1], "elsewhere", *labels[:2])
    assert code == 3
    assert "or a model" in err
