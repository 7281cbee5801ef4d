"""The section Carry: a segmentation, points and a model go to another study, with a list of what to look at first."""
# ruff: noqa: PLC0415 - the scene and the panels are loaded late

from __future__ import annotations

import numpy as np
import pytest

SHIFT_MM = 4.0  # of the studies in conftest.py: what is drawn on T1 belongs 4 mm to the right on T2


@pytest.fixture
def parameters(window):
    return window.widget.panels["Carry"].parameters


@pytest.fixture
def drawn(scene, studies):
    """On the first study: a segmentation of a box and of one that lies outside the second, points and a model."""
    import vtk

    from MedSegRegLib.image import Labels, Structure
    from MedSegRegLib.mrml.segmentations import write_segmentation
    from MedSegRegLib.mrml.volumes import geometry_of_node

    array = np.zeros((32, 32, 32))
    array[12:20, 12:20, 12:20] = 1
    array[1:3, 1:3, 31:] = 2
    labels = Labels.from_array(array, geometry_of_node(studies[0]), (Structure(1, "Box"), Structure(2, "Edge")))
    segmentation = write_segmentation(labels, scene, name="Drawing", reference=studies[0])
    points = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "Points")
    points.AddControlPoint([30.0, 30.0, 30.0], "middle")
    ball = vtk.vtkSphereSource()
    ball.Update()
    model = scene.AddNewNodeByClass("vtkMRMLModelNode", "Ball")
    model.SetAndObserveMesh(ball.GetOutput())
    return segmentation, points, model


def choose(window, studies, segmentation=None):
    window.open("carry")
    nodes = (*studies, segmentation)
    for name, node in zip(
        ("carrySourceSelector", "carryTargetSelector", "carrySegmentationSelector"), nodes, strict=True
    ):
        window.control(name).setCurrentNode(node)


def tick(window, name, node):
    import qt

    window.control(name).setCheckState(node, qt.Qt.Checked)


def test_the_button_waits_for_two_studies_and_something_to_carry(panels, studies, drawn):
    button = panels.control("carryButton")
    assert "source and the target" in button.toolTip
    choose(panels, (studies[0], studies[0]))
    assert "same volume" in button.toolTip
    choose(panels, studies)
    assert "Select a segmentation" in button.toolTip
    tick(panels, "carryModelsSelector", drawn[2])
    assert button.enabled


def test_settings_survive_leaving_the_module(panels, parameters, studies, drawn):
    import qt

    choose(panels, studies, drawn[0])
    tick(panels, "carryMarkupsSelector", drawn[1])
    panels.control("carryPresetSelector").currentIndex = 1
    panels.exit()
    panels.enter()
    assert [node.GetName() for node in parameters.carryMarkups] == ["Points"]
    assert panels.control("carryMarkupsSelector").checkState(drawn[1]) == qt.Qt.Checked
    assert parameters.carryPreset.value == "rigid"


def test_the_first_choice_is_automatic_and_the_others_are_the_presets(window):
    from MedSegRegPanels.registration_presets import PresetOrAutomatic, RegistrationPreset

    assert [preset.value for preset in PresetOrAutomatic] == ["auto", *(one.value for one in RegistrationPreset)]
    assert all(preset.label() and preset.purpose() for preset in PresetOrAutomatic)


def test_a_click_carries_everything_to_the_other_study(at_work, parameters, scene, studies, drawn):
    from MedSegRegLib.mrml.provenance import read_provenance
    from MedSegRegLib.mrml.segmentations import labels_from_segmentation
    from MedSegRegLib.mrml.volumes import geometry_of_node
    from MedSegRegPanels.registration_presets import PresetOrAutomatic

    choose_all(at_work, studies, drawn)
    parameters.carryPreset = PresetOrAutomatic.RIGID
    at_work.run(at_work.control("carryButton"), seconds=400)
    assert at_work.desktop.messages == []
    segmentation = scene.GetFirstNodeByName("Drawing on T2")
    labels = labels_from_segmentation(segmentation, geometry_of_node(studies[1]))
    expected = np.zeros((32, 32, 32), bool)
    expected[12:20, 12:20, 14:22] = True
    box = labels.numpy() == 1
    assert 2 * (box & expected).sum() / (box.sum() + expected.sum()) > 0.95
    place = np.array(scene.GetFirstNodeByName("Points on T2").GetNthControlPointPositionWorld(0))
    assert np.linalg.norm(place - (30 + SHIFT_MM, 30, 30)) < 0.5
    bounds = np.zeros(6)
    scene.GetFirstNodeByName("Ball on T2").GetRASBounds(bounds)
    assert abs(bounds[:2].mean() - SHIFT_MM) < 0.5
    for name in ("T1 to T2", "T2 to T1 (inverse)", "Drawing on T2"):
        facts = read_provenance(scene.GetFirstNodeByName(name))
        assert facts["preset"] == "rigid"
        assert "review" not in facts
    assert "Carried 2 structures and 1 points" in at_work.control("carryLabel").text
    table = scene.GetFirstNodeByName("Review of points on T2").GetTable()
    assert table.GetValueByName(0, "point").ToString() == "middle"
    assert table.GetValueByName(0, "inside the target").ToString() == "yes"
    table = at_work.control("carryReviewTable")
    cells = [[table.item(row, column).text() for column in range(table.columnCount)] for row in range(table.rowCount)]
    assert [row[0] for row in cells] == ["Edge", "Box"]
    assert float(cells[0][1]) < float(cells[1][1])


def choose_all(window, studies, drawn):
    choose(window, studies, drawn[0])
    tick(window, "carryMarkupsSelector", drawn[1])
    tick(window, "carryModelsSelector", drawn[2])


def answer(drawn):
    """What the job says for a shift that is known: the first structure is there, the second is lost."""
    from MedSegRegLib.jobs import Chain, JobResult, Voxels
    from MedSegRegLib.mrml.evaluation_grid import reference_grid
    from MedSegRegLib.mrml.segmentations import labels_from_segmentation

    there, back = np.eye(4), np.eye(4)
    there[0, 3], back[0, 3] = -SHIFT_MM, SHIFT_MM
    labels = labels_from_segmentation(drawn[0], reference_grid(drawn[0]))
    array = np.roll(labels.numpy() * (labels.numpy() == 1), 2, axis=2)
    structures = tuple(
        {"value": value, "name": name, "color": (1.0, 0.0, 0.0)} for value, name in ((1, "Box"), (2, "Edge"))
    )
    review = {
        "structure": ["Edge", "Box"],
        "confidence": [0.0, 0.98765],
        "border error (mm)": [float("nan"), 0.2],
        "remark": ["lies outside the target's field of view", ""],
    }
    data = {
        "sentence": "Carried 2 structures and 1 points.",
        "review": review,
        "points_ras": [[34.0, 30.0, 30.0]],
        "points_disagreement_mm": [0.25],
        "points_inside": [True],
        "findings": [{"level": "warn", "message": "Nothing of Edge lies in the target", "fix": "Check it."}],
        "preset": "rigid",
    }
    values = {
        "transform": Chain((there,)),
        "inverse": Chain((back,)),
        "labels": Voxels(array, labels.geometry, "Drawing", structures),
    }
    return JobResult(data, values)


@pytest.fixture
def carried(panels, jobs, studies, drawn, click):
    """All of it, by a click and a job system that says what is known."""
    choose_all(panels, studies, drawn)
    click(panels.control("carryButton"))
    jobs.answer(panels.widget.runner, answer(drawn))
    assert panels.desktop.messages == []
    return panels


def test_the_review_is_shown_the_most_doubtful_structure_first(carried, parameters):
    table = carried.control("carryReviewTable")
    cells = [[table.item(row, column).text() for column in range(table.columnCount)] for row in range(table.rowCount)]
    assert [row[0] for row in cells] == ["Edge", "Box"]
    assert [row[1] for row in cells] == ["0", "0.988"]
    assert "field of view" in cells[0][2]
    assert "Nothing of Edge lies in the target. Check it." in carried.control("carryLabel").text
    assert parameters.carryReview.GetName() == "Review of Drawing"


def test_a_click_on_a_row_moves_the_slice_views_there(carried, desktop):
    table = carried.control("carryReviewTable")
    table.cellClicked.emit(1, 0)
    views = desktop.application.layoutManager()
    for name, axis, middle in (("Red", 2, 31.0), ("Green", 1, 31.0), ("Yellow", 0, 35.0)):
        to_ras = views.sliceWidget(name).mrmlSliceNode().GetSliceToRAS()
        assert abs(to_ras.GetElement(axis, 3) - middle) <= 2.0
    assert desktop.statuses[-1:] != ["There is nothing of this structure in the target."]
    table.cellActivated.emit(0, 0)
    assert desktop.statuses[-1] == "There is nothing of this structure in the target."


def test_the_review_still_leads_to_its_structures_after_the_scene_was_saved(carried, parameters, tmp_path, scene):
    from MedSegRegLib.mrml.headless import load_scene, save_scene
    from MedSegRegLib.mrml.review_links import REVIEWED

    save_scene(scene, tmp_path / "scene.mrb")
    again = load_scene(tmp_path / "scene.mrb")
    table = again.GetFirstNodeByName("Review of Drawing")
    assert table.GetNodeReference(REVIEWED).GetName() == "Drawing on T2"
    again.Clear(True)


def test_a_source_that_lies_under_a_result_is_carried_from_its_own_place(carried, jobs, scene, studies, drawn, click):
    """The source study was put under a result, as a person does to look at it; carried again, it is the same."""
    from MedSegRegLib.mrml.provenance import write_provenance

    transform = scene.GetFirstNodeByName("T1 to T2")
    write_provenance(transform, {"fixed": "T2"})
    for node in (studies[0], *drawn):
        node.SetAndObserveTransformNodeID(transform.GetID())
    click(carried.control("carryButton"))
    values, again = jobs.submitted[0][2], jobs.submitted[1][2]
    np.testing.assert_array_equal(again["source"].geometry.ijk_to_ras, values["source"].geometry.ijk_to_ras)
    np.testing.assert_array_equal(again["labels"].numpy(), values["labels"].numpy())
    assert jobs.submitted[0][1] == jobs.submitted[1][1]
    jobs.answer(carried.widget.runner, answer(drawn))
    for points in map(scene.GetNodesByName("Points on T2").GetItemAsObject, range(2)):
        np.testing.assert_allclose(points.GetNthControlPointPositionWorld(0), (34, 30, 30))
    assert drawn[0].GetTransformNodeID() == transform.GetID()


def test_a_node_that_goes_away_stops_the_job(panels, jobs, studies, drawn, scene, click):
    choose(panels, studies, drawn[0])
    click(panels.control("carryButton"))
    assert jobs.submitted[0][0] == "carry"
    scene.RemoveNode(drawn[0])
    panels.widget.runner.poll()
    assert jobs.cancelled == [1]
    assert not panels.widget.runner.busy


def test_everything_fits_into_350_pixels(carried):
    assert carried.open("carry").minimumSizeHint.width() <= 342
