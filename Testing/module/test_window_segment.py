"""A person segments: from a click to a segmentation node, through the window, the child process and real MRML."""

from __future__ import annotations

from time import perf_counter

import numpy as np
import pytest
import slicer
from stories import add_ball, contents

from MedSegRegLib.image import Image
from MedSegRegLib.mrml.propagated import write_volume_sequence
from MedSegRegLib.mrml.provenance import read_provenance
from MedSegRegLib.mrml.segmentations import labels_from_segmentation
from MedSegRegLib.mrml.volumes import image_from_node
from MedSegRegLib.workflows.locate import segment_anywhere

LONG_SECONDS = 10.0


@pytest.fixture
def volume(scene):
    return add_ball(scene)


@pytest.fixture
def ready(at_work, volume):
    """The section Segment with a volume and the model "balls"."""
    selector = at_work.control("modelSelector")
    selector.currentIndex = selector.findData("balls")
    at_work.control("inputVolumeSelector").setCurrentNode(volume)
    return at_work


def segmentations(scene):
    return slicer.util.getNodesByClass("vtkMRMLSegmentationNode")


def test_the_button_waits_for_its_input_and_says_what_is_missing(at_work, scene):
    button = at_work.control("segmentButton")
    assert not button.enabled
    assert "Select" in button.toolTip
    at_work.control("inputVolumeSelector").setCurrentNode(add_ball(scene))
    assert button.enabled


def test_a_click_gives_a_segmentation_node(ready, scene, volume, longest_block):
    before = slicer.util.arrayFromVolume(volume).copy()
    ready.run(ready.control("segmentButton"))
    (node,) = segmentations(scene)
    assert node.GetName() == "head balls"
    assert node.GetSegmentation().GetSegment(node.GetSegmentation().GetNthSegmentID(0)).GetName() == "ball 1"
    assert node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole()) is volume
    assert read_provenance(node)["model"].startswith("balls ")
    assert "head balls" in ready.control("segmentResultLabel").text
    assert np.array_equal(slicer.util.arrayFromVolume(volume), before)
    assert ready.desktop.messages == []
    assert longest_block() < 0.1


def test_a_second_run_adds_to_the_segmentation_that_was_chosen(ready, scene):
    ready.run(ready.control("segmentButton"))
    (node,) = segmentations(scene)
    ready.control("outputSegmentationSelector").setCurrentNode(node)
    ready.run(ready.control("segmentButton"))
    assert segmentations(scene) == [node]
    assert node.GetSegmentation().GetNumberOfSegments() == 2


def test_all_frames_of_a_sequence_are_segmented(at_work, scene, volume):
    still = image_from_node(volume)
    frames = [Image.from_array(np.roll(still.numpy(), number, axis=3), still.geometry) for number in (0, 4)]
    beating, browser, _ = write_volume_sequence(frames, scene, "heart")
    at_work.control("inputVolumeSelector").setCurrentNode(beating)
    selector = at_work.control("modelSelector")
    selector.currentIndex = selector.findData("balls")
    at_work.control("framesSelector").currentIndex = 1
    at_work.run(at_work.control("segmentButton"))
    (node,) = segmentations(scene)
    written = browser.GetSequenceNode(node)
    assert written.GetNumberOfDataNodes() == len(frames)
    for number, frame in enumerate(frames):
        found = labels_from_segmentation(written.GetNthDataNode(number), still.geometry).numpy()
        assert np.array_equal(found > 0, segment_anywhere(frame, "balls", device="cpu").labels.numpy() > 0)
        assert 0 < (found > 0).sum() < found.size
    assert at_work.desktop.messages == []


def test_the_window_answers_during_a_long_job_and_cancel_leaves_the_scene_as_it_was(
    at_work, scene, click, wait_until, longest_block
):
    at_work.control("inputVolumeSelector").setCurrentNode(add_ball(scene, "large", 256))
    selector = at_work.control("modelSelector")
    selector.currentIndex = selector.findData("balls")
    before = contents(scene)
    click(at_work.control("segmentButton"))
    assert not at_work.control("segmentButton").enabled
    begun = perf_counter()
    wait_until(lambda: at_work.control("progressBar").value > 0, 120)
    wait_until(lambda: perf_counter() - begun > LONG_SECONDS, 120)
    assert at_work.widget.runner.busy
    assert longest_block() < 0.1
    click(at_work.control("cancelButton"))
    wait_until(lambda: not at_work.widget.runner.busy, 60)
    assert contents(scene) == before
    assert "Cancelled" in at_work.control("messageLabel").text
    assert at_work.desktop.messages == []
    assert at_work.control("segmentButton").enabled
    assert longest_block() < 0.1


def test_a_scene_that_is_closed_during_a_run_stays_empty_and_the_window_works_on(ready, scene, click, wait_until):
    click(ready.control("segmentButton"))
    scene.Clear()
    assert not ready.widget.runner.busy
    wait_until(lambda: not ready.widget.runner._supervisor.busy, 60)
    assert segmentations(scene) == []
    assert not ready.control("segmentButton").enabled
    selector = ready.control("modelSelector")  # the choice went with the scene
    selector.currentIndex = selector.findData("balls")
    ready.control("inputVolumeSelector").setCurrentNode(add_ball(scene, "next"))
    ready.run(ready.control("segmentButton"))
    assert [node.GetName() for node in segmentations(scene)] == ["next balls"]


def test_a_volume_that_is_removed_during_a_run_does_no_harm(ready, scene, volume, click, wait_until):
    click(ready.control("segmentButton"))
    scene.RemoveNode(volume)
    wait_until(lambda: not ready.widget.runner.busy, 60)
    assert ready.desktop.messages == []


def test_a_result_arrives_while_another_module_is_open(ready, scene, click, wait_until):
    click(ready.control("segmentButton"))
    ready.exit()
    wait_until(lambda: not ready.widget.runner.busy, 60)
    assert [node.GetName() for node in segmentations(scene)] == ["head balls"]
    ready.enter()


def test_a_model_that_cannot_take_the_volume_is_told_in_words(ready, scene):
    volume = add_ball(scene, "flat")
    slicer.util.updateVolumeFromArray(volume, np.full((24, 24, 24), np.nan, np.float32))
    ready.control("inputVolumeSelector").setCurrentNode(volume)
    before = contents(scene)
    ready.run(ready.control("segmentButton"))
    assert len(ready.desktop.messages) == 1
    assert "To do:" in ready.desktop.messages[0]
    assert contents(scene) == before
