"""The section Evaluate: two segmentations become a table and a chart."""
# ruff: noqa: PLC0415 - the scene and the panels are loaded late

from __future__ import annotations

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
