"""The section Evaluate: two segmentations become a table and a chart."""
# ruff: noqa: PLC0415 - the scene and the panels are loaded late

from __future__ import annotations

from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pytest


@pytest.fixture
def parameters(window):
    return window.widget.panels["Evaluate"].parameters


@pytest.fixture
def segmentations(scene, studies):
    """A box, and the same box moved by a tenth of its size."""
    from MedSegRegLib.image import Labels, Structure
    from MedSegRegLib.mrml.segmentations import write_segmentation
    from MedSegRegLib.mrml.volumes import geometry_of_node

    made = []
    for name, shift in (("by hand", 0), ("by model", 1)):
        array = np.zeros((32, 32, 32))
        array[5:15, 5:15, 5 + shift : 15 + shift] = 1
        labels = Labels.from_array(array, geometry_of_node(studies[0]), (Structure(1, "Box"),))
        made.append(write_segmentation(labels, scene, name=name, reference=studies[0]))
    return made


@pytest.fixture
def chosen(window, segmentations):
    window.open("evaluate")
    for name, node in zip(("referenceSelector", "comparedSelector"), segmentations, strict=True):
        window.control(name).setCurrentNode(node)


def test_the_button_waits_for_two_segmentations(panels, segmentations):
    button = panels.control("evaluateButton")
    for name in ("referenceSelector", "comparedSelector"):
        assert not button.enabled
        panels.control(name).setCurrentNode(segmentations[0])
    assert "Both are the same" in button.toolTip
    panels.control("comparedSelector").setCurrentNode(segmentations[1])
    assert button.enabled
    assert not panels.control("chartButton").enabled


def test_a_click_gives_a_table_and_a_chart_named_after_both(at_work, parameters, chosen, scene):
    at_work.control("toleranceSpinBox").value = 3.0
    at_work.run(at_work.control("evaluateButton"))
    table = at_work.control("scoresTable")
    headings = [table.horizontalHeaderItem(column).text() for column in range(table.columnCount)]
    row = {heading: table.item(0, column).text() for column, heading in enumerate(headings)}
    assert row["Structure"] == "Box"
    assert float(row["Dice"]) == 0.9
    assert float(row["NSD"]) == 1.0
    assert float(row["Reference (ml)"]) == 8.0
    assert "Mean Dice 0.900 over 1 structures" in at_work.control("evaluateLabel").text
    assert parameters.evaluateTable.GetName() == "by model against by hand"
    assert parameters.evaluateChart.GetNthPlotSeriesNode(0).GetTableNode() is parameters.evaluateTable
    assert at_work.control("chartButton").enabled


def test_a_label_map_is_compared_as_a_segmentation_is(at_work, segmentations, studies, scene):
    """The label map is the reference, so the scores are those of the two segmentations the other way round."""
    import slicer

    colors = scene.AddNewNodeByClass("vtkMRMLColorTableNode", "names")
    colors.SetTypeToUser()
    colors.SetNumberOfColors(2)
    colors.SetColor(1, "Box", 1.0, 0.0, 0.0, 1.0)
    label_map = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "map")
    array = np.zeros((32, 32, 32), np.int16)
    array[5:15, 5:15, 6:16] = 1
    slicer.util.updateVolumeFromArray(label_map, array)
    label_map.CopyOrientation(studies[0])
    label_map.CreateDefaultDisplayNodes()
    label_map.GetDisplayNode().SetAndObserveColorNodeID(colors.GetID())
    at_work.open("evaluate")
    for name, node in (("referenceSelector", label_map), ("comparedSelector", segmentations[0])):
        at_work.control(name).setCurrentNode(node)
    at_work.run(at_work.control("evaluateButton"), seconds=400)
    assert at_work.desktop.messages == []
    assert "Mean Dice 0.900 over 1 structures" in at_work.control("evaluateLabel").text


def test_the_chart_is_shown_in_a_plot_view(panels, jobs, chosen, scene, click, monkeypatch):
    import slicer

    from MedSegRegLib.evaluate.scores import compare_labels
    from MedSegRegLib.jobs import JobResult

    application, logic = slicer.vtkSlicerApplicationLogic(), slicer.vtkSlicerPlotsLogic()
    scene.AddNewNodeByClass("vtkMRMLLayoutNode")
    application.SetMRMLScene(scene)
    logic.SetMRMLApplicationLogic(application)
    logic.SetMRMLScene(scene)
    monkeypatch.setattr(slicer.modules, "plots", SimpleNamespace(logic=lambda: logic), raising=False)
    view = scene.AddNewNodeByClass("vtkMRMLPlotViewNode")
    click(panels.control("evaluateButton"))
    scores = compare_labels(*(jobs.submitted[0][2][name] for name in ("truth", "prediction")))
    jobs.answer(panels.widget.runner, JobResult({"scores": [asdict(score) for score in scores]}, {}))
    click(panels.control("chartButton"))
    chart = scene.GetFirstNodeByName("by model against by hand: chart")
    assert view.GetPlotChartNodeID() == chart.GetID()
    series = chart.GetNthPlotSeriesNode(0)
    assert (series.GetYColumnName(), series.GetLabelColumnName()) == ("Dice", "Structure")
    values = series.GetTableNode().GetTable().GetColumnByName("Dice")
    assert [values.GetValue(row) for row in range(values.GetNumberOfValues())] == [0.9]


def test_scores_are_shown_again_when_the_module_is(panels, parameters, chosen, scene):
    from MedSegRegLib.mrml.tables import write_table

    parameters.evaluateTable = write_table(scene, "scores", {"Structure": ["Box"], "Dice": [0.5]})
    panels.exit()
    panels.enter()
    assert panels.control("scoresTable").item(0, 1).text() == "0.5"


def test_a_segmentation_that_does_not_say_its_grid_is_refused(panels, parameters, chosen, scene, click):
    parameters.evaluateReference = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "drawn by hand")
    click(panels.control("evaluateButton"))
    assert "no reference geometry" in panels.desktop.messages[0]
    assert not panels.widget.runner.busy


def test_everything_fits_into_350_pixels(panels, parameters, chosen, scene):
    from MedSegRegLib.mrml.tables import write_table

    parameters.evaluateTable = write_table(scene, "scores", {"Structure": ["Box"], "Dice": [0.5]})
    assert panels.open("evaluate").minimumSizeHint.width() <= 342
