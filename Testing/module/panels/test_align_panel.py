"""The section Align: series of one patient in; transforms, volumes, labels on a native grid and a fusion out."""
# ruff: noqa: PLC0415 - the scene and the panels are loaded late

from __future__ import annotations

import numpy as np
import pytest

SHIFT_MM = 4.0  # of the second study in conftest.py


@pytest.fixture
def parameters(window):
    return window.widget.panels["Align"].parameters


@pytest.fixture
def chosen(window, parameters, studies):
    """T1 and T2, of which T1 stays where it is."""
    window.open("align")
    for number, node in ((1, studies[0]), (3, studies[1])):
        window.control(f"alignVolume{number}Selector").setCurrentNode(node)
    return parameters


@pytest.fixture
def a_view(scene):
    return scene.AddNewNodeByClass("vtkMRMLSliceCompositeNode")


def answer(labels_on=()):
    """What the job says of a shift that is known."""
    from MedSegRegLib.geometry import Geometry
    from MedSegRegLib.jobs import Chain, JobResult, Voxels

    matrix = np.eye(4)
    matrix[0, 3] = SHIFT_MM
    grid = Geometry.from_spacing((32, 32, 32), (2.0, 2.0, 2.0))
    box = np.zeros((32, 32, 32), np.uint8)
    box[10:20, 10:20, 10:20] = 1
    structures = ({"value": 1, "name": "ball 1", "color": (1.0, 0.0, 0.0)},)
    values = {"transform T2": Chain((matrix,)), "resampled T2": Voxels(np.ones((1, 32, 32, 32), np.float32), grid)}
    values |= {f"labels {name}": Voxels(box, grid, "labels", structures) for name in labels_on}
    data = {
        "sentence": "Aligned T2 to T1.",
        "reference": "T1",
        "series": {"T2": {"verdict": "doubtful"}},
        "findings": [{"level": "warn", "message": "T2 may not be aligned", "fix": "Look at both."}],
        "preset": "rigid",
    }
    return JobResult(data, values)


def test_the_button_waits_for_two_series_with_names_of_their_own(panels, parameters, studies):
    panels.open("align")
    button = panels.control("alignButton")
    assert "two or more" in button.toolTip
    panels.control("alignVolume1Selector").setCurrentNode(studies[0])
    panels.control("alignVolume2Selector").setCurrentNode(studies[0])
    assert "twice" in button.toolTip
    panels.control("alignVolume2Selector").setCurrentNode(studies[1])
    assert button.enabled
    panels.control("alignName2Edit").text = "t1"
    assert "name of its own" in button.toolTip
    assert not button.enabled


def test_references_and_grids_are_the_names_of_the_series(panels, chosen):
    selector = panels.control("alignReferenceSelector")
    assert [selector.itemText(row) for row in range(selector.count)] == ["T1", "T2"]
    selector.currentIndex = 1
    assert chosen.alignReference == "T2"
    grids = panels.control("alignNativeSelector")
    assert [grids.itemText(row) for row in range(grids.count)] == ["The reference", "T1", "T2"]
    assert not grids.enabled


def test_a_click_gives_transforms_volumes_and_labels_and_shows_the_fusion(at_work, chosen, studies, scene, a_view):
    from MedSegRegLib.mrml.provenance import read_provenance
    from MedSegRegLib.mrml.transforms import transform_from_node

    chosen.alignModel, chosen.alignNative = "balls", "T2"
    at_work.run(at_work.control("alignButton"), seconds=400)
    assert at_work.desktop.messages == []
    transform = scene.GetFirstNodeByName("T2 to T1")
    moved = transform_from_node(transform).map_points(np.full((1, 3), 31.0)) - 31
    assert np.linalg.norm(moved - (SHIFT_MM, 0, 0)) < 0.3
    assert read_provenance(transform)["series"]["T2"]["both_ways_mm"] < 1
    resampled = scene.GetFirstNodeByName("T2 on T1")
    assert (a_view.GetBackgroundVolumeID(), a_view.GetForegroundVolumeID()) == (studies[0].GetID(), resampled.GetID())
    assert "Aligned T2 to T1." in at_work.control("alignLabel").text
    assert studies[1].GetParentTransformNode() is None
    segmentation = scene.GetFirstNodeByName("T2 balls")
    assert segmentation.GetNodeReference(segmentation.GetReferenceImageGeometryReferenceRole()) is studies[1]
    assert read_provenance(segmentation)["provenance"]["model"].startswith("balls ")


def test_a_model_names_the_series_and_its_labels_come_on_a_native_grid(panels, chosen, jobs, click, scene, monkeypatch):
    from MedSegRegPanels import align_panel
    from MedSegRegPanels.model_cards import ModelCard

    card = ModelCard(None, "pair", "Pair", channels=(("PD", "MR"), ("CT", "CT")))
    monkeypatch.setattr(align_panel, "readCards", lambda: [card])
    panels.widget.updatePanels()
    selector = panels.control("alignModelSelector")
    selector.currentIndex = selector.findData("pair")
    assert (chosen.alignName1, chosen.alignName2) == ("PD", "CT")
    assert "series named CT" in panels.control("alignButton").toolTip
    chosen.alignName1, chosen.alignName3 = "pd", "CT"
    chosen.alignName2 = "other"
    chosen.alignNative = "CT"
    click(panels.control("alignButton"))
    task, arguments, values = jobs.submitted[0]
    assert task == "align"
    assert arguments["model"] == "pair"
    assert arguments["native"] == ["CT"]
    assert list(values) == ["pd", "CT"]


def test_the_segmentation_is_written_beside_its_series(panels, chosen, jobs, click, scene, studies):
    click(panels.control("alignButton"))
    jobs.answer(panels.widget.runner, answer(labels_on=("T2",)))
    (node,) = [scene.GetNthNodeByClass(n, "vtkMRMLSegmentationNode") for n in range(1)]
    assert node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole()) is studies[1]
    assert "T2 may not be aligned. Look at both." in panels.control("alignLabel").text


def test_the_fusion_follows_its_controls(panels, chosen, jobs, click, a_view, scene):
    click(panels.control("alignButton"))
    jobs.answer(panels.widget.runner, answer())
    panels.control("alignOpacitySlider").value = 0.25
    assert a_view.GetForegroundOpacity() == pytest.approx(0.25)
    panels.control("alignStyleSelector").currentIndex = 1
    display = scene.GetFirstNodeByName("T2 on T1").GetDisplayNode()
    assert display.GetColorNode().GetName() == "PET-Heat"


def test_the_views_belong_to_the_person_until_a_control_is_moved(panels, chosen, jobs, click, a_view):
    click(panels.control("alignButton"))
    jobs.answer(panels.widget.runner, answer())
    assert a_view.GetBackgroundVolumeID() is not None
    a_view.SetBackgroundVolumeID(None)
    panels.widget.updatePanels()
    node = panels.widget.panels["Align"].parameterNode
    for followed in (None, node):  # as when the scene is opened again
        panels.widget.setParameterNode(followed)
    assert a_view.GetBackgroundVolumeID() is None


def test_a_volume_that_goes_away_stops_the_job(panels, chosen, jobs, studies, scene, click):
    click(panels.control("alignButton"))
    scene.RemoveNode(studies[1])
    panels.widget.runner.poll()
    assert jobs.cancelled == [1]


def test_everything_fits_into_350_pixels(panels):
    assert panels.open("align").minimumSizeHint.width() <= 342
