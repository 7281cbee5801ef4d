"""The panel Segment: what a run is given, and what its result does to the scene, and does not."""
# ruff: noqa: PLC0415 - the scene and the panels are loaded late

from __future__ import annotations

import json

import numpy as np
import pytest
from scripted_jobs import ScriptedJobs

from MedSegRegLib.geometry import Geometry
from MedSegRegLib.jobs import JobResult, Voxels
from small_training import small_spec, write_random_model

SHAPE = (6, 7, 8)
MATRIX = np.array([[0.0, -2.0, 0.0, 10.0], [2.0, 0.0, 0.0, -5.0], [0.0, 0.0, 3.0, 7.0], [0.0, 0.0, 0.0, 1.0]])
GRID = Geometry(SHAPE[::-1], MATRIX)
VALUES = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
STRUCTURES = (
    {"value": 1, "name": "anterior hippocampus", "color": (0.9, 0.4, 0.2)},
    {"value": 2, "name": "posterior hippocampus", "color": (0.2, 0.6, 0.9)},
)


@pytest.fixture
def only_segment(module, monkeypatch, an_empty_store):
    """A window with this panel alone."""
    monkeypatch.setattr(module, "PANELS", ("Segment",))


@pytest.fixture
def head(scene):
    return volume_node(scene, "head")


@pytest.fixture
def jobs():
    return ScriptedJobs()


@pytest.fixture
def opened(only_segment, head, window, jobs):
    """The window with a head in the scene and a job system that does what the test says."""
    window.widget.runner._supervisor = jobs
    return window


@pytest.fixture
def panel(opened):
    """The section with the model of the hippocampus chosen."""
    panel = opened.widget.panels["Segment"]
    panel.ui.modelSelector.currentIndex = panel.ui.modelSelector.findData("hippocampus-mr")
    return panel


@pytest.fixture
def ui(panel):
    return panel.ui


@pytest.fixture
def run(opened, panel, jobs, click):
    """Press the button and let the job answer."""

    def run(result=None):
        click(panel.ui.segmentButton)
        if result is not None:
            jobs.answer(panel.runner, result)
        return jobs.submitted[-1]

    return run


def volume_node(scene, name, values=None):
    import slicer

    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    slicer.util.updateVolumeFromArray(node, VALUES if values is None else values)
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(MATRIX))
    return node


def answer(label_at=(3, 3, 3), confidence=False, warning=""):
    """A job's result: both labels, one voxel each, beside each other along i."""
    array = np.zeros(SHAPE, np.uint8)
    array[label_at] = 1
    array[label_at[0], label_at[1], label_at[2] + 1] = 2
    values = {"labels": Voxels(array, GRID, "head", STRUCTURES)}
    if confidence:
        values["margin"] = Voxels(np.full(SHAPE, 200, np.uint8), GRID, "head")
    findings = [{"level": "warn", "message": warning, "fix": "Look."}] if warning else []
    return JobResult({"provenance": {"model": "hippocampus-mr 1.0.0"}, "findings": findings}, values)


def segmentations(scene):
    found = (scene.GetNthNodeByClass(n, "vtkMRMLSegmentationNode") for n in range(scene.GetNumberOfNodes()))
    return [node for node in found if node is not None]


def segment_names(node):
    segments = node.GetSegmentation()
    return [segments.GetNthSegment(n).GetName() for n in range(segments.GetNumberOfSegments())]


def voxels_of(node, name):
    """Voxels of a segment on the grid of the volumes."""
    from MedSegRegLib.mrml.segmentations import labels_from_segmentation

    labels = labels_from_segmentation(node, GRID)
    value = next(s.value for s in labels.structures if s.name == name)
    return labels.numpy() == value


def test_a_run_is_given_the_voxels_in_their_place_and_the_choices(run, ui, head):
    ui.segmentDeviceSelector.currentIndex = 1
    ui.confidenceCheckBox.checked = True
    ui.replaceNonfiniteCheckBox.checked = True
    task, arguments, values = run()
    assert (task, arguments["model"], arguments["device"]) == ("segment", "hippocampus-mr", "cpu")
    assert arguments["region"] is None
    wanted = {"structures": [], "confidence": True, "mirror": False, "replace_nonfinite": True}
    assert arguments["options"] == wanted
    json.dumps(arguments)
    np.testing.assert_array_equal(values["image"].array, VALUES)
    np.testing.assert_allclose(values["image"].geometry.ijk_to_ras, MATRIX)


def test_the_result_is_named_after_its_input_and_tells_how_it_was_made(run, ui, scene):
    from MedSegRegLib.mrml.provenance import read_provenance

    run(answer(warning="Thick slices"))
    (node,) = segmentations(scene)
    assert node.GetName() == "head hippocampus-mr"
    assert segment_names(node) == ["anterior hippocampus", "posterior hippocampus"]
    facts = read_provenance(node)
    assert (facts["input"], facts["model"]) == ("head", "hippocampus-mr 1.0.0")
    assert ui.segmentResultLabel.text == "head hippocampus-mr: 2 structures written.\nThick slices. Look."


def test_what_is_chosen_meanwhile_does_not_change_the_result(run, ui, scene, panel, jobs):
    other = volume_node(scene, "another head")
    run()
    ui.inputVolumeSelector.setCurrentNode(other)
    jobs.answer(panel.runner, answer())
    assert segmentations(scene)[0].GetName() == "head hippocampus-mr"


def test_a_volume_that_is_removed_meanwhile_still_gives_its_result(run, scene, panel, jobs, head):
    run()
    scene.RemoveNode(head)
    jobs.answer(panel.runner, answer())
    assert segmentations(scene)[0].GetName() == "head hippocampus-mr"


def test_a_segmentation_that_is_removed_meanwhile_is_replaced_by_a_new_one(run, ui, scene, panel, jobs):
    gone = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "mine")
    ui.outputSegmentationSelector.setCurrentNode(gone)
    run()
    scene.RemoveNode(gone)
    jobs.answer(panel.runner, answer())
    assert segmentations(scene)[0].GetName() == "head hippocampus-mr"
    assert "removed meanwhile" in ui.segmentResultLabel.text


def test_closing_the_scene_drops_the_job(run, scene, panel, jobs):
    run()
    scene.Clear()
    assert jobs.cancelled == [1]
    jobs.answer(panel.runner, answer())
    assert segmentations(scene) == []


def test_finished_work_in_a_segmentation_stays_as_it_is(run, ui, scene):
    run(answer())
    (mine,) = segmentations(scene)
    ui.outputSegmentationSelector.setCurrentNode(mine)
    run(answer((1, 1, 1)))
    assert segment_names(mine)[2:] == ["anterior hippocampus_1", "posterior hippocampus_1"]
    assert voxels_of(mine, "anterior hippocampus")[3, 3, 3]


def test_replacing_spares_segments_that_are_hidden_or_completed(run, ui, scene):
    import slicer

    run(answer())
    (mine,) = segmentations(scene)
    ids = mine.GetSegmentation()
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    logic.SetSegmentStatus(ids.GetNthSegment(1), logic.Completed)
    ui.outputSegmentationSelector.setCurrentNode(mine)
    ui.writingSelector.currentIndex = 1
    run(answer((1, 1, 1)))
    assert segment_names(mine) == ["anterior hippocampus", "posterior hippocampus", "posterior hippocampus_1"]
    assert voxels_of(mine, "anterior hippocampus")[1, 1, 1]
    assert voxels_of(mine, "posterior hippocampus")[3, 3, 4]
    mine.GetDisplayNode().SetSegmentVisibility(ids.GetNthSegmentID(0), False)
    run(answer((2, 2, 2)))
    assert voxels_of(mine, "anterior hippocampus")[1, 1, 1]


def test_nothing_is_written_where_a_segment_is_when_that_is_wanted(run, ui, scene):
    run(answer())
    (mine,) = segmentations(scene)
    ui.outputSegmentationSelector.setCurrentNode(mine)
    ui.writingSelector.currentIndex = 2
    run(answer((3, 3, 4)))
    assert not voxels_of(mine, "anterior hippocampus_1").any()
    assert voxels_of(mine, "posterior hippocampus_1").sum() == 1


def test_one_undo_takes_back_the_whole_run(run, ui, scene):
    scene.SetUndoOn()
    ui.confidenceCheckBox.checked = True
    levels = scene.GetNumberOfUndoLevels()
    run(answer(confidence=True))
    assert scene.GetNumberOfUndoLevels() == levels + 1
    scene.Undo()
    assert segmentations(scene) == []


def test_confidence_becomes_a_volume_of_the_study(run, ui, scene):
    import slicer

    ui.confidenceCheckBox.checked = True
    run(answer(confidence=True))
    node = scene.GetFirstNodeByName("head hippocampus-mr confidence")
    assert (slicer.util.arrayFromVolume(node) == 200).all()
    assert node.GetName() in ui.segmentResultLabel.text


def test_confidence_is_shown_in_front_of_the_image_until_it_is_turned_off(run, ui, head, scene, desktop):
    view = desktop.application.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode()
    view.SetBackgroundVolumeID(head.GetID())
    assert not ui.overlaySlider.visible
    ui.confidenceCheckBox.checked = True
    run(answer(confidence=True))
    node = scene.GetFirstNodeByName("head hippocampus-mr confidence")
    assert ui.overlaySlider.visible
    assert (view.GetBackgroundVolumeID(), view.GetForegroundVolumeID()) == (head.GetID(), node.GetID())
    ui.overlaySlider.value = 0.3
    assert view.GetForegroundOpacity() == pytest.approx(0.3)
    ui.overlaySlider.value = 0.0
    assert view.GetForegroundVolumeID() is None
    ui.overlaySlider.value = 0.5
    ui.confidenceCheckBox.checked = False
    run(answer())
    assert view.GetForegroundVolumeID() is None
    assert not ui.overlaySlider.visible


def test_only_what_is_doubtful_is_coloured(run, ui, scene):
    ui.confidenceCheckBox.checked = True
    run(answer(confidence=True))
    display = scene.GetFirstNodeByName("head hippocampus-mr confidence").GetDisplayNode()
    assert display.GetApplyThreshold()
    assert 240 < display.GetUpperThreshold() < 255
    red, green, _blue, _alpha = display.GetColorNode().GetLookupTable().GetTableValue(0)
    assert red > 0.8
    assert green < 0.2


def test_structures_without_a_tick_are_left_out_and_remembered(run, ui, opened):
    import qt

    ui.structuresGroupBox.collapsed = False
    ui.structureList.item(0).setCheckState(qt.Qt.Unchecked)
    assert ui.structuresGroupBox.title == "Structures: 1 of 2"
    assert run()[1]["options"]["structures"] == ["posterior hippocampus"]
    opened.exit()
    opened.enter()
    assert ui.structureList.item(0).checkState() == qt.Qt.Unchecked
    assert ui.structureList.item(1).checkState() == qt.Qt.Checked


def test_a_filter_shows_some_structures_and_the_buttons_change_only_those(ui, click):
    import qt

    ui.structuresGroupBox.collapsed = False
    ui.structureFilterEdit.text = "POST"
    assert [ui.structureList.item(n).isHidden() for n in range(2)] == [True, False]
    click(ui.noStructuresButton)
    assert [ui.structureList.item(n).checkState() for n in range(2)] == [qt.Qt.Checked, qt.Qt.Unchecked]
    ui.structureFilterEdit.text = ""
    click(ui.noStructuresButton)
    assert not ui.segmentButton.enabled
    assert "structure" in ui.segmentButton.toolTip
    click(ui.allStructuresButton)
    assert ui.segmentButton.enabled


def test_the_corners_of_a_region_go_with_the_run(run, ui, scene):
    box = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "around the left side")
    box.SetCenter(10.0, 0.0, 5.0)
    box.SetSize(4.0, 6.0, 8.0)
    ui.regionSelector.setCurrentNode(box)
    corners = np.array(run()[1]["region"])
    np.testing.assert_allclose((corners.min(0), corners.max(0)), ((8, -3, 1), (12, 3, 9)))


def test_a_region_that_was_not_drawn_is_refused_before_anything_starts(ui, scene, jobs, desktop, click):
    ui.regionSelector.setCurrentNode(scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "empty"))
    click(ui.segmentButton)
    assert jobs.submitted == []
    assert "draw it" in desktop.messages[0]


def test_the_expected_time_is_told_until_something_changes(ui, panel, jobs, click):
    click(ui.checkButton)
    task, arguments, values = jobs.submitted[-1]
    assert (task, values, arguments["size_ijk"]) == ("plan", {}, list(SHAPE[::-1]))
    assert np.array(arguments["ijk_to_ras"]).shape == (4, 4)
    plan = {"seconds": 12.0, "host_bytes": 3 << 30, "device_bytes": 0, "free_host_bytes": 2 << 30}
    jobs.answer(panel.runner, JobResult(plan, {}))
    assert "12 s after the place is found, 3.0 GiB" in ui.checkLabel.text
    assert "only 2.0 GiB are free" in ui.checkLabel.text
    ui.segmentDeviceSelector.currentIndex = 1
    assert ui.checkLabel.text == ""


def test_a_study_of_another_modality_is_noticed(ui, head, scene, panel):
    import slicer

    constants = slicer.vtkMRMLSubjectHierarchyConstants
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    item = hierarchy.CreateItem(hierarchy.GetSceneItemID(), head)
    hierarchy.SetItemAttribute(item, constants.GetDICOMSeriesModalityAttributeName(), "CT")
    panel.update()
    assert ui.checkLabel.text == "head is CT, but this model was trained on MR (T1)."
    assert ui.segmentButton.enabled


def test_nothing_can_be_started_without_a_volume_or_while_a_job_runs(run, ui):
    ui.inputVolumeSelector.setCurrentNode(None)
    assert not ui.segmentButton.enabled
    assert "Select the volume" in ui.segmentButton.toolTip
    ui.inputVolumeSelector.setCurrentNodeIndex(0)
    run()
    assert not ui.segmentButton.enabled
    assert "running" in ui.segmentButton.toolTip


def test_each_channel_of_a_model_gets_a_row_of_its_own(panel, ui, scene, head, run, an_empty_store):
    spec = small_spec(channels=({"name": "T1", "modality": "MR"}, {"name": "FLAIR", "modality": "MR"}))
    write_random_model(an_empty_store / "two-channels", spec)
    flair = volume_node(scene, "lesions", np.ones(SHAPE, np.int16))
    panel.update()
    assert [label.text for label, _selector in panel.channels.rows] == []
    ui.modelSelector.currentIndex = ui.modelSelector.findText(spec.title)
    assert ui.inputVolumeLabel.text == "T1:"
    ((label, selector),) = panel.channels.rows
    assert label.text == "FLAIR:"
    assert "FLAIR" in ui.segmentButton.toolTip
    selector.setCurrentNode(flair)
    values = run()[2]
    assert list(values) == ["T1", "FLAIR"]
    assert (values["FLAIR"].array == 1).all()
    ui.modelSelector.currentIndex = 0
    assert not label.visible


@pytest.fixture
def beating_heart(scene):
    """A sequence of three frames, the browser that plays it, and the node that shows a frame."""
    import slicer

    logic = slicer.vtkSlicerSequencesLogic()  # knows the browser nodes
    logic.SetMRMLScene(scene)
    sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode", "heart sequence")
    for number in range(3):
        frame = slicer.vtkMRMLScalarVolumeNode()
        slicer.util.updateVolumeFromArray(frame, np.full(SHAPE, number, np.int16))
        frame.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(MATRIX))
        sequence.SetDataNodeAtValue(frame, str(number))
    browser = scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "player")
    browser.AddSynchronizedSequenceNode(sequence)
    proxy = volume_node(scene, "heart")
    browser.AddProxyNode(proxy, sequence, False)
    browser.SetSelectedItemNumber(1)
    yield proxy, browser
    scene.Clear(True)
    logic.SetMRMLScene(None)


@pytest.fixture
def all_frames(ui, beating_heart):
    assert not ui.framesSelector.visible, "frames are only asked for where there are some"
    ui.inputVolumeSelector.setCurrentNode(beating_heart[0])
    ui.framesSelector.currentIndex = 1


def test_all_frames_of_a_sequence_become_a_sequence_of_segmentations(
    all_frames, beating_heart, run, ui, panel, jobs, scene
):
    browser = beating_heart[1]
    run()
    for number in range(3):
        assert (jobs.submitted[number][2]["image"].array == number).all()
        assert segmentations(scene) == []
        jobs.answer(panel.runner, answer((number, 1, 1)))
    assert len(jobs.submitted) == 3
    (node,) = segmentations(scene)
    assert node.GetName() == "heart hippocampus-mr"
    written = browser.GetSequenceNode(node)
    assert written.GetNumberOfDataNodes() == 3
    assert voxels_of(written.GetNthDataNode(2), "anterior hippocampus")[2, 1, 1]
    assert voxels_of(node, "anterior hippocampus")[1, 1, 1], "the frame that is shown"


def test_a_sequence_that_is_cancelled_leaves_nothing(all_frames, run, panel, jobs, scene):
    from MedSegRegLib.errors import Cancelled
    from MedSegRegLib.jobs import Failed

    run(answer())
    jobs.events.append(Failed(2, Cancelled()))
    panel.runner.poll()
    assert segmentations(scene) == []
    assert not panel.runner.busy
