"""``medsegreg align``: series in files, a folder or a scene out."""

from __future__ import annotations

import json

import numpy as np
import pytest
from align_phantoms import FAST, GRIDS, TRUTH, three_series

from MedSegRegLib.files import read_image, read_labels, read_transform, write_image
from MedSegRegLib.files.model_spec import ChannelSpec
from MedSegRegLib.workflows.align import SETTINGS
from MedSegRegLib.workflows.align_check import apart_mm
from small_training import small_spec, write_random_model

pytestmark = pytest.mark.usefixtures("one_thread")
COMMAND = ("align", "-c", "T1=t1.nii.gz", "-c", "FLAIR=flair.nii.gz", "--reference", "FLAIR")


@pytest.fixture
def folder(tmp_path, monkeypatch, an_empty_store):
    """A T1 and a FLAIR of one head, a model of both, and one that needs another."""
    series = three_series()
    for name in ("T1", "FLAIR"):
        write_image(series[name], tmp_path / f"{name.lower()}.nii.gz")
    channels = tuple(ChannelSpec(name=name) for name in ("FLAIR", "T1", "PD"))
    for name, count in (("two", 2), ("three", 3)):
        spec = small_spec(name=name, channels=channels[:count], spacing_mm=(2.0, 2.0, 2.0))
        write_random_model(an_empty_store / name, spec)
    monkeypatch.setitem(SETTINGS, "rigid", FAST)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_writes_volumes_transforms_pictures_and_native_labels(run, folder):
    code, out, err = run(*COMMAND, "-m", "two", "-n", "T1", "-n", "FLAIR", "-o", "out", "--fusion", "pet", "--json")
    assert code == 0, err
    told = json.loads(out)
    assert told["series"]["T1"]["verdict"] == "aligned"
    assert told["labels_on"] == ["T1", "FLAIR"]
    assert told["provenance"]["model"].startswith("two ")
    assert {path.name for path in (folder / "out").iterdir()} == {
        "T1-on-FLAIR.nii.gz",
        "T1-on-FLAIR.png",
        "T1-to-FLAIR.h5",
        "labels-on-T1.seg.nrrd",
        "labels-on-FLAIR.seg.nrrd",
        "report.json",
    }
    matrix = read_transform(folder / "out" / "T1-to-FLAIR.h5").linear_part
    assert apart_mm(matrix, TRUTH["T1"], GRIDS["FLAIR"]) < 0.8
    assert read_image(folder / "out" / "T1-on-FLAIR.nii.gz").geometry.same_grid(GRIDS["FLAIR"])
    for name in ("T1", "FLAIR"):
        assert read_labels(folder / "out" / f"labels-on-{name}.seg.nrrd").geometry.same_grid(GRIDS[name])
    assert (folder / "out" / "T1-on-FLAIR.png").read_bytes()[1:4] == b"PNG"
    assert json.loads((folder / "out" / "report.json").read_text())["sentence"] == told["sentence"]


def test_a_scene_shows_the_fusion(run, folder):
    from MedSegRegLib.mrml.headless import load_scene  # noqa: PLC0415 - needs slicer
    from MedSegRegLib.mrml.transforms import transform_from_node  # noqa: PLC0415

    code, _, err = run(*COMMAND, "-o", "out.mrb")
    assert code == 0, err
    scene = load_scene(folder / "out.mrb")
    node = scene.GetFirstNodeByName("t1 to flair")
    assert apart_mm(transform_from_node(node).linear_part, TRUTH["T1"], GRIDS["FLAIR"]) < 0.8
    assert scene.GetFirstNodeByName("t1 on flair").GetImageData().GetDimensions() == GRIDS["FLAIR"].size_ijk
    assert np.isclose(scene.GetFirstNodeByName("t1").GetSpacing(), GRIDS["T1"].spacing_mm).all()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("-c", "T1=other.nii.gz"), "The channel is 'T1=other.nii.gz'"),
        (("-c", "../T2=flair.nii.gz"), "The channel is '../T2=flair.nii.gz'"),
        (("-c", "T2"), "The channel is 'T2'"),
        (("--reference", "PET"), "There is no channel 'PET'"),
        (("--native", "PET"), "There is no channel 'PET'"),
        (("--native", "T1"), "There is no --model"),
        (("-m", "three"), "one for each of FLAIR, T1, PD"),
        (("--preset", "deformable"), "There is no 'deformable'"),
        (("--fusion", "rainbow"), "There is no 'rainbow'"),
    ],
)
def test_refuses_before_any_work(run, folder, arguments, told):
    code, _, err = run(*COMMAND, *arguments, "-o", "out")
    assert code == 3
    assert told in err
    assert not (folder / "out").exists()


def test_says_before_any_work_that_a_result_is_in_the_way(run, folder):
    (folder / "out").mkdir()
    (folder / "out" / "T1-to-FLAIR.h5").write_text("mine")
    code, _, err = run(*COMMAND, "-o", "out")
    assert code == 3
    assert "T1-to-FLAIR.h5" in err
    assert (folder / "out" / "T1-to-FLAIR.h5").read_text() == "mine"
