"""``medsegreg transform``: look at files, convert, chain and invert them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import SimpleITK as sitk
from register_phantoms import make_bend, make_head

from MedSegRegLib.files import read_transform, write_image, write_transform
from MedSegRegLib.geometry import Geometry, flip_ras_lps
from MedSegRegLib.transform import Affine, Transform

pytestmark = pytest.mark.usefixtures("one_thread")

GRID = Geometry.from_spacing((14, 12, 10), (3.0, 3.0, 4.0), (-20.0, -17.0, -18.0))
POINTS = np.random.default_rng(3).uniform(-8, 8, (20, 3))


def tilted(shift: float) -> Affine:
    matrix = np.eye(4)
    matrix[:2, :2] = [[0.96, -0.28], [0.28, 0.96]]
    matrix[:3, 3] = (shift, 2.0, -1.0)
    return Affine(matrix)


LINEAR = Transform((tilted(3.0),))
CHAIN = Transform((make_bend(GRID, largest_mm=2.0), tilted(-2.0)))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    write_transform(LINEAR, tmp_path / "linear.tfm")
    write_transform(CHAIN, tmp_path / "chain.h5")
    write_image(make_head(GRID), tmp_path / "head.nii.gz")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def by_itk(path):
    if path.suffix in (".gz", ".nrrd", ".mha"):
        transform = sitk.DisplacementFieldTransform(sitk.ReadImage(str(path), sitk.sitkVectorFloat64))
    else:
        transform = sitk.ReadTransform(str(path))
    return flip_ras_lps(np.array([transform.TransformPoint(p) for p in flip_ras_lps(POINTS).tolist()]))


@pytest.mark.parametrize("output", ["out.mat", "out.txt", "out.tfm", "out.h5"])
def test_linear_transforms_become_every_linear_form(run, folder, output):
    code, out, err = run("transform", "convert", "linear.tfm", "-o", output)
    assert (code, out.strip()) == (0, f"written: {output}"), err
    np.testing.assert_allclose(by_itk(folder / output), LINEAR.map_points(POINTS), atol=1e-9)
    assert run("transform", "convert", output, "-o", "back.tfm")[0] == 0
    np.testing.assert_allclose(read_transform(folder / "back.tfm").stages[0].matrix, LINEAR.stages[0].matrix)


@pytest.mark.parametrize("output", ["out.h5", "out.nii.gz", "out.nrrd", "out.mha"])
def test_a_chain_becomes_every_dense_form(run, folder, output):
    code, _, err = run("transform", "convert", "chain.h5", "-o", output, "--dense")
    assert code == 0, err
    np.testing.assert_allclose(by_itk(folder / output), CHAIN.map_points(POINTS), atol=1e-3)
    assert len(read_transform(folder / output).stages) == 1


def test_a_dense_field_gets_the_grid_of_the_reference(run, folder):
    assert run("transform", "convert", "linear.tfm", "-o", "out.nii.gz", "--reference", "head.nii.gz")[0] == 0
    assert sitk.ReadImage("out.nii.gz").GetSize() == GRID.size_ijk
    code, _, err = run("transform", "convert", "linear.tfm", "-o", "other.nii.gz")
    assert code == 3
    assert "--reference" in err


def test_a_deformation_is_not_written_as_text(run, folder):
    code, _, err = run("transform", "convert", "chain.h5", "-o", "out.mat")
    assert code == 3
    assert "no room" in err
    assert not (folder / "out.mat").exists()


def test_files_are_composed_in_the_order_in_which_a_point_meets_them(run, folder):
    assert run("transform", "compose", "chain.h5", "linear.tfm", "-o", "both.h5")[0] == 0
    np.testing.assert_allclose(by_itk(folder / "both.h5"), LINEAR.map_points(CHAIN.map_points(POINTS)), atol=1e-5)


def test_the_inverse_leads_back(run, folder):
    assert run("transform", "invert", "chain.h5", "-o", "inverse.h5")[0] == 0
    back = read_transform(folder / "inverse.h5").map_points(CHAIN.map_points(POINTS))
    assert np.linalg.norm(back - POINTS, axis=1).max() < 0.1
    code, _, err = run("transform", "invert", "chain.h5", "-o", "inverse.h5")
    assert code == 3
    assert "exists already" in err


def test_check_says_what_moves_onto_what_and_all_numbers(run, folder):
    code, out, err = run("transform", "check", "chain.h5")
    assert code == 0, err
    assert "Takes points of the fixed image to the moving image" in out
    assert "stage 2" in out
    code, out, _ = run("transform", "check", "chain.h5", "--fixed", "head.nii.gz", "--moving", "head.nii.gz", "--json")
    told = json.loads(out)
    assert told["points_and_images_mm"] < 0.1
    assert told["inverse"]["mean_mm"] < 0.1
    assert told["folding"]["voxels_any_corner"] == 0
    assert told["support"]["covered"] == 1.0
    assert told["direction"]["without"] > told["direction"]["through"]
    assert [finding["level"] for finding in told["findings"]] == ["warn"]


def test_check_reads_fields_and_a_given_inverse(run, folder):
    run("transform", "convert", "chain.h5", "-o", "field.nii.gz", "--dense")
    run("transform", "invert", "chain.h5", "-o", "inverse.h5")
    code, out, err = run("transform", "check", "field.nii.gz", "--inverse", "inverse.h5", "--json")
    assert code == 0, err
    told = json.loads(out)
    assert told["points_and_images_mm"] < 0.01
    assert told["inverse"]["mean_mm"] < 0.1
