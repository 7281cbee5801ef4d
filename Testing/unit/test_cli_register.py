"""The command ``register`` as a user meets it: what it takes, what it leaves, what it refuses."""

from __future__ import annotations

import json
import shutil
from dataclasses import fields

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from register_phantoms import bent, make_bend, make_head, tissue_points

from MedSegRegLib.files import read_image, read_transform, write_image, write_labels
from MedSegRegLib.image import Labels, Structure
from MedSegRegLib.register.presets import PRESETS, STIFFNESSES
from MedSegRegLib.register.quality import Quality
from MedSegRegLib.register.settings import DeformableSettings, RegistrationSettings
from MedSegRegLib.resample import resample_labels
from MedSegRegLib.transform import Transform

FAST = RegistrationSettings(
    linear="none", deformable=DeformableSettings(coarsening=(4.0, 2.0), iterations=(10, 5), stiffness=1.0)
)
LINEAR_PART = np.array([[1.0, 0, 0, 3], [0, 1, 0, -2], [0, 0, 1, 1], [0, 0, 0, 1]])


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder with two images, their labels, masks, points and settings."""
    folder = tmp_path_factory.mktemp("prepared")
    head, bend = make_head(), Transform((make_bend(),))
    grid = head.geometry
    write_image(bent(head, bend.stages[0]), folder / "fixed.nii.gz")
    write_image(head, folder / "moving.nii.gz")
    core = Labels((head.tensor[0] > 6).byte(), grid, (Structure(1, "dense [core]"),))
    whole, cube = torch.ones(grid.shape_kji, dtype=torch.uint8), torch.zeros(grid.shape_kji, dtype=torch.uint8)
    cube[18:22, 18:22, 18:22] = 1
    for name, labels in {
        "moving.seg.nrrd": core,
        "fixed.seg.nrrd": resample_labels(core, grid, bend),
        "sevens.nii.gz": Labels(7 * core.tensor, grid),
        "whole.nii.gz": Labels(whole, grid),
        "cube.nii.gz": Labels(cube, grid),
        "small.nii.gz": Labels(whole[:8, :8, :8], grid.window((0, 0, 0), (8, 8, 8))),
    }.items():
        write_labels(labels, folder / name)
    points = tissue_points(head, 1501)[:6]
    for name, places in {"fixed": points, "moving": bend.map_points(points), "fewer": points[:3]}.items():
        np.savetxt(folder / f"{name}.csv", places, delimiter=",")
    for name, labels in (("named", "abcdef"), ("shuffled", "abcdfe")):
        rows = [f"{label},{r},{a},{s}" for label, (r, a, s) in zip(labels, points.tolist(), strict=True)]
        (folder / f"{name}.csv").write_text("\n".join(["label,r,a,s", *rows]))
    (folder / "fast.json").write_text(FAST.model_dump_json())
    (folder / "misspelt.json").write_text('{"linear": "none", "deformable": {"similarty": "mind"}}')
    (folder / "no-transform.h5").write_bytes(b"no transform")
    return folder


@pytest.fixture
def case(prepared, tmp_path, monkeypatch):
    """A copy of it, to work in."""
    folder = shutil.copytree(prepared, tmp_path / "case")
    monkeypatch.chdir(folder)
    return folder


def test_writes_every_result_and_all_numbers(run, case):
    code, out, err = run(
        *("register", "fixed.nii.gz", "moving.nii.gz", "--settings", "fast.json", "--json", "-o", "t.h5"),
        *("--inverse", "inverse.h5", "--one-field", "field.nii.gz", "--moved", "moved.nii.gz"),
        *("--quality", "quality.json", "--fixed-labels", "fixed.seg.nrrd", "--moving-labels", "moving.seg.nrrd"),
        *("--fixed-points", "fixed.csv", "--moving-points", "moving.csv", "--rigid-regions", "cube.nii.gz"),
        *("--fixed-mask", "whole.nii.gz", "--moving-mask", "whole.nii.gz", "--ignore", "cube.nii.gz"),
    )
    assert code == 0, err
    told = json.loads(out)
    assert told.pop("written") == ["t.h5", "inverse.h5", "field.nii.gz", "moved.nii.gz", "quality.json"]
    assert json.loads((case / "quality.json").read_text()) == told
    assert not list(case.glob(".writing*"))
    quality = told["quality"]
    assert set(quality) == {field.name for field in fields(Quality)}
    assert quality["after"] > quality["before"]
    assert quality["landmarks_mm"]["after"] < 0.5 < quality["landmarks_mm"]["before"]
    (dice,) = quality["dice"]
    assert (dice["value"], dice["name"]) == (1, "dense [core]")
    assert dice["after"] > dice["before"] + 0.02
    assert RegistrationSettings.model_validate(told["settings"]) == FAST
    _results_agree_in_simpleitk()


def _results_agree_in_simpleitk():
    fixed, moving = (sitk.ReadImage(f"{name}.nii.gz", sitk.sitkFloat32) for name in ("fixed", "moving"))
    chain, back = sitk.ReadTransform("t.h5"), sitk.ReadTransform("inverse.h5")
    field = sitk.DisplacementFieldTransform(sitk.ReadImage("field.nii.gz", sitk.sitkVectorFloat64))
    for index in ((8, 20, 20), (20, 20, 20), (30, 14, 24)):
        point = fixed.TransformIndexToPhysicalPoint(index)
        assert np.allclose(field.TransformPoint(point), chain.TransformPoint(point), atol=1e-3)
        assert np.allclose(back.TransformPoint(chain.TransformPoint(point)), point, atol=0.15)  # a tenth of a voxel
    resampled = sitk.GetArrayFromImage(sitk.Resample(moving, fixed, chain, sitk.sitkLinear))
    assert np.abs(resampled - read_image("moved.nii.gz").numpy()).max() < 0.05


def test_shows_a_table_and_a_sentence(run, case):
    code, out, _ = run(
        *("register", "fixed.nii.gz", "moving.nii.gz", "--settings", "fast.json", "-o", "t.h5"),
        *("--fixed-labels", "fixed.seg.nrrd", "--moving-labels", "moving.seg.nrrd"),
    )
    assert code == 0
    for text in ("similarity (mi)", "Dice, dense [core]", "any corner", "SDlogJ", "inverse error from moving"):
        assert text in out
    assert "Moves moving onto fixed" in out
    assert "written: t.h5" in out


@pytest.mark.parametrize(("asked", "used"), [*STIFFNESSES.items(), ("auto", "auto"), ("1.25", 1.25)])
def test_takes_a_stiffness(run, case, asked, used):
    few = FAST.model_copy(update={"deformable": FAST.deformable.model_copy(update={"iterations": (1, 1)})})
    (case / "few.json").write_text(few.model_dump_json())
    arguments = ("register", "fixed.nii.gz", "moving.nii.gz", "--settings", "few.json", "--json", "-o", "t.h5")
    code, out, _ = run(*arguments, "--stiffness", asked)
    assert code == 0
    assert json.loads(out)["settings"]["deformable"]["stiffness"] == used


def test_begins_with_a_linear_or_a_dense_transform(run, case):
    arguments = ("register", "fixed.nii.gz", "moving.nii.gz", "--json", "--settings")
    linear = FAST.model_copy(update={"deformable": None})
    (case / "linear.json").write_text(linear.model_dump_json())
    lps = sitk.AffineTransform(3)
    lps.SetTranslation((-3.0, 2.0, 1.0))
    sitk.WriteTransform(lps, "start.tfm")
    assert (
        run(*arguments, "linear.json", "--initial", "start.tfm", "-o", "linear.tfm", "--one-field", "start.nrrd")[0]
        == 0
    )
    np.testing.assert_allclose(read_transform("linear.tfm").matrix, LINEAR_PART, atol=1e-6)
    code, out, _ = run(*arguments, "fast.json", "--initial", "start.nrrd", "-o", "dense.h5")
    assert code == 0
    assert "initial transform was kept" in json.loads(out)["findings"][0]["message"]
    centre = read_image("fixed.nii.gz").geometry.centre_ras[None]
    moved = read_transform("dense.h5").map_points(centre) - centre
    assert np.linalg.norm(moved) > 1  # it went on from the shift of 3.7 mm, and has not yet come all the way back


def test_lists_the_presets_and_prints_their_settings(run):
    code, out, _ = run("register", "--presets")
    assert code == 0
    assert all(name in out for name in PRESETS)
    for name, settings in PRESETS.items():
        code, out, _ = run("register", "--print-settings", name)
        assert code == 0
        assert RegistrationSettings.model_validate_json(out) == settings


IMAGES = ("fixed.nii.gz", "moving.nii.gz")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("--preset rigid --settings fast.json", "one of them"),
        ("--settings misspelt.json", "similarty"),
        ("--settings absent.json", "absent.json"),
        ("--stiffness hard", "soft, medium, stiff, auto"),
        ("--stiffness 40", "0.1 to 10"),
        ("--stiffness nan", "0.1 to 10"),
        ("--stiffness soft --preset rigid", "linear"),
        ("--quality out.txt", ".json"),
        ("--one-field field.h5", ".nii.gz"),
        ("--moved same.nii.gz --one-field ./same.nii.gz", "two results"),
        ("--inverse inverse.tfm", "no room"),
        ("--initial no-transform.h5", "no-transform.h5"),
        ("--fixed-points fixed.csv", "only the fixed points"),
        ("--fixed-points fixed.csv --moving-points fewer.csv", "6 fixed and 3 moving"),
        ("--fixed-points named.csv --moving-points shuffled.csv", "another order"),
        ("--fixed-points fast.json --moving-points fixed.csv", "fast.json"),
        ("--fixed-labels fixed.seg.nrrd", "only the fixed labels"),
        ("--fixed-labels fixed.seg.nrrd --moving-labels sevens.nii.gz", "no value in common"),
        ("--rigid-regions cube.nii.gz --preset followup", "composition"),
        ("--rigid-regions small.nii.gz", "grid"),
        ("--ignore small.nii.gz", "grid"),
        ("--fixed-mask small.nii.gz", "grid"),
        ("--device tpu", "cuda"),
    ],
)
def test_refuses_with_the_reason_and_leaves_nothing(run, case, arguments, says):
    before = sorted(case.iterdir())
    code, out, err = run("register", *IMAGES, "-o", "out.h5", *arguments.split())
    text = " ".join(err.split()).lower()
    assert code == 3, out + err
    assert says in text
    assert "to do:" in text
    assert "traceback" not in text
    assert sorted(case.iterdir()) == before


def test_refuses_a_deformable_transform_as_text_before_it_computes(run, case):
    code, _, err = run("register", "absent.nii.gz", "absent.nii.gz", "-o", "out.tfm")
    assert code == 3
    assert "deformable" in err


def test_keeps_existing_results_unless_told(run, case):
    (case / "quality.json").write_text("precious")
    arguments = ("register", *IMAGES, "--settings", "fast.json", "-o", "t.h5", "--quality", "quality.json")
    assert run(*arguments)[0] == 3
    assert (case / "quality.json").read_text() == "precious"
    assert not (case / "t.h5").exists()
    assert run(*arguments, "--overwrite")[0] == 0
    assert json.loads((case / "quality.json").read_text())["seconds"] > 0
