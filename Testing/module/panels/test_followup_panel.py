"""The section Follow-up: two visits become a table of changes, maps, a chart and a report."""
# ruff: noqa: PLC0415 - the scene and the panels are loaded late

from __future__ import annotations

import numpy as np
import pytest

SHIFT = 2  # voxels, of the studies in conftest.py


@pytest.fixture
def parameters(window):
    return window.widget.panels["Followup"].parameters


@pytest.fixture
def drawn(scene, studies):
    """On both visits a box that stays as it is, and a lesion that has grown; with other label values at the second."""
    from MedSegRegLib.image import Labels, Structure
    from MedSegRegLib.mrml.segmentations import write_segmentation
    from MedSegRegLib.mrml.volumes import geometry_of_node

    made = []
    for study, size, shift, values in zip(studies, (4, 8), (0, SHIFT), ((1, 2), (2, 1)), strict=True):
        array = np.zeros((32, 32, 32))
        array[18:22, 18:22, 18 + shift : 22 + shift] = values[0]
        array[8 : 8 + size, 8 : 8 + size, 8 + shift : 8 + size + shift] = values[1]
        structures = (Structure(values[0], "Box"), Structure(values[1], "Lesion"))
        labels = Labels.from_array(array, geometry_of_node(study), structures)
        made.append(write_segmentation(labels, scene, name=f"Drawing on {study.GetName()}", reference=study))
    return made


def choose(window, studies, drawn=(None, None)):
    window.open("followup")
    for name, node in zip(("First", "Second"), studies, strict=True):
        window.control(f"followup{name}Selector").setCurrentNode(node)
    for name, node in zip(("First", "Second"), drawn, strict=True):
        window.control(f"followup{name}LabelsSelector").setCurrentNode(node)


def test_the_button_waits_for_two_visits(panels, studies):
    button = panels.control("followupButton")
    assert "two visits" in button.toolTip
    choose(panels, (studies[0], studies[0]))
    assert "two visits" in button.toolTip
    assert not button.enabled
    choose(panels, studies)
    assert button.enabled


def test_settings_survive_leaving_the_module(panels, parameters, studies):
    choose(panels, studies)
    panels.control("followupSpacingSpinBox").value = 3.0
    panels.control("followupReferenceEdit").text = "Skull"
    panels.control("followupMotionSelector").currentIndex = 1
    panels.exit()
    panels.enter()
    assert parameters.followupSpacing == 3.0
    assert parameters.followupReference == "Skull"
    assert parameters.followupMotion.value == "rigid"


def test_a_visit_without_the_structure_to_hold_still_is_told(panels, parameters, studies, drawn, click):
    choose(panels, studies, drawn)
    parameters.followupReference = "Skull"
    click(panels.control("followupButton"))
    assert "no structure 'Skull'" in panels.desktop.messages[0]
    assert not panels.widget.runner.busy


def test_a_click_gives_changes_maps_a_chart_and_a_report(at_work, parameters, scene, studies, drawn, click):
    import vtk

    from MedSegRegLib.mrml.followup_links import linked_to
    from MedSegRegPanels.followup_panel import FollowupMap, FollowupMotion

    choose(at_work, studies, drawn)
    parameters.followupMotion = FollowupMotion.PATIENT
    parameters.followupSpacing = 3.0
    parameters.followupBorder = 0.3
    at_work.run(at_work.control("followupButton"), seconds=400)
    assert at_work.desktop.messages == []
    table = parameters.followupTable
    assert table.GetName() == "T1 to T2 changes"
    shown = at_work.control("followupChangesTable")
    cells = [[shown.item(row, column).text() for column in range(shown.columnCount)] for row in range(shown.rowCount)]
    assert [(row[0], row[-1]) for row in cells] == [("Box", "unchanged"), ("Lesion", "grown"), ("Lesion 1", "grown")]
    assert float(cells[2][1]) == pytest.approx((8**3 - 4**3) * 8 / 1000)
    assert "1 lesions: 1 grown" in at_work.control("followupLabel").text
    to_world = vtk.vtkGeneralTransform()
    scene.GetFirstNodeByName("T2 to T1").GetTransformToWorld(to_world)
    assert to_world.TransformPoint((30.0, 30.0, 30.0))[0] == pytest.approx(26.0, abs=0.5)
    assert "T1 to T2" in linked_to(table, "report").GetText()
    assert at_work.control("followupChartButton").enabled
    assert at_work.control("followupReportButton").enabled
    composite = scene.GetFirstNodeByClass("vtkMRMLSliceCompositeNode")
    before = composite.GetBackgroundVolumeID(), composite.GetForegroundVolumeID()
    parameters.followupMap = FollowupMap.CHANGE
    assert composite.GetForegroundVolumeID() == linked_to(table, "change").GetID()
    assert composite.GetBackgroundVolumeID() == linked_to(table, "later").GetID()
    parameters.followupMap = FollowupMap.OFF
    assert (composite.GetBackgroundVolumeID(), composite.GetForegroundVolumeID()) == before


def test_a_row_shows_its_change_in_the_slice_views(panels, parameters, scene, studies):
    from MedSegRegLib.mrml.followup_links import PLACE, link
    from MedSegRegLib.mrml.tables import write_table

    places = {heading: [value] for heading, value in zip(PLACE, (4.0, 5.0, 6.0), strict=True)}
    table = write_table(scene, "changes", {"structure": ["Box"], "verdict": ["grown"], **places})
    link(table, earlier=studies[0], later=studies[1], change=studies[0], jacobian=studies[1])
    parameters.followupTable = table
    panels.widget.panels["Followup"].onRowChosen(0)
    composite = scene.GetFirstNodeByClass("vtkMRMLSliceCompositeNode")
    assert composite.GetForegroundVolumeID() == studies[0].GetID()
    red = next(
        scene.GetNthNodeByClass(n, "vtkMRMLSliceNode")
        for n in range(scene.GetNumberOfNodesByClass("vtkMRMLSliceNode"))
        if scene.GetNthNodeByClass(n, "vtkMRMLSliceNode").GetLayoutName() == "Red"
    )
    assert red.GetSliceToRAS().GetElement(2, 3) == pytest.approx(6.0)


def test_everything_fits_into_350_pixels(panels):
    assert panels.open("followup").minimumSizeHint.width() <= 342
