"""The section Sequence: a drawing on one frame of a real sequence goes to all, through the real child process."""
# ruff: noqa: PLC0415 - the scene and the panels are loaded late

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import shift

MOVED_MM = (0.0, 2.0, 4.0)


@pytest.fixture
def parameters(window):
    return window.widget.panels["Sequence"].parameters


@pytest.fixture
def playing(scene, studies):
    """A volume that shows a sequence of three frames, in which the blobs go to the right, and its browser."""
    from MedSegRegLib.image import Image
    from MedSegRegLib.mrml.propagated import write_volume_sequence
    from MedSegRegLib.mrml.volumes import image_from_node

    still = image_from_node(studies[0])
    frames = [Image.from_array(shift(still.numpy()[0], (0, 0, mm / 2), order=1), still.geometry) for mm in MOVED_MM]
    return write_volume_sequence(frames, scene, "heart")[:2]


def draw(scene, volume, name, first, last=18):
    """A box whose left side is at a voxel along the first axis."""
    from MedSegRegLib.image import Labels, Structure
    from MedSegRegLib.mrml.segmentations import write_segmentation
    from MedSegRegLib.mrml.volumes import geometry_of_node

    array = np.zeros((32, 32, 32), np.uint8)
    array[12:last, 12:20, first : first + 6] = 1
    labels = Labels.from_array(array, geometry_of_node(volume), (Structure(1, "Box"),))
    return write_segmentation(labels, scene, name=name, reference=volume)


@pytest.fixture
def drawn(scene, playing):
    return draw(scene, playing[0], "Drawing", 12)


def choose(window, volume, segmentation):
    window.open("sequence")
    window.control("sequenceVolumeSelector").setCurrentNode(volume)
    window.control("sequenceSegmentationSelector").setCurrentNode(segmentation)


def test_the_button_waits_for_a_sequence_and_a_drawing(panels, studies, playing, drawn):
    button = panels.control("sequenceButton")
    choose(panels, studies[0], drawn)
    assert "volume of a sequence" in button.toolTip
    choose(panels, playing[0], None)
    assert "segmentation of a frame" in button.toolTip
    choose(panels, playing[0], drawn)
    assert button.enabled
    assert not panels.control("sequenceSecondKeySpinBox").visible
    panels.control("sequenceSecondSelector").setCurrentNode(drawn)
    assert "same frame" in button.toolTip
    panels.control("sequenceSecondKeySpinBox").value = 2
    assert button.enabled


def test_the_frame_that_is_shown_can_be_taken_as_key_frame(panels, parameters, playing, drawn, click):
    choose(panels, playing[0], drawn)
    playing[1].SetSelectedItemNumber(2)
    click(panels.control("sequenceKeyShownButton"))
    assert parameters.sequenceKey == 2
    assert panels.control("sequenceKeySpinBox").value == 2


def test_a_frame_that_is_not_there_is_told(panels, parameters, playing, drawn, click):
    choose(panels, playing[0], drawn)
    parameters.sequenceKey = 3
    click(panels.control("sequenceButton"))
    assert "0 to 2" in panels.desktop.messages.pop()
    assert not panels.widget.runner.busy


def test_a_click_segments_all_frames(at_work, parameters, scene, playing, drawn, longest_block):
    from MedSegRegLib.mrml.provenance import read_provenance
    from MedSegRegLib.mrml.segmentations import labels_from_segmentation
    from MedSegRegLib.mrml.volumes import geometry_of_node

    volume, browser = playing
    choose(at_work, volume, drawn)
    scene.SetUndoOn()
    at_work.run(at_work.control("sequenceButton"), seconds=400)
    assert at_work.desktop.messages == []
    proxy = scene.GetFirstNodeByName("Drawing in all frames")
    written = browser.GetSequenceNode(proxy)
    assert written.GetNumberOfDataNodes() == 3
    grid = geometry_of_node(volume)
    middles = [
        grid.map_voxels(np.argwhere(labels_from_segmentation(written.GetNthDataNode(n), grid).numpy())[:, ::-1])[:, 0]
        for n in range(3)
    ]
    moved = [places.mean() - middles[0].mean() for places in middles]
    np.testing.assert_allclose(moved, MOVED_MM, atol=0.7)
    assert read_provenance(proxy)["preset"] == "same-contrast"
    assert "Carried 1 structure from frame 0 to 2 others." in at_work.control("sequenceLabel").text
    table = at_work.control("sequenceTable")
    assert [table.item(row, 0).text() for row in range(table.rowCount)] == ["1", "2"]
    assert float(table.item(0, 1).text()) > 0.5
    at_work.widget.panels["Sequence"].onRowChosen(1)
    assert browser.GetSelectedItemNumber() == 2
    assert parameters.sequenceFrames.GetName() == "Drawing in all frames by frame"
    scene.Undo()
    assert scene.GetFirstNodeByName("Drawing in all frames sequence") is None
    assert scene.GetFirstNodeByName("Drawing in all frames by frame") is None
    assert longest_block() < 0.5


def test_a_corrected_frame_of_an_earlier_result_can_be_a_second_key_frame(panels, playing, drawn, scene, click):
    """It is read from the sequence, whatever frame is shown."""
    from MedSegRegLib.image import Labels, Structure
    from MedSegRegLib.mrml.propagated import write_propagation
    from MedSegRegLib.mrml.sequences import sequence_of
    from MedSegRegLib.mrml.volumes import geometry_of_node

    volume = playing[0]
    grid, maps = geometry_of_node(volume), []
    for number in range(3):
        array = np.zeros((32, 32, 32), np.uint8)
        array[4 + number, 5, 6] = 1
        maps.append(Labels.from_array(array, grid, (Structure(1, "Box"),)))
    earlier, _table = write_propagation(maps, {"frame": [1.0, 2.0]}, {}, volume, *sequence_of(volume), name="earlier")
    choose(panels, volume, drawn)
    panels.control("sequenceSecondSelector").setCurrentNode(earlier)
    panels.control("sequenceSecondKeySpinBox").value = 2
    started = {}
    panels.widget.runner.start = lambda title, task, arguments, values, done, **more: started.update(
        task=task, arguments=arguments, values=values
    )
    click(panels.control("sequenceButton"))
    assert started["arguments"]["keys"] == [0, 2]
    assert np.argwhere(started["values"]["key1"].numpy()).tolist() == [[6, 5, 6]]
    frames = [started["values"][f"frame{number}"].array for number in range(3)]
    assert not np.array_equal(frames[0], frames[2])


def test_cancelling_leaves_the_scene_as_it_was(at_work, scene, playing, drawn, click, wait_until):
    from stories import contents

    choose(at_work, playing[0], drawn)
    before = contents(scene)
    click(at_work.control("sequenceButton"))
    wait_until(lambda: at_work.control("progressBar").value > 0, 120)
    click(at_work.control("cancelButton"))
    wait_until(lambda: not at_work.widget.runner.busy, 60)
    assert contents(scene) == before
    assert "Cancelled" in at_work.control("messageLabel").text
