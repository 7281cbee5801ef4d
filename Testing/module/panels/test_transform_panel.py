"""The section Transform: what a transform of the scene does, in a sentence and in numbers."""
# ruff: noqa: PLC0415 - the scene and the panels are loaded late

from __future__ import annotations

import numpy as np
import pytest

SHIFT_MM = 4.0  # of the studies in conftest.py


@pytest.fixture
def parameters(window):
    return window.widget.panels["Transform"].parameters


@pytest.fixture
def shift(scene):
    """The transform that brings the second study onto the first."""
    from MedSegRegLib.mrml.transforms import write_transform
    from MedSegRegLib.transform import Affine, Transform

    matrix = np.eye(4)
    matrix[0, 3] = SHIFT_MM
    return write_transform(Transform((Affine(matrix),)), scene, "T2 to T1")


@pytest.fixture
def bend(scene, studies):
    """A field that ends abruptly on the border of the studies' grid, as VTK itself draws it."""
    from MedSegRegLib.mrml.transforms import write_transform
    from MedSegRegLib.mrml.volumes import geometry_of_node
    from MedSegRegLib.transform import Displacement, Transform

    grid = geometry_of_node(studies[0])
    k, j, i = np.indices(grid.shape_kji)
    vectors = np.stack([3.0 + np.sin(k / 5), np.cos(j / 4), 0.0 * i]).astype(np.float32)
    return write_transform(Transform((Displacement(vectors, grid),)), scene, "bend")


def rows(window) -> dict[str, str]:
    table = window.control("contractTableWidget")
    return {table.item(row, 0).text(): table.item(row, 1).text() for row in range(table.rowCount)}


def test_the_button_waits_for_a_transform(panels, shift):
    panels.open("transform")
    button = panels.control("contractButton")
    assert "Select a transform" in button.toolTip
    panels.control("contractTransformSelector").setCurrentNode(shift)
    assert button.enabled


def test_a_result_brings_its_volumes_along(panels, parameters, shift, studies):
    from MedSegRegLib.mrml.result_links import ROLES

    for role, node in zip(("fixed", "moving"), studies, strict=True):
        shift.SetNodeReferenceID(ROLES[role], node.GetID())
    panels.open("transform")
    panels.control("contractTransformSelector").setCurrentNode(shift)
    assert (parameters.contractFixed, parameters.contractMoving) == tuple(studies)


def test_a_click_says_what_moves_onto_what(at_work, parameters, shift, studies, scene):
    at_work.open("transform")
    parameters.contractTransform = shift
    parameters.contractFixed, parameters.contractMoving = studies
    at_work.run(at_work.control("contractButton"), seconds=400)
    assert at_work.desktop.messages == []
    said = at_work.control("contractLabel").text
    assert "moves the voxels of T2 onto T1" in said
    assert "4.0 mm" in said
    assert "Nothing speaks against" in said
    facts = rows(at_work)
    assert facts["Stage 1"] == "linear, 4x4 matrix"
    assert float(facts["Points, images and ITK agree to (mm)"]) < 0.1
    assert float(facts["Slicer agrees to (mm)"]) < 0.001
    assert float(facts["Inverse error, largest (mm)"]) < 0.001
    assert float(facts["Alikeness, through"]) > float(facts["Alikeness, reversed"])
    parameters.contractFixed, parameters.contractMoving = studies[::-1]
    at_work.run(at_work.control("contractButton"), seconds=400)
    assert "lead the other way" in at_work.control("contractLabel").text


def test_a_field_is_read_as_slicer_applies_it(scene, bend, studies):
    """Twice the same check, on a field and on the same field shifted by a tenth of a voxel, which must be noticed."""
    from MedSegRegLib.mrml.contract_nodes import read_contract_nodes, slicer_disagreement_mm
    from MedSegRegLib.transform import Displacement, Transform

    values = read_contract_nodes(bend, *studies)
    assert slicer_disagreement_mm(bend, values["transform"], values["fixed"].geometry) < 0.01
    stage = values["transform"].stages[0]
    moved = Transform((Displacement(stage.numpy() + 0.2, stage.geometry),))
    assert slicer_disagreement_mm(bend, moved) == pytest.approx(0.2 * np.sqrt(3), abs=0.01)


def test_a_bad_transform_is_told_with_its_reasons(panels, jobs, parameters, bend, click):
    from MedSegRegLib.jobs import JobResult

    panels.open("transform")
    parameters.contractTransform = bend
    click(panels.control("contractButton"))
    assert set(jobs.submitted[0][2]) == {"transform"}
    data = {
        "sentence": "Takes points there.",
        "stages": ["displacement field"],
        "points_and_images_mm": 0.01,
        "inverse": {"mean_mm": 0.1, "p99_mm": 0.5, "max_mm": 2.0},
        "folding": {"voxels_any_corner": 7},
        "support": {"covered": 0.5, "lowest_ras_mm": [0, 0, 0], "highest_ras_mm": [9, 9, 9], "border_mm": 3.0},
        "direction": None,
        "findings": [{"level": "warn", "message": "7 voxels fold.", "fix": "There it has no inverse."}],
    }
    jobs.answer(panels.widget.runner, JobResult(data, {}))
    assert panels.control("contractLabel").text == "Takes points there.\n7 voxels fold. There it has no inverse."
    assert rows(panels)["Folded voxels"] == "7"
    assert rows(panels)["Fixed points in the field (%)"] == "50.0"
    assert parameters.contractTable.GetName() == "Check of bend"
    assert panels.open("transform").minimumSizeHint.width() <= 342
