"""How data lie on disk: tables, nnU-Net's raw layout, given splits; everything that is wrong is said at once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from MedSegRegLib.errors import DatasetError
from MedSegRegLib.files import write_image, write_labels
from MedSegRegLib.files.model_spec import ChannelSpec
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Image, Labels
from MedSegRegLib.train.dataset import Case, load_example
from MedSegRegLib.train.layouts import find_dataset, order_channels
from MedSegRegLib.train.propose import propose_settings
from MedSegRegLib.train.run import train_model
from MedSegRegLib.train.split import split_cases, split_faults
from small_training import ball, small_settings, small_spec, write_balls, write_case

TWO = (ChannelSpec(name="T1"), ChannelSpec(name="FLAIR"))


@pytest.fixture
def the_balls(tmp_path):
    return write_balls(tmp_path, list("abcdef"))


def table(folder: Path, header: str, *lines: str) -> Path:
    path = folder / "cases.csv"
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def write_raw(folder: Path, names: list[str], channels: tuple[str, ...] = ("T1",), **changes) -> Path:
    """Balls in nnU-Net's raw layout; the second channel is the negative of the first."""
    grid = Geometry.from_spacing((24, 24, 24))
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    for seed, name in enumerate(names):
        image, labels = ball(seed)
        for channel in range(len(channels)):
            path = folder / "imagesTr" / f"{name}_{channel:04d}.nii.gz"
            write_image(Image.from_array(image * (-1) ** channel, grid), path)
        write_labels(Labels.from_array(labels, grid), folder / "labelsTr" / f"{name}.nii.gz")
    content = {
        "channel_names": {str(n): name for n, name in enumerate(channels)},
        "labels": {"background": 0, "the ball": 1},
        "numTraining": len(names),
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps({**content, **changes}))
    return folder


def test_a_table_names_channels_labels_patients_and_sides(the_balls):
    path = table(
        the_balls,
        "name,image_T1,image_FLAIR,labels,patient,split",
        "one,images/a.nii,images/b.nii,labels/a.nii,p1,train",
        "two,images/c.nii, images/d.nii,labels/c.nii,p2,Test",
    )
    dataset = find_dataset(path)
    assert dataset.channels == ("T1", "FLAIR")
    assert dataset.faults == ()
    first, second = dataset.cases
    images, labels = the_balls / "images", the_balls / "labels"
    assert first == Case("one", "p1", images / "a.nii", labels / "a.nii", (images / "b.nii",), "train")
    assert (second.side, second.further) == ("test", (images / "d.nii",))


def test_a_table_needs_no_more_than_images_and_labels(the_balls):
    (the_balls / "labels" / "b.nii").rename(the_balls / "labels" / "b_visit2.nii")
    path = table(the_balls, "image,labels", "images/a.nii,labels/a.nii", "", "images/b.nii,labels/b_visit2.nii")
    dataset = find_dataset(path)
    assert [(case.name, case.patient) for case in dataset.cases] == [("a", "a"), ("b_visit2", "b")]
    assert dataset.channels == ()


def test_all_faults_of_a_table_are_listed(the_balls):
    path = table(
        the_balls,
        "image,labels,split",
        "images/a.nii,labels/a.nii,train",
        "images/absent.nii,labels/gone.nii,train",
        "images/b.nii,,train",
        "images/c.nii,labels/c.nii,validate",
        "images/d.nii,labels/a.nii,test",
    )
    faults = "\n".join(find_dataset(path).faults)
    for said in (
        "line 3: there is no file",
        "absent.nii",
        "gone.nii",
        "line 4: no labels",
        "'validate'",
        "a occurs twice",
    ):
        assert said in faults


@pytest.mark.parametrize(
    ("header", "lines"), [("labels", ["labels/a.nii"]), ("image", ["images/a.nii"]), ("image,labels", [])]
)
def test_a_table_without_images_labels_or_lines_is_refused(header, lines, the_balls):
    with pytest.raises(DatasetError, match="has the columns"):
        find_dataset(table(the_balls, header, *lines))


def test_nnunets_raw_layout_is_read_with_its_names(tmp_path):
    raw = write_raw(tmp_path / "Dataset001_Balls", ["a", "b", "c"], ("T1", "FLAIR"))
    dataset = find_dataset(raw)
    assert (dataset.channels, dataset.labels, dataset.faults) == (("T1", "FLAIR"), ("the ball",), ())
    settings = propose_settings(raw, "balls")
    assert [channel.name for channel in settings.model.channels] == ["T1", "FLAIR"]
    assert [label.name for label in settings.model.labels] == ["the ball"]
    example = load_example(dataset.cases[0], settings.model)
    assert example.image.shape == (2, 24, 24, 24)
    torch.testing.assert_close(example.image[0], -example.image[1])


def test_all_faults_of_a_raw_data_set_are_listed(tmp_path):
    raw = write_raw(tmp_path, ["a", "b", "c"], ("T1", "FLAIR"), labels={"background": 0, "x": 2})
    (raw / "imagesTr" / "b_0001.nii.gz").unlink()
    (raw / "labelsTr" / "c.nii.gz").unlink()
    dataset = find_dataset(raw)
    assert [case.name for case in dataset.cases] == ["a"]
    faults = "\n".join(dataset.faults)
    for said in ("[0, 2]", "b: there is no b_0001.nii.gz", "b_0000, c_0000, c_0001"):
        assert said in faults


@pytest.mark.parametrize(
    "changes", [{"file_ending": None, "labels": 3}, {"labels": {"a": [1, 2]}}, {"channel_names": 1}]
)
def test_a_description_that_says_too_little_is_refused(changes, tmp_path):
    with pytest.raises(DatasetError, match=r"dataset\.json"):
        find_dataset(write_raw(tmp_path, ["a"], **changes))


def test_channels_are_put_into_the_models_order_or_refused(tmp_path):
    dataset = find_dataset(write_raw(tmp_path, ["a"], ("FLAIR", "T1")))
    ordered, faults = order_channels(dataset, ("T1", "flair"))
    assert faults == []
    assert (ordered.cases[0].image, *ordered.cases[0].further) == (*dataset.cases[0].further, dataset.cases[0].image)
    assert order_channels(dataset, ("T1", "T2"))[1] == ["the channels are FLAIR, T1, and the model's T1, T2"]


def test_channels_on_different_grids_are_a_fault(the_balls):
    write_case(the_balls, "small", *(array[:20] for array in ball(9)))
    path = table(the_balls, "image_T1,image_FLAIR,labels", "images/a.nii,images/small.nii,labels/a.nii")
    with pytest.raises(DatasetError, match="On another grid than a: small"):
        load_example(find_dataset(path).cases[0], small_spec(channels=TWO))


def sided(*sides: str) -> list[Case]:
    paths = [Path(f"{n}.nii") for n in range(len(sides))]
    return [
        Case(f"c{n}", f"p{n}", path, path, (), side) for n, (path, side) in enumerate(zip(paths, sides, strict=True))
    ]


def test_a_given_split_is_kept():
    split = split_cases(sided("train", "test", "validation", "train"), small_settings())
    assert [[case.name for case in side] for side in (split.train, split.validation, split.test)] == [
        ["c0", "c3"],
        ["c2"],
        ["c1"],
    ]


def test_validation_cases_are_drawn_where_the_data_name_none():
    split = split_cases(sided(*["train"] * 5, "test"), small_settings(validation=0.2))
    assert (len(split.train), len(split.validation), len(split.test)) == (4, 1, 1)
    assert split.test[0].name == "c5"


def test_faults_of_a_given_split_are_listed():
    cases = [*sided("train", "test", ""), Case("again", "p0", Path("9.nii"), Path("9.nii"), (), "test")]
    cases.append(Case("copy", "other", Path("0.nii"), Path("8.nii"), (), "train"))
    faults = "\n".join(split_faults(cases, small_settings(folds=3)))
    for said in (
        "patient p0 is on several sides of the split: test, train",
        "on no side of the split: c2",
        "the settings ask for folds",
        "one image of several patients: c0, copy",
    ):
        assert said in faults
    assert split_faults(sided("train", "test"), small_settings()) == []


def test_faults_of_the_list_of_the_split_and_of_the_cases_come_at_once_before_anything_is_written(the_balls):
    image, labels = ball(0)
    write_case(the_balls, "bad", image, np.where(labels, 7, 0)[1:])
    path = table(
        the_balls,
        "image,labels,patient,split",
        "images/a.nii,labels/a.nii,p1,train",
        "images/b.nii,labels/b.nii,p1,test",
        "images/bad.nii,labels/bad.nii,p2,train",
        "images/absent.nii,labels/c.nii,p3,validation",
    )
    with pytest.raises(DatasetError) as caught:
        train_model(path, small_settings(), the_balls / "output", device="cpu")
    said = caught.value.found
    for fault in ("patient p1 is on several sides", "line 5: there is no file", "bad: ", "label grid", "[7]"):
        assert fault in said
    assert said.startswith("1 of 3 cases have faults, and the data 2 of the whole")
    assert not (the_balls / "output").exists()


def test_two_channels_are_trained_and_tested(tmp_path):
    raw = write_raw(tmp_path / "raw", list("abcd"), ("T1", "FLAIR"))
    settings = small_settings(epochs=1, model=small_spec(channels=TWO))
    spec = train_model(raw, settings, tmp_path / "out", device="cpu")
    assert [channel.name for channel in spec.channels] == ["T1", "FLAIR"]
    assert spec.scores["ball 1"]["cases"] == 1


def test_settings_are_proposed_although_a_case_cannot_be_read(the_balls):
    (the_balls / "images" / "a.nii").write_bytes(b"nothing")
    assert propose_settings(the_balls, "balls").model.tile_ijk == (24, 24, 24)
    shutil.rmtree(the_balls / "images")
    write_balls(the_balls, ["a"])
    (the_balls / "images" / "a.nii").write_bytes(b"nothing")
    for name in "bcdef":
        (the_balls / "labels" / f"{name}.nii").unlink()
    with pytest.raises(DatasetError, match="No case can be read"):
        propose_settings(the_balls, "balls")
