"""Sequences on real MRML: volumes that a browser plays, and the segmentations that come beside them."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
import slicer

from MedSegRegLib.files.frames import open_frames
from MedSegRegLib.image import Image, Labels, Structure
from MedSegRegLib.mrml.headless import save_node, save_scene
from MedSegRegLib.mrml.propagated import write_label_sequence, write_propagation, write_volume_sequence
from MedSegRegLib.mrml.provenance import read_provenance
from MedSegRegLib.mrml.segmentations import labels_from_segmentation
from MedSegRegLib.mrml.sequences import sequence_of
from MedSegRegLib.mrml.volumes import geometry_of_node

COUNT = 3
COLUMNS = {"frame": [1.0, 2.0], "confidence": [0.9, 0.8], "remark": ["", "lost"]}


@pytest.fixture
def playing(scene, grid):
    frames = [Image.from_array(np.full(grid.shape_kji, 10 * number), grid) for number in range(COUNT)]
    return write_volume_sequence(frames, scene, "heart")


@pytest.fixture
def maps(grid):
    """A chamber that is one voxel further in each frame."""
    arrays = [np.zeros(grid.shape_kji, np.uint8) for _ in range(COUNT)]
    for number, array in enumerate(arrays):
        array[2 + number, 3:6, 4:7] = 5
    return [Labels.from_array(array, grid, (Structure(5, "chamber", (0.9, 0.1, 0.2)),)) for array in arrays]


def test_volumes_become_a_sequence_that_a_browser_plays(playing, grid):
    volume, browser, sequence = playing
    assert sequence_of(volume) == (browser, sequence)
    assert geometry_of_node(volume).same_grid(grid)
    assert [slicer.util.arrayFromVolume(sequence.GetNthDataNode(n)).max() for n in range(COUNT)] == [0, 10, 20]
    assert [sequence.GetNthIndexValue(n) for n in range(COUNT)] == ["0", "1", "2"]


def test_segmentations_are_played_beside_the_volume(playing, maps, grid):
    volume, browser, sequence = playing
    proxy, table = write_propagation(maps, COLUMNS, {"preset": "same-contrast"}, *playing, name="heart drawn")
    written = browser.GetSequenceNode(proxy)
    for number in range(COUNT):
        labels = labels_from_segmentation(written.GetNthDataNode(number), grid)
        np.testing.assert_array_equal(labels.numpy(), maps[number].numpy())
        assert labels.structures[0].name == "chamber"
    assert written.GetNthIndexValue(2) == sequence.GetNthIndexValue(2)
    assert proxy.GetNodeReference(proxy.GetReferenceImageGeometryReferenceRole()) is volume
    assert read_provenance(proxy)["preset"] == "same-contrast"
    assert table.GetName() == "heart drawn by frame"
    assert table.GetTable().GetValueByName(1, "remark").ToString() == "lost"


def test_both_are_undone_in_one_step(scene, playing, maps):
    scene.SetUndoOn()
    write_propagation(maps, COLUMNS, {}, *playing, name="drawn")
    scene.Undo()
    assert scene.GetFirstNodeByName("drawn sequence") is None
    assert scene.GetFirstNodeByName("drawn by frame") is None
    assert scene.GetFirstNodeByName("drawn") is None
    volume, browser, sequence = playing
    browser.SetSelectedItemNumber(2)
    assert browser.GetSequenceNode(volume) is sequence


def test_a_saved_scene_holds_all_frames(scene, playing, maps, tmp_path):
    write_propagation(maps, COLUMNS, {}, *playing, name="drawn")
    save_scene(scene, tmp_path / "heart.mrb")
    with zipfile.ZipFile(tmp_path / "heart.mrb") as archive:
        named = {name.rpartition("/")[2]: name for name in archive.namelist()}
        (tmp_path / "inner.mrb").write_bytes(archive.read(named["drawn sequence.seq.mrb"]))
    with zipfile.ZipFile(tmp_path / "inner.mrb") as archive:
        assert sum(name.endswith(".seg.nrrd") for name in archive.namelist()) == COUNT
    assert "heart sequence.seq.nrrd" in named


def test_labels_become_a_file_that_slicer_reads_as_a_sequence(scene, maps, tmp_path):
    save_node(write_label_sequence(maps, scene, "labels"), tmp_path / "labels.seq.nrrd")
    for frame, labels in zip(open_frames([tmp_path / "labels.seq.nrrd"]), maps, strict=True):
        voxels = np.argwhere(frame.numpy()[0] == 5)[:, ::-1]
        places = labels.geometry.map_voxels(np.argwhere(labels.numpy() == 5)[:, ::-1])
        order = np.lexsort(frame.geometry.map_voxels(voxels).round(3).T), np.lexsort(places.round(3).T)
        np.testing.assert_allclose(frame.geometry.map_voxels(voxels)[order[0]], places[order[1]], atol=1e-3)
