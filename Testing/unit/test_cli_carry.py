"""``medsegreg carry``: files in, a folder or a scene out."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from register_phantoms import make_head

from MedSegRegLib.files import read_labels, read_points, read_transform, write_image, write_labels, write_points
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Image, Labels, Structure
from MedSegRegLib.register.settings import RegistrationSettings
from MedSegRegLib.resample import resample_image
from MedSegRegLib.transform import Affine, Transform

pytestmark = pytest.mark.usefixtures("one_thread")

GRID = Geometry.from_spacing((20, 20, 20), (3.0, 3.0, 3.0), (-28.5, -28.5, -28.5))
MOVED = np.array([4.0, -3.0, 2.0])
FAST = RegistrationSettings(linear="rigid", linear_search=False, linear_voxels=8000, deformable=None)
CENTRE = np.array([-1.5, 3.0, 0.0])
POINTS = np.array([[5.0, 2.0, -3.0], [-6.0, 4.0, 1.0]])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A head with two points and one structure, and the same head moved by MOVED."""
    head = make_head(GRID)
    shift = np.eye(4)
    shift[:3, 3] = -MOVED
    moved = resample_image(head, GRID, Transform((Affine(shift),)))
    array = np.zeros(GRID.shape_kji, np.uint8)
    array[7:13, 8:14, 6:13] = 1
    write_image(head, tmp_path / "before.nii.gz")
    write_image(Image(moved.tensor, GRID, "after"), tmp_path / "after.nii.gz")
    write_labels(Labels.from_array(array, GRID, (Structure(1, "lobe"),)), tmp_path / "drawn.seg.nrrd")
    write_points(["AC", "PC"], POINTS, tmp_path / "points.mrk.json")
    (tmp_path / "fast.json").write_text(FAST.model_dump_json())
    monkeypatch.chdir(tmp_path)
    return tmp_path


COMMAND = ("carry", "before.nii.gz", "after.nii.gz", "--settings", "fast.json", "--labels", "drawn.seg.nrrd")


def test_writes_labels_points_transforms_and_review_into_a_folder(run, folder):
    code, out, err = run(*COMMAND, "--points", "points.mrk.json", "-o", "result", "--json")
    assert code == 0, err
    told = json.loads(out)
    names, points = read_points(folder / "result" / "points.mrk.json")
    assert names == ["AC", "PC"]
    np.testing.assert_allclose(points, POINTS + MOVED, atol=0.5)
    assert [point["label"] for point in told["points"]] == names
    labels = read_labels(folder / "result" / "labels.seg.nrrd")
    assert labels.structures[0].name == "lobe"
    assert labels.geometry.same_grid(GRID)
    k, j, i = (axis.mean() for axis in np.nonzero(labels.numpy()))
    np.testing.assert_allclose(GRID.map_voxels([i, j, k]), MOVED + CENTRE, atol=1.0)
    forward, back = (read_transform(folder / "result" / name) for name in ("transform.h5", "inverse.h5"))
    np.testing.assert_allclose(forward.map_points(POINTS + MOVED), POINTS, atol=0.5)
    np.testing.assert_allclose(back.map_points(POINTS), POINTS + MOVED, atol=0.5)
    with (folder / "result" / "review.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["structure"] == "lobe"
    assert float(row["confidence"]) == pytest.approx(told["review"][0]["confidence"])
    report = json.loads((folder / "result" / "report.json").read_text())
    assert report["sentence"] == told["sentence"]


def test_writes_a_scene(run, folder):
    from MedSegRegLib.mrml.headless import load_scene  # noqa: PLC0415 - the other tests need no slicer-core

    code, out, err = run(*COMMAND, "--points", "points.mrk.json", "-o", "result.mrb")
    assert code == 0, err
    assert "structure, least certain first" in out
    scene = load_scene(folder / "result.mrb")
    assert scene.GetFirstNodeByName("drawn on after") is not None
    points = scene.GetFirstNodeByName("points on after")
    np.testing.assert_allclose(points.GetNthControlPointPositionWorld(1), POINTS[1] + MOVED, atol=0.5)
    assert scene.GetFirstNodeByName("review").GetNumberOfRows() == 1


def test_says_before_any_work_that_a_result_is_in_the_way(run, folder):
    (folder / "result").mkdir()
    (folder / "result" / "report.json").write_text("{}")
    code, _, err = run(*COMMAND, "-o", "result")
    assert code == 3
    assert "report.json" in err
    assert [path.name for path in (folder / "result").iterdir()] == ["report.json"]
    code, _, err = run(*COMMAND, "-o", "nowhere/result")
    assert code == 3
    assert "missing" in err


def test_an_unknown_preset_is_refused(run, folder):
    code, _, err = run(*COMMAND[:3], "--preset", "magic", "-o", "result")
    assert code == 3
    assert "magic" in err
