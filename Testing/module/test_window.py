"""The opened module: what a person sees and presses, on stand-in widgets that refuse what Qt would refuse."""
# ruff: noqa: N803, PLC0415 - takes the place of Slicer's logic, whose names are camelCase

from __future__ import annotations

import sys

import pytest

from MedSegRegLib.errors import NoContrast


class Logic:
    """A logic that gives nodes at once, or the error it is told to."""

    error: Exception | None = None

    def __init__(self, scene):
        self.scene, self.calls = scene, []

    def segment(self, volumeNode, modelName, outputSegmentationNode, *, device, progress):
        self.run("segment", volumeNode, modelName, device, progress)
        node = self.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", f"{volumeNode.GetName()} {modelName}")
        from MedSegRegLib.mrml.provenance import write_provenance

        write_provenance(node, {"warnings": ["thick slices"]})
        return node

    def register(self, fixedNode, movingNode, preset, modality, *, device, progress):
        self.run("register", fixedNode, movingNode, preset, modality, device, progress)
        assert movingNode.GetParentTransformNode() is None
        nodes = [self.scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", name) for name in ("there", "back")]
        for node in nodes:
            node.SetAttribute("MedSegReg.made", '"now"')
        return (*nodes, {"sentence": "It fits.", "warnings": []})

    def run(self, *call):
        self.calls.append(call[:-1])
        call[-1].update(0.5, "half way")
        if self.error is not None:
            raise self.error


@pytest.fixture
def volumes(scene):
    return [scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name) for name in ("before", "after")]


@pytest.fixture
def logic(window, scene, monkeypatch):
    """The window with an instant logic, and nothing to install."""
    made = Logic(scene)
    for panel in window.widget.panels:
        panel.logic, panel.ready = made, lambda: True
    return made


def choose(window, fixed, moving):
    window.ui.fixedVolumeSelector.setCurrentNode(fixed)
    window.ui.movingVolumeSelector.setCurrentNode(moving)


def test_buttons_wait_for_their_inputs_and_say_what_is_missing(window, volumes):
    assert not window.ui.registerButton.enabled
    assert "Select" in window.ui.registerButton.toolTip
    choose(window, volumes[0], volumes[0])
    assert not window.ui.registerButton.enabled
    assert "same volume" in window.ui.registerButton.toolTip
    choose(window, *volumes)
    assert window.ui.registerButton.enabled


def test_the_model_that_is_shown_is_the_one_in_the_scene(window, module):
    models = module.MedSegRegLogic().models()
    if not models:
        pytest.skip("no model is shipped yet")
    selector = window.ui.modelSelector
    assert [text for text, _ in selector.items] == list(models.values())
    selector.currentIndex = selector.count - 1
    assert window.widget.logic.getParameterNode().modelName == list(models)[-1]


def test_a_registration_gets_the_choices_and_tells_its_outcome(window, logic, volumes):
    choose(window, *volumes)
    window.ui.presetSelector.currentIndex = 1
    window.ui.modalitySelector.currentIndex = 1
    window.ui.deviceSelector.currentIndex = 1
    window.ui.registerButton.click()
    assert logic.calls == [("register", *volumes, "affine", "different", "cpu")]
    assert window.ui.statusLabel.text.startswith("It fits.")
    assert window.messages == []


def test_the_moving_volume_is_placed_under_the_new_transform(window, logic, volumes):
    choose(window, *volumes)
    window.ui.registerButton.click()
    assert volumes[1].GetParentTransformNode().GetName() == "there"


def test_a_second_run_starts_from_the_volumes_own_place(window, logic, volumes):
    choose(window, *volumes)
    window.ui.registerButton.click()
    first = volumes[1].GetParentTransformNode()
    window.ui.registerButton.click()
    assert len(logic.calls) == 2
    assert volumes[1].GetParentTransformNode() is not first


def test_a_failed_second_run_leaves_the_volume_where_it_was(window, logic, volumes):
    choose(window, *volumes)
    window.ui.registerButton.click()
    first = volumes[1].GetParentTransformNode()
    logic.error = NoContrast("All voxels are 0", "an image", "load it again")
    window.ui.registerButton.click()
    assert volumes[1].GetParentTransformNode() is first
    assert window.messages == ["All voxels are 0. Expected: an image. To do: load it again."]


def test_a_volume_under_a_transform_of_its_own_is_not_taken_out_of_it(window, logic, volumes, scene, monkeypatch):
    own = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "own")
    answer = (own, own, {"sentence": "It fits.", "warnings": []})
    monkeypatch.setattr(Logic, "register", lambda self, *call, **options: answer)
    volumes[1].SetAndObserveTransformNodeID(own.GetID())
    choose(window, *volumes)
    window.ui.registerButton.click()
    assert volumes[1].GetParentTransformNode() is own
    assert "was not moved" in window.ui.statusLabel.text


def test_nothing_moves_when_it_was_not_wanted(window, logic, volumes):
    choose(window, *volumes)
    window.ui.placeMovingCheckBox.checked = False
    window.ui.registerButton.click()
    assert volumes[1].GetParentTransformNode() is None


def test_a_segmentation_is_named_and_its_warnings_are_shown(window, logic, volumes):
    window.ui.modelSelector.addItem("Hippocampus", "hippocampus-mr")
    window.ui.inputVolumeSelector.setCurrentNode(volumes[0])
    window.widget.logic.getParameterNode().modelName = "hippocampus-mr"
    window.ui.segmentButton.click()
    assert logic.calls == [("segment", volumes[0], "hippocampus-mr", "auto")]
    assert window.ui.statusLabel.text == "before hippocampus-mr has 0 segments.\nthick slices"


def test_cancel_stops_the_run_without_an_error(window, logic, volumes, monkeypatch, gui_names):
    from standin_widgets import ProgressDialog

    monkeypatch.setitem(ProgressDialog.defaults, "wasCanceled", True)
    assert sys.modules["qt"].QProgressDialog(None).wasCanceled
    choose(window, *volumes)
    window.ui.registerButton.click()
    assert window.messages == ["Cancelled: the scene was not changed."]
    assert window.ui.statusLabel.text == ""


def test_a_fault_of_ours_is_not_hidden_and_leaves_no_dialog_open(window, logic, volumes, monkeypatch, gui_names):
    opened = []
    make = sys.modules["qt"].QProgressDialog
    monkeypatch.setattr(sys.modules["qt"], "QProgressDialog", lambda parent: opened.append(make(parent)) or opened[-1])
    logic.error = ZeroDivisionError("a fault")
    choose(window, *volumes)
    with pytest.raises(ZeroDivisionError):
        window.ui.registerButton.click()
    assert [dialog.visible for dialog in opened] == [False]


def test_nothing_runs_without_its_packages(window, logic, volumes):
    for panel in window.widget.panels:
        panel.ready = lambda: False
    choose(window, *volumes)
    window.ui.registerButton.click()
    assert logic.calls == []


def test_choices_survive_leaving_and_opening_the_module_again(window, volumes):
    choose(window, *volumes)
    window.ui.presetSelector.currentIndex = 0
    window.widget.exit()
    assert not window.ui.registerButton.enabled
    window.widget.enter()
    assert window.ui.registerButton.enabled
    assert window.widget.logic.getParameterNode().preset.value == "rigid"


def test_closing_the_scene_leaves_a_working_window(window, volumes, scene):
    choose(window, *volumes)
    scene.Clear()
    assert not window.ui.registerButton.enabled
    assert window.widget.logic.getParameterNode().fixedVolume is None
    window.widget.cleanup()
