"""``medsegreg sequence``: a 4D file, or a file a frame, in; a folder, a scene or a label sequence out."""

from __future__ import annotations

import csv
import json
import zipfile

import nibabel
import numpy as np
import pytest
from register_phantoms import make_head

from MedSegRegLib.files import read_image, read_labels, read_transform, write_image, write_labels
from MedSegRegLib.files.frames import open_frames
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Image, Labels, Structure
from MedSegRegLib.register.settings import DeformableSettings, RegistrationSettings
from MedSegRegLib.resample import resample_image
from MedSegRegLib.transform import Affine, Transform

pytestmark = pytest.mark.usefixtures("one_thread")

GRID = Geometry.from_spacing((16, 16, 16), (3.0, 3.0, 3.0), (-22.5, -22.5, -22.5))
FAST = RegistrationSettings(
    linear="none", deformable=DeformableSettings(coarsening=(1.0,), iterations=(10,), stiffness=1.0)
)
SHIFTS_MM = (0.0, 1.5, 3.0)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A head that moves to the right, as three files and as one, with a lobe drawn in its first frame."""
    head = make_head(GRID)
    frames = []
    for number, shift in enumerate(SHIFTS_MM):
        matrix = np.eye(4)
        matrix[0, 3] = -shift
        frames.append(resample_image(head, GRID, Transform((Affine(matrix),))))
        write_image(Image(frames[-1].tensor, GRID), tmp_path / f"frame{number}.nii.gz")
    whole = np.stack([frame.numpy()[0].transpose(2, 1, 0) for frame in frames], axis=-1)
    nibabel.save(nibabel.Nifti1Image(whole, GRID.ijk_to_ras), tmp_path / "heart.nii.gz")
    array = np.zeros(GRID.shape_kji, np.uint8)
    array[5:11, 5:11, 5:11] = 2
    write_labels(Labels.from_array(array, GRID, (Structure(2, "lobe"),)), tmp_path / "drawn.seg.nrrd")
    (tmp_path / "fast.json").write_text(FAST.model_dump_json())
    monkeypatch.chdir(tmp_path)
    return tmp_path


COMMON = ("--labels", "drawn.seg.nrrd", "--settings", "fast.json")


def test_writes_labels_and_transforms_of_each_frame_into_a_folder(run, folder):
    code, out, err = run("sequence", "heart.nii.gz", *COMMON, "-o", "result", "--json")
    assert code == 0, err
    told = json.loads(out)
    assert told["sentence"].startswith("Carried 1 structure from frame 0 to 2 others.")
    assert {frame["number"] for frame in told["frames"]} == {1, 2}
    middles = []
    for number in range(3):
        labels = read_labels(folder / "result" / f"labels_{number:03d}.seg.nrrd")
        assert labels.structures[0].name == "lobe"
        middles.append(GRID.map_voxels(np.argwhere(labels.numpy())[:, ::-1]).mean(axis=0))
    np.testing.assert_allclose(middles[2] - middles[0], (3.0, 0.0, 0.0), atol=1.0)
    to_key, from_key = (read_transform(folder / "result" / f"{way}_key_002.h5") for way in ("to", "from"))
    np.testing.assert_allclose(to_key.map_points(middles[2][None]), middles[0][None], atol=1.2)
    np.testing.assert_allclose(from_key.map_points(to_key.map_points(middles[2][None])), middles[2][None], atol=0.1)
    with (folder / "result" / "frames.csv").open() as file:
        assert [row["frame"] for row in csv.DictReader(file)] == ["1.0", "2.0"]
    assert json.loads((folder / "result" / "report.json").read_text())["sentence"] == told["sentence"]
    assert not list(folder.glob(".medsegreg*"))


def test_writes_a_scene_with_a_segmentation_sequence(run, folder):
    code, out, err = run("sequence", "heart.nii.gz", *COMMON, "-o", "result.mrb")
    assert code == 0, err
    assert "frame, least certain first" in out
    names = [name.rpartition("/")[2] for name in zipfile.ZipFile(folder / "result.mrb").namelist()]
    assert {"heart sequence.seq.nrrd", "heart segmentation sequence.seq.mrb"} <= set(names)


def test_writes_a_label_sequence_of_separate_frames_with_two_key_frames(run, folder):
    frames = [f"frame{number}.nii.gz" for number in range(3)]
    again = ("--key", "0", "--labels", "drawn.seg.nrrd", "--key", "2")
    code, _, err = run("sequence", *frames, *COMMON, *again, "-o", "labels.seq.nrrd")
    assert code == 0, err
    found = open_frames([folder / "labels.seq.nrrd"])
    assert len(found) == 3
    own = read_labels("drawn.seg.nrrd").numpy()
    for number in (0, 2):
        np.testing.assert_array_equal(found[number].numpy()[0], own)
    assert found[1].geometry.same_grid(read_image(frames[1]).geometry)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("frame0.nii.gz", *COMMON, "-o", "out"), "one volume"),
        (("heart.nii.gz", *COMMON, "--key", "0", "--key", "1", "-o", "out"), "1 segmentations for the key frames"),
        (("heart.nii.gz", *COMMON, "--key", "7", "-o", "out"), "0 to 2"),
        (("heart.nii.gz", *COMMON[:2], "--preset", "magic", "-o", "out"), "magic"),
        (("heart.nii.gz", *COMMON, "-o", "nowhere/out"), "missing"),
        (("heart.nii.gz", *COMMON, "-o", "fast.json"), "exists already"),
    ],
)
def test_what_cannot_be_done_is_told_before_any_work(run, folder, arguments, complaint):
    before = sorted(folder.iterdir())
    code, _, err = run("sequence", *arguments)
    assert code == 3
    assert complaint in err
    assert sorted(folder.iterdir()) == before


def test_results_in_the_way_are_kept(run, folder):
    (folder / "result").mkdir()
    (folder / "result" / "labels_001.seg.nrrd").write_text("mine")
    code, _, err = run("sequence", "heart.nii.gz", *COMMON, "-o", "result")
    assert code == 3
    assert "labels_001.seg.nrrd" in err
    assert (folder / "result" / "labels_001.seg.nrrd").read_text() == "mine"
