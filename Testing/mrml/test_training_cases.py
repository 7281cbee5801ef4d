"""Scenes become data to train on: each segmentation with the volume under it, segments of one name as one label."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from MedSegRegLib.cli import app
from MedSegRegLib.errors import DatasetError
from MedSegRegLib.files import read_image, read_labels
from MedSegRegLib.files.model_package import read_spec
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Image, Labels, Structure
from MedSegRegLib.mrml.headless import new_scene, save_scene
from MedSegRegLib.mrml.segmentations import write_segmentation
from MedSegRegLib.mrml.training_cases import find_scenes, write_training_cases
from MedSegRegLib.mrml.volumes import node_from_image
from MedSegRegLib.resample import resample_image, resample_labels
from MedSegRegLib.train.layouts import find_dataset
from small_training import small_settings, small_spec


def write_scene(path, grid, names=("tumour", "edema"), volumes=1, linked=True, segmentations=1):
    """Boxes of the names' structures in noise, as a scene; returns image and label values by name."""
    scene = new_scene()
    rng = np.random.default_rng(len(path.name))
    array = np.zeros(grid.shape_kji, np.int32)
    for value, _ in enumerate(names, start=1):
        array[2:5, 2:5, 3 * value : 3 * value + 2] = value
    image = Image.from_array(rng.normal(100, 20, grid.shape_kji), grid, "MR")
    nodes = [node_from_image(image, scene, f"MR {n}") for n in range(volumes)]
    structures = tuple(Structure(value, name) for value, name in enumerate(names, start=1))
    for n in range(segmentations):
        reference = nodes[0] if linked else None
        write_segmentation(Labels.from_array(array, grid, structures), scene, name=f"by {n}", reference=reference)
    save_scene(scene, path)
    scene.Clear(True)
    return image, {name: array == value for value, name in enumerate(names, start=1)}


def test_segments_of_one_name_are_one_label_in_all_scenes(any_grid, tmp_path):
    first = write_scene(tmp_path / "a.mrb", any_grid)
    second = write_scene(tmp_path / "b.mrb", any_grid, ("edema", "necrosis"))
    write_training_cases(find_scenes(tmp_path), tmp_path / "cases")
    dataset = find_dataset(tmp_path / "cases")
    assert dataset.labels == ("tumour", "edema", "necrosis")
    assert dataset.faults == ()
    for case, (image, masks) in zip(dataset.cases, (first, second), strict=True):
        read, labels = read_image(case.image), read_labels(case.labels)
        assert labels.geometry.same_grid(read.geometry)
        back, found = resample_image(read, any_grid), resample_labels(labels, any_grid).numpy()  # of another handedness
        np.testing.assert_allclose(back.numpy(), image.numpy(), atol=0.05)
        for name, mask in masks.items():
            np.testing.assert_array_equal(found == dataset.labels.index(name) + 1, mask)


def test_the_labels_of_a_model_keep_their_values(an_oblique_grid, tmp_path):
    write_scene(tmp_path / "a.mrb", an_oblique_grid)
    write_training_cases([tmp_path / "a.mrb"], tmp_path / "cases", ("edema", "tumour"))
    description = json.loads((tmp_path / "cases" / "dataset.json").read_text())
    assert description["labels"] == {"background": 0, "edema": 1, "tumour": 2}


def test_two_segmentations_of_a_scene_are_two_cases(an_oblique_grid, tmp_path):
    write_scene(tmp_path / "a.mrb", an_oblique_grid, segmentations=2)
    write_training_cases([tmp_path / "a.mrb"], tmp_path / "cases")
    assert [case.name for case in find_dataset(tmp_path / "cases").cases] == ["a-by 0", "a-by 1"]


def test_the_only_volume_of_a_scene_needs_no_link(an_oblique_grid, tmp_path):
    write_scene(tmp_path / "a.mrb", an_oblique_grid, linked=False)
    write_training_cases([tmp_path / "a.mrb"], tmp_path / "cases")
    assert len(find_dataset(tmp_path / "cases").cases) == 1


def test_faults_of_all_scenes_are_listed_at_once_and_nothing_is_written(an_oblique_grid, tmp_path):
    write_scene(tmp_path / "good.mrb", an_oblique_grid)
    write_scene(tmp_path / "two volumes.mrb", an_oblique_grid, volumes=2, linked=False)
    write_scene(tmp_path / "nothing.mrb", an_oblique_grid, segmentations=0)
    write_scene(tmp_path / "other name.mrb", an_oblique_grid, ("tumor",))
    (tmp_path / "damaged.mrb").write_bytes(b"no zip")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(DatasetError, match="4 of 5 scenes") as caught:
        write_training_cases(find_scenes(tmp_path), tmp_path / "cases", ("tumour", "edema"))
    for name in ("two volumes.mrb", "nothing.mrb", "other name.mrb", "damaged.mrb"):
        assert f"\n  {name}: " in caught.value.found
    assert sorted(tmp_path.iterdir()) == before


def test_the_train_command_takes_a_folder_of_scenes_and_trains_all_folds(tmp_path):
    scenes = tmp_path / "scenes"
    scenes.mkdir()
    for name in "abcdef":
        write_scene(scenes / f"{name}.mrb", Geometry.from_spacing((24, 24, 24)), ("ball 1",))
    (tmp_path / "settings.json").write_text(small_settings(epochs=1, model=small_spec()).model_dump_json())
    command = [
        "train",
        scenes,
        "-o",
        tmp_path / "out",
        "--settings",
        tmp_path / "settings.json",
        "--folds",
        2,
        "--json",
    ]
    done = CliRunner().invoke(app, [*map(str, command), "--device", "cpu"])
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert result["scores"]["ball 1"]["cases"] == 6
    assert len(read_spec(tmp_path / "out" / "model").weights) == 2
    assert len(list((tmp_path / "out" / "cases" / "imagesTr").iterdir())) == 6


def test_what_is_no_scene_is_left_to_others(tmp_path):
    (tmp_path / "images").mkdir()
    assert find_scenes(tmp_path) == find_scenes(tmp_path / "absent") == []
