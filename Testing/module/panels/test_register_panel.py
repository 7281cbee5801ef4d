"""The section Register: from two volumes to a transform, through the child process, and what can go wrong meanwhile."""
# ruff: noqa: PLC0415 - the scene and the panels are loaded late

from __future__ import annotations

import numpy as np
import pytest
import slicer

SHIFT_MM = 4.0  # of the moving study
DELIVERED = 0.2  # s; 0.08 to 0.14 were measured on a machine with nine processes a core


QUALITY = {
    "similarity": "mi",
    "before": 0.2,
    "after": 0.5,
    "overlap": 0.9,
    "folding": None,
    "inverse_consistency": {"mean_mm": 0.01, "p99_mm": 0.02, "max_mm": 0.03},
}
DATA = {
    "quality": QUALITY,
    "dice": {"ball": {"before": 0.5, "after": 0.75}},
    "landmarks_mm": None,
    "sentence": "Moves T2 onto T1: a shift.",
    "findings": [{"level": "warn", "message": "Thick slices.", "fix": "Look twice."}],
}


@pytest.fixture
def parameters(window):
    return window.widget.panels["Register"].parameters


@pytest.fixture
def chosen(window, parameters, studies):
    """Both volumes are chosen, and a linear preset."""
    window.open("register")
    window.control("fixedVolumeSelector").setCurrentNode(studies[0])
    window.control("movingVolumeSelector").setCurrentNode(studies[1])
    parameters.registerPreset = type(parameters.registerPreset).RIGID
    return parameters


@pytest.fixture
def found(panels, jobs):
    """Tells the runner that the job has found a shift, or has come so far."""
    from MedSegRegLib.jobs import Intermediate, JobResult, as_value
    from MedSegRegLib.transform import Affine, Transform

    def tell(mm, done=True):
        matrix = np.eye(4)
        matrix[0, 3] = mm
        transforms = {"transform": Affine(matrix), "inverse": Affine(matrix).inverse()}
        result = JobResult(DATA, {name: as_value(Transform((stage,))) for name, stage in transforms.items()})
        if done:
            return jobs.answer(panels.widget.runner, result)
        jobs.events.append(Intermediate(len(jobs.submitted), result))
        return panels.widget.runner.poll()

    return tell


@pytest.fixture
def a_view(scene):
    return scene.AddNewNodeByClass("vtkMRMLSliceCompositeNode")


def quality(window) -> dict[str, tuple[str, str]]:
    table = window.control("qualityTable")
    rows = ([table.item(row, column).text() for column in range(3)] for row in range(table.rowCount))
    return {name: (before, after) for name, before, after in rows}


def moved_by(volume) -> float:
    """How far a volume is shown to the left of its own place, by the transform above it."""
    from MedSegRegLib.mrml.transforms import transform_from_node

    middle = np.full((1, 3), 31.0)
    return float((transform_from_node(volume.GetParentTransformNode()).map_points(middle) - middle)[0, 0])


def test_a_click_brings_the_moving_study_onto_the_fixed_one(at_work, chosen, studies, scene, longest_block):
    for name, dx in (("Fixed", 0.0), ("Moving", SHIFT_MM)):
        points = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", name)
        points.AddControlPoint(20.0 + dx, 30.0, 30.0)
        setattr(chosen, f"register{name}Points", points)
    chosen.registerMeasureOnly = chosen.registerResample = chosen.registerJacobian = True
    longest_block()
    at_work.run(at_work.control("registerButton"))
    assert longest_block() < DELIVERED
    node = studies[1].GetParentTransformNode()
    assert node.GetName() == "T2 to T1"
    assert chosen.registerResult is node
    assert chosen.registerMovingPoints.GetParentTransformNode() is node
    assert moved_by(studies[1]) == pytest.approx(SHIFT_MM, abs=0.3)
    assert "Moves T2 onto T1" in at_work.control("resultLabel").text
    assert not at_work.control("qualityGroupBox").collapsed
    before, after = map(float, quality(at_work)["Distance of points (mm)"])
    assert before == pytest.approx(SHIFT_MM)
    assert after < 0.3
    change = scene.GetFirstNodeByName("T2 to T1 volume change")
    assert abs(slicer.util.arrayFromVolume(change) - 1).max() < 1e-3
    fixed, moved = (slicer.util.arrayFromVolume(node) for node in (studies[0], scene.GetFirstNodeByName("T2 on T1")))
    assert np.corrcoef(fixed.ravel(), moved.ravel())[0, 1] > 0.98


def test_a_deformable_registration_slides_into_place_and_can_be_stopped(at_work, chosen, studies, click, wait_until):
    chosen.registerPreset = type(chosen.registerPreset).FOLLOWUP
    click(at_work.control("registerButton"))
    wait_until(lambda: studies[1].GetParentTransformNode() is not None, 120)
    preview = studies[1].GetParentTransformNode()
    assert at_work.widget.runner.busy
    assert preview.GetHideFromEditors()
    click(at_work.control("keepButton"))
    wait_until(lambda: not at_work.widget.runner.busy, 120)
    assert studies[1].GetParentTransformNode() is chosen.registerResult is not None
    assert preview.GetScene() is None
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLGridTransformNode") == 2


def test_the_button_waits_for_its_inputs_and_says_what_is_missing(panels, studies):
    button = panels.control("registerButton")
    assert not button.enabled
    assert "Select" in button.toolTip
    for name in ("fixedVolumeSelector", "movingVolumeSelector"):
        panels.control(name).setCurrentNode(studies[0])
    assert not button.enabled
    assert "same volume" in button.toolTip
    panels.control("movingVolumeSelector").setCurrentNode(studies[1])
    assert button.enabled


def test_half_of_a_pair_is_not_enough(panels, chosen, scene):
    chosen.registerFixedPoints = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode")
    assert not panels.control("registerButton").enabled
    assert "points of both" in panels.control("registerButton").toolTip
    chosen.registerFixedPoints = None
    chosen.registerMovingSegments = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    assert "segments of both" in panels.control("registerButton").toolTip


def test_presets_of_the_window_are_those_of_the_library(panels):
    from MedSegRegLib.register.presets import PRESETS, PURPOSES
    from MedSegRegPanels.registration_presets import RegistrationPreset

    assert [preset.value for preset in RegistrationPreset] == list(PRESETS) == list(PURPOSES)
    assert all(preset.label() and preset.purpose() for preset in RegistrationPreset)


def test_a_job_is_given_what_was_chosen(panels, chosen, jobs, scene, click):
    chosen.registerInitial = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    chosen.registerMeasureOnly = chosen.registerJacobian = True
    panels.control("registerDeviceSelector").currentIndex = 1
    click(panels.control("registerButton"))
    task, arguments, values = jobs.submitted[0]
    assert (task, set(values)) == ("register", {"fixed", "moving", "initial"})
    expected = {"preset": "rigid", "device": "cpu", "measure_only": ["points", "labels"], "outputs": ["jacobian"]}
    assert arguments == expected


def test_a_result_is_shown_with_its_numbers_and_warnings(panels, chosen, found, click):
    click(panels.control("registerButton"))
    found(4.0)
    assert panels.control("resultLabel").text == "Moves T2 onto T1: a shift.\nThick slices. Look twice."
    assert quality(panels)["Dice, ball"] == ("0.500", "0.750")


def test_a_second_run_starts_from_the_studys_own_place_and_can_write_to_the_first(
    panels, chosen, studies, scene, jobs, found, click
):
    click(panels.control("registerButton"))
    found(4.0)
    first, count = studies[1].GetParentTransformNode(), scene.GetNumberOfNodes()
    assert panels.control("outputTransformSelector").nodeCount() == 1  # not its inverse
    chosen.registerOutput = first
    click(panels.control("registerButton"))
    assert jobs.submitted[1][2]["moving"].geometry.same_grid(jobs.submitted[0][2]["moving"].geometry)
    found(5.0)
    assert studies[1].GetParentTransformNode() is first
    assert moved_by(studies[1]) == 5.0
    assert scene.GetNumberOfNodes() == count
    chosen.registerOutput = None
    click(panels.control("registerButton"))
    found(6.0)
    assert studies[1].GetParentTransformNode() is not first
    assert moved_by(studies[1]) == 6.0


def test_a_volume_under_a_transform_of_its_own_is_not_taken_out_of_it(panels, chosen, studies, scene, found, click):
    own = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "own")
    studies[1].SetAndObserveTransformNodeID(own.GetID())
    click(panels.control("registerButton"))
    found(4.0)
    assert studies[1].GetParentTransformNode() is own
    assert "was not moved" in panels.control("resultLabel").text


def test_nothing_moves_when_it_was_not_wanted(panels, chosen, studies, found, click):
    panels.control("resultsGroupBox").collapsed = False
    for name in ("placeMovingCheckBox", "liveCheckBox"):
        click(panels.control(name))
    click(panels.control("registerButton"))
    found(2.0, done=False)
    assert studies[1].GetParentTransformNode() is None
    found(4.0)
    assert studies[1].GetParentTransformNode() is None
    assert chosen.registerResult is not None


@pytest.fixture
def sliding(panels, chosen, studies, scene, found, click):
    """A registration that runs, with the moving study half way; gives the number of nodes before."""
    before = scene.GetNumberOfNodes()
    click(panels.control("registerButton"))
    found(1.0, done=False)
    found(2.0, done=False)
    assert moved_by(studies[1]) == 2.0
    assert scene.GetFirstNodeByName("registration so far") is studies[1].GetParentTransformNode()
    return before


def test_a_cancelled_registration_leaves_the_scene_as_it_was(panels, studies, scene, jobs, sliding, click):
    from MedSegRegLib.errors import Cancelled
    from MedSegRegLib.jobs import Failed

    click(panels.control("cancelButton"))
    jobs.events.append(Failed(1, Cancelled()))
    panels.widget.runner.poll()
    assert studies[1].GetParentTransformNode() is None
    assert scene.GetNumberOfNodes() == sliding
    assert panels.desktop.messages == []


def test_a_study_that_is_removed_while_it_runs_ends_the_job(panels, studies, scene, jobs, sliding):
    scene.RemoveNode(studies[1])
    panels.widget.runner.poll()
    assert jobs.cancelled == [1]
    assert scene.GetFirstNodeByName("registration so far") is None
    assert not panels.control("registerButton").enabled


def test_closing_the_scene_while_it_runs_leaves_a_working_window(panels, scene, jobs, sliding):
    scene.Clear(False)
    assert jobs.cancelled == [1]
    assert scene.GetFirstNodeByName("registration so far") is None
    assert not panels.control("registerButton").enabled


def test_a_volume_that_cannot_be_registered_is_refused_before_anything_runs(panels, chosen, jobs, scene, click):
    chosen.registerFixed = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
    click(panels.control("registerButton"))
    assert jobs.submitted == []
    assert "has no voxels" in panels.desktop.messages[0]


def test_views_compare_both_studies_as_chosen(panels, chosen, studies, a_view, wait_until):
    panels.control("qualityGroupBox").collapsed = False
    selector = panels.control("compareSelector")
    selector.currentIndex = 1
    assert a_view.GetForegroundOpacity() == 0.5
    assert a_view.GetBackgroundVolumeID() == studies[0].GetID()
    selector.currentIndex = 2
    assert a_view.GetBackgroundVolumeID() == studies[1].GetID()
    selector.currentIndex = 3
    assert a_view.GetForegroundOpacity() == 0.0
    wait_until(lambda: a_view.GetForegroundOpacity() == 1.0, 5)
    selector.currentIndex = 0
    assert a_view.GetBackgroundVolumeID() is None


def test_views_do_not_flicker_while_the_choice_cannot_be_seen(panels, chosen, a_view, wait_until):
    chosen.registerCompare = type(chosen.registerCompare).FLICKER
    panels.parent.hide()
    a_view.SetForegroundOpacity(0.75)
    with pytest.raises(TimeoutError):
        wait_until(lambda: a_view.GetForegroundOpacity() != 0.75, 1.2)


def test_choices_and_results_survive_leaving_the_module_and_a_saved_scene(panels, chosen, found, click, tmp_path):
    from MedSegRegLib.mrml.headless import load_scene, save_scene

    click(panels.control("registerButton"))
    found(4.0)
    shown = quality(panels)
    panels.exit()
    panels.enter()
    assert panels.widget.panels["Register"].parameters.registerPreset.value == "rigid"
    assert quality(panels) == shown
    save_scene(slicer.mrmlScene, tmp_path / "scene.mrb")
    again = load_scene(tmp_path / "scene.mrb")
    saved = again.GetSingletonNode("MedSegReg", "vtkMRMLScriptedModuleNode")
    node = saved.GetNodeReference("registerResult")
    assert node.GetName() == "T2 to T1"
    assert node.GetNodeReference("MedSegReg.quality").GetTable().GetNumberOfRows() == len(shown)


def test_everything_fits_into_350_pixels(panels, chosen):
    for name in ("start", "known", "results", "quality"):
        panels.control(f"{name}GroupBox").collapsed = False
    assert panels.open("register").minimumSizeHint.width() <= 342


def test_a_label_map_serves_as_a_mask_and_as_segments(panels, jobs, chosen, studies, scene, click):
    made = []
    for study in studies:
        made.append(scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", f"{study.GetName()} map"))
        array = np.zeros((32, 32, 32), np.int16)
        array[4:28, 4:28, 4:28] = 7
        slicer.util.updateVolumeFromArray(made[-1], array)
        made[-1].CopyOrientation(study)
    panels.control("fixedMaskSelector").setCurrentNode(made[0])
    assert chosen.registerFixedMask is made[0]
    chosen.registerFixedSegments, chosen.registerMovingSegments = made
    click(panels.control("registerButton"))
    values = jobs.submitted[0][2]
    assert values["fixed_mask"].numpy().sum() == 24**3
    assert np.unique(values["moving_labels"].numpy()).tolist() == [0, 1]
