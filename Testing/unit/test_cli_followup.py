"""``medsegreg followup``: files of visits in, a folder or a scene out."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from register_phantoms import make_head

from MedSegRegLib.files import read_image, read_transform, write_image, write_labels
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Image, Labels, Structure
from MedSegRegLib.register.settings import RegistrationSettings
from MedSegRegLib.resample import resample_image
from MedSegRegLib.transform import Affine, Transform

pytestmark = pytest.mark.usefixtures("one_thread")

GRID = Geometry.from_spacing((20, 20, 20), (3.0, 3.0, 3.0), (-28.5, -28.5, -28.5))
MOVED = np.array([4.0, -3.0, 2.0])
FAST = RegistrationSettings(linear="rigid", linear_search=False, linear_voxels=6000, deformable=None)
POINTS = np.array([[5.0, 2.0, -3.0], [-6.0, 4.0, 1.0]])
COMMAND = (
    "followup",
    "a.nii.gz",
    "b.nii.gz",
    "--settings",
    "fast.json",
    "--labels",
    "a.seg.nrrd",
    "--labels",
    "b.seg.nrrd",
)
VALUES = {"a": (1, 2), "b": (2, 1)}  # of lesion and lobe: exchanged at the second visit


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A head with a lobe and a lesion, which has grown at the second visit."""
    head = make_head(GRID)
    shift = np.eye(4)
    shift[:3, 3] = -MOVED
    moved = resample_image(head, GRID, Transform((Affine(shift),)))
    for name, image, size in (("a", head, 4), ("b", moved, 8)):
        lesion, lobe = VALUES[name]
        array = np.zeros(GRID.shape_kji, np.uint8)
        array[7 : 7 + size, 6 : 6 + size, 6 : 6 + size] = lesion
        array[15:18, 3:6, 3:6] = lobe
        structures = (Structure(lesion, "lesion"), Structure(lobe, "lobe"))
        write_image(Image(image.tensor, GRID, name), tmp_path / f"{name}.nii.gz")
        write_labels(Labels.from_array(array, GRID, structures), tmp_path / f"{name}.seg.nrrd")
    (tmp_path / "fast.json").write_text(FAST.model_dump_json())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_writes_report_tables_maps_and_transforms_into_a_folder(run, folder):
    code, out, err = run(*COMMAND, "-o", "result", "--json", "--border-error", "0.3", "--spacing", "3")
    assert code == 0, err
    told = json.loads(out)
    result = folder / "result"
    assert "lesion" in told["sentence"]
    with (result / "changes.csv").open() as file:
        rows = {row["structure"]: row for row in csv.DictReader(file)}
    assert rows["lesion 1"]["verdict"] == "grown"
    assert float(rows["lesion"]["before (ml)"]) == pytest.approx(4**3 * 27 / 1000)
    assert float(rows["lesion"]["after (ml)"]) == pytest.approx(8**3 * 27 / 1000)
    assert float(rows["lobe"]["change (ml)"]) == 0.0
    assert rows["lobe"]["verdict"] == "unchanged"
    with (result / "volumes.csv").open() as file:
        assert [row["visit"] for row in csv.DictReader(file)] == told["visits"]
    forward, back = (read_transform(result / name) for name in ("visit1_to_visit2.h5", "visit1_to_visit2_inverse.h5"))
    np.testing.assert_allclose(forward.map_points(POINTS), POINTS + MOVED, atol=0.6)
    np.testing.assert_allclose(back.map_points(forward.map_points(POINTS)), POINTS, atol=1e-3)
    ways = [read_transform(result / f"midway_to_visit{number}.h5").map_points(POINTS) for number in (1, 2)]
    np.testing.assert_allclose(np.mean(ways, axis=0), POINTS, atol=0.3)
    maps = [read_image(result / f"visit1_to_visit2_{name}.nii.gz") for name in ("change", "volume_change")]
    assert maps[0].geometry.same_grid(read_image(result / "visit1_midway.nii.gz").geometry)
    assert "<td>grown</td>" in (result / "report.html").read_text(encoding="utf-8")
    assert (result / "report.pdf").stat().st_size > 1000
    assert json.loads((result / "report.json").read_text())["changes"] == told["changes"]


def test_writes_a_scene(run, folder):
    from MedSegRegLib.mrml.headless import load_scene  # noqa: PLC0415 - the other tests need no slicer-core

    code, out, err = run(*COMMAND, "-o", "result.mrb")
    assert code == 0, err
    assert "verdict" in out
    scene = load_scene(folder / "result.mrb")
    for name in ("a to b change", "a to b volume change", "b to a", "a mid-way", "b to mid-way"):
        assert scene.GetFirstNodeByName(name) is not None, name
    assert scene.GetFirstNodeByName("a to b changes").GetNumberOfRows() == 3


def test_a_structure_can_be_held_still_by_its_name(run, folder):
    code, _, err = run(*COMMAND, "-o", "result", "--reference-structure", "lesion", "--json")
    assert code == 0, err
    code, _, err = run(*COMMAND, "-o", "other", "--reference-structure", "skull")
    assert code == 3
    assert "skull" in err
    assert not (folder / "other").exists()


def test_labels_are_asked_for_once_a_visit(run, folder):
    code, _, err = run(*COMMAND[:-2], "-o", "result")
    assert code == 3
    assert "--labels is given 1 times for 2 visits" in err
    code, out, err = run(*COMMAND[:-1], "none", "-o", "result", "--json")
    assert code == 0, err
    assert json.loads(out)["changes"][0][0]["after_ml"] is None


def test_says_before_any_work_that_a_result_is_in_the_way(run, folder):
    (folder / "result").mkdir()
    (folder / "result" / "report.pdf").write_text("")
    code, _, err = run(*COMMAND, "-o", "result")
    assert code == 3
    assert "report.pdf" in err
    assert [path.name for path in (folder / "result").iterdir()] == ["report.pdf"]


def test_one_visit_is_refused(run, folder):
    code, _, err = run("followup", "a.nii.gz", "-o", "result")
    assert code == 3
    assert "two or more" in err
