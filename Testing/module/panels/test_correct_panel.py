"""The section Correct: a result is put right by points and regions, and each correction can be undone."""
# ruff: noqa: PLC0415 - the scene and the panels are loaded late

from __future__ import annotations

import numpy as np
import pytest
import slicer

PLACES = np.array([[24.0, 30.0, 30.0], [38.0, 26.0, 34.0], [30.0, 40.0, 24.0]])
WRONG_MM = 3.0  # by so much the result misses the true 4 mm


@pytest.fixture
def parameters(window):
    return window.widget.panels["Correct"].parameters


@pytest.fixture
def result(window, parameters, studies):
    """A deformable result that brings the moving study only a quarter of the way, and is chosen to be corrected."""
    import torch

    from MedSegRegLib.geometry import Geometry
    from MedSegRegLib.mrml.moving_study import place_under
    from MedSegRegLib.mrml.registration_results import Result, write_registration
    from MedSegRegLib.register.presets import PRESETS
    from MedSegRegLib.transform import Affine, Displacement, Transform

    grid = Geometry.from_spacing((24, 24, 24), (4.0, 4.0, 4.0), (-16.0, -16.0, -16.0))
    fields = [Displacement(torch.zeros(3, *grid.shape_kji), grid) for _ in range(2)]
    matrix = np.eye(4)
    matrix[0, 3] = 4.0 - WRONG_MM
    linear = Affine(matrix)
    facts = {
        "quality": {
            "similarity": "mi",
            "before": None,
            "after": 0.1,
            "overlap": 1.0,
            "folding": None,
            "inverse_consistency": {"mean_mm": 0.0, "p99_mm": 0.0, "max_mm": 0.0},
        },
        "dice": {},
        "landmarks_mm": None,
        "sentence": "Moves T2 onto T1.",
        "warnings": [],
        "settings": PRESETS["quick"].model_dump(mode="json"),
    }
    transform, inverse = Transform((fields[0], linear)), Transform((linear.inverse(), fields[1]))
    node = write_registration(Result(transform, inverse, facts), *studies)
    place_under(studies[1:], node)
    window.open("correct")
    parameters.correctTransform = node
    return node


@pytest.fixture
def pairs(parameters, result, scene):
    """Three pairs of points: where places are in the fixed study, and in the moving study as it is shown."""
    lists = [scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", name) for name in ("fixed", "moving")]
    lists[1].SetAndObserveTransformNodeID(result.GetID())
    for place in PLACES:
        lists[0].AddControlPointWorld(place)
        lists[1].AddControlPointWorld((place[0] + WRONG_MM, *place[1:]))
    parameters.correctFixedPoints, parameters.correctMovingPoints = lists
    return lists


def shown_apart(pairs) -> float:
    """Largest distance of partners in the views, in mm."""
    fixed, moving = (slicer.util.arrayFromMarkupsControlPoints(node, world=True) for node in pairs)
    return float(np.linalg.norm(fixed - moving, axis=1).max())


def test_the_button_waits_until_something_was_placed(panels, parameters, result, scene):
    button = panels.control("correctButton")
    assert not button.enabled
    assert "Place a pair" in button.toolTip
    parameters.correctFixedPoints = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode")
    assert "of both studies" in button.toolTip
    parameters.correctFixedPoints = None
    parameters.correctRigid = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    assert button.enabled
    parameters.correctTransform = None
    assert "Select the transform" in button.toolTip
    assert not panels.control("addPairButton").enabled


def test_a_placed_point_gets_a_partner_that_follows_the_moving_study(panels, parameters, result, click):
    click(panels.control("addPairButton"))
    fixed, moving = parameters.correctFixedPoints, parameters.correctMovingPoints
    assert moving.GetParentTransformNode() is result
    assert slicer.modules.markups.logic().GetActiveListID() == fixed.GetID()
    fixed.AddControlPointWorld((30.0, 31.0, 32.0))
    assert moving.GetNumberOfControlPoints() == 1
    assert moving.GetNthControlPointLabel(0) == fixed.GetNthControlPointLabel(0)
    np.testing.assert_allclose(moving.GetNthControlPointPositionWorld(0), (30, 31, 32), atol=0.01)
    np.testing.assert_allclose(moving.GetNthControlPointPosition(0), (31, 31, 32), atol=0.01)


def test_three_pairs_pull_the_study_into_place_and_that_can_be_undone(at_work, parameters, result, pairs, click):
    from MedSegRegLib.mrml.transforms import transform_from_node

    before = transform_from_node(result).map_points(PLACES)
    at_work.run(at_work.control("correctButton"))
    assert parameters.correctTransform is result
    assert shown_apart(pairs) < 1.0
    after = transform_from_node(result).map_points(PLACES)
    assert np.linalg.norm(after - PLACES - (4.0, 0, 0), axis=1).max() < 1.0
    assert "\u2192" in at_work.control("correctLabel").text
    back = transform_from_node(result.GetNodeReference("MedSegReg.inverse")).map_points(after)
    np.testing.assert_allclose(back, PLACES, atol=0.3)

    click(at_work.control("undoButton"))
    np.testing.assert_allclose(transform_from_node(result).map_points(PLACES), before, atol=1e-6)
    assert shown_apart(pairs) == pytest.approx(WRONG_MM, abs=0.05)
    assert at_work.control("correctStudyLabel").text == "Moves T2 onto T1."
    assert not at_work.control("undoButton").enabled


def test_points_that_do_not_pair_up_are_refused_before_anything_runs(panels, pairs, click):
    pairs[0].RemoveNthControlPoint(0)
    click(panels.control("correctButton"))
    assert not panels.widget.runner.busy
    assert "has 2 points" in panels.desktop.messages[0]


def test_a_cancelled_correction_leaves_the_result_as_it_was(panels, result, pairs, studies, scene, jobs, click):
    from MedSegRegLib.errors import Cancelled
    from MedSegRegLib.jobs import Failed, Intermediate, JobResult, as_value
    from MedSegRegLib.mrml.transforms import transform_from_node
    from MedSegRegLib.transform import Transform

    count, before = scene.GetNumberOfNodes(), transform_from_node(result).map_points(PLACES)
    click(panels.control("correctButton"))
    task, arguments, values = jobs.submitted[0]
    assert (task, set(values)) == ("correct", {"fixed", "moving", "transform"})
    np.testing.assert_allclose(np.array(arguments["moving_points"]) - arguments["fixed_points"], [[4.0, 0, 0]] * 3)
    jobs.events.append(Intermediate(1, JobResult({}, {"transform": as_value(Transform())})))
    panels.widget.runner.poll()
    assert studies[1].GetParentTransformNode() is pairs[1].GetParentTransformNode() is not result
    jobs.events.append(Failed(1, Cancelled()))
    panels.widget.runner.poll()
    assert scene.GetNumberOfNodes() == count
    assert studies[1].GetParentTransformNode() is pairs[1].GetParentTransformNode() is result
    np.testing.assert_array_equal(transform_from_node(result).map_points(PLACES), before)
    assert not panels.control("undoButton").enabled


def test_a_new_list_of_moving_points_shows_where_the_study_is(panels, parameters, result):
    node = panels.control("correctMovingPointsSelector").addNode()
    assert node.GetParentTransformNode() is result


def test_a_result_whose_volume_is_gone_cannot_be_corrected(panels, pairs, studies, scene, click):
    scene.RemoveNode(studies[1])
    click(panels.control("correctButton"))
    assert "was removed" in panels.desktop.messages[0]


def test_the_steps_of_a_removed_result_are_forgotten(panels, parameters, result, scene):
    panel = panels.widget.panels["Correct"]
    panel._before = [(result, None)]
    panel.update()
    assert panels.control("undoButton").enabled
    scene.RemoveNode(result)
    panel.update()
    assert panel._before == []


def test_everything_fits_into_350_pixels(panels, result):
    assert panels.open("correct").minimumSizeHint.width() <= 342
