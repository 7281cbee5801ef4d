"""The section Joint: two segmented studies go through the real child, and say where they contradict each other."""
# ruff: noqa: PLC0415 - the scene and the panels are loaded late

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture
def parameters(window):
    return window.widget.panels["Joint"].parameters


@pytest.fixture
def drawn(scene, studies):
    """On both studies a box, which lies 4 mm to the right in the second; of the second's edge too much is drawn."""
    from MedSegRegLib.image import Labels, Structure
    from MedSegRegLib.mrml.segmentations import write_segmentation
    from MedSegRegLib.mrml.volumes import geometry_of_node

    def draw(study, shift, edge):
        array = np.zeros((32, 32, 32))
        array[10:16, 12:20, 12 + shift : 20 + shift] = 1
        array[18:24, 12:20, 12 + shift : edge + shift] = 2
        labels = Labels.from_array(array, geometry_of_node(study), (Structure(1, "Box"), Structure(2, "Edge")))
        return write_segmentation(labels, scene, name=f"{study.GetName()} drawing", reference=study)

    return [draw(studies[0], 0, 16), draw(studies[1], 2, 22)]


def choose(window, studies, drawn):
    window.open("joint")
    for name, node in zip(("Fixed", "Moving", "FixedLabels", "MovingLabels"), (*studies, *drawn), strict=True):
        window.control(f"joint{name}Selector").setCurrentNode(node)


def rows(window):
    table = window.control("jointTable")
    return [[table.item(row, column).text() for column in range(table.columnCount)] for row in range(table.rowCount)]


def test_the_button_waits_for_two_segmented_studies(panels, studies, drawn):
    button = panels.control("jointButton")
    assert "Select two volumes" in button.toolTip
    choose(panels, (studies[0], studies[0]), drawn)
    assert "the same" in button.toolTip
    choose(panels, studies, drawn)
    assert button.enabled


def test_a_click_refines_both_studies(at_work, parameters, scene, studies, drawn):
    from MedSegRegLib.mrml.provenance import read_provenance
    from MedSegRegLib.mrml.segmentations import labels_from_segmentation
    from MedSegRegLib.mrml.volumes import geometry_of_node, image_from_node
    from MedSegRegPanels.registration_presets import PresetOrAutomatic

    choose(at_work, studies, drawn)
    parameters.jointPreset = PresetOrAutomatic.QUICK
    at_work.run(at_work.control("jointButton"), seconds=500)
    assert at_work.desktop.messages == []
    assert rows(at_work)[0][0] == "Edge"
    assert float(rows(at_work)[0][1]) < 0.8 < float(rows(at_work)[1][1])
    assert "contradict each other most in Edge" in at_work.control("jointLabel").text
    own = labels_from_segmentation(drawn[0], geometry_of_node(studies[0])).numpy()
    proposal = labels_from_segmentation(scene.GetFirstNodeByName("T1 proposal"), geometry_of_node(studies[0])).numpy()
    assert (own == 2).sum() < (proposal == 2).sum()
    apart = image_from_node(scene.GetFirstNodeByName("T1 disagreement")).numpy()[0]
    assert apart[20, 16, 14] == 0 < apart[20, 16, 18]
    assert not scene.GetFirstNodeByName("T2 carried from T1").GetDisplayNode().GetVisibility()
    for name in ("T2 to T1", "T1 to T2 (inverse)", "T2 proposal", "T1 agreement"):
        assert read_provenance(scene.GetFirstNodeByName(name))["preset"] == "quick"


def test_a_click_on_a_row_moves_the_slice_views_there(panels, jobs, parameters, studies, drawn, click, desktop):
    choose(panels, studies, drawn)
    click(panels.control("jointButton"))
    assert jobs.submitted[0][0] == "joint"
    assert sorted(jobs.submitted[0][2]) == ["fixed", "fixed_labels", "moving", "moving_labels"]
    jobs.answer(panels.widget.runner, answer(drawn))
    assert panels.desktop.messages == []
    panels.control("jointTable").cellClicked.emit(0, 0)
    views = desktop.application.layoutManager()
    assert abs(views.sliceWidget("Yellow").mrmlSliceNode().GetSliceToRAS().GetElement(0, 3) - 27.0) <= 2.0
    assert parameters.jointSaid == "Both agree."
    assert panels.open("joint").minimumSizeHint.width() <= 342


def answer(drawn):
    """What the job says when nothing moves and nothing is changed."""
    from MedSegRegLib.jobs import Chain, JobResult, Voxels
    from MedSegRegLib.mrml.evaluation_grid import reference_grid
    from MedSegRegLib.mrml.segmentations import labels_from_segmentation

    values = {"transform": Chain((np.eye(4),)), "inverse": Chain((np.eye(4),))}
    data = {"sentence": "Both agree.", "findings": [], "preset": "auto"}
    for study, node in zip(("fixed", "moving"), drawn, strict=True):
        labels = labels_from_segmentation(node, reference_grid(node))
        values |= {f"{study}_{what}": labels for what in ("own", "carried", "fused")}
        values[f"{study}_disagreement"] = Voxels(np.zeros((1, *labels.geometry.shape_kji), np.float32), labels.geometry)
        data[f"{study}_structures"] = {
            "structure": ["Edge", "Box"],
            "Dice, own and carried": [0.5, 1.0],
            "distance of borders (mm)": [1.0, 0.0],
        }
    from MedSegRegLib.jobs import as_value

    return JobResult(data, {name: as_value(value) for name, value in values.items()})
