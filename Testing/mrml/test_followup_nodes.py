"""Compared visits in real MRML: maps with their colours, tables, a chart, a report, in one undo step."""

from __future__ import annotations

import numpy as np
import pytest
import vtk

from MedSegRegLib.errors import NodeError
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Image
from MedSegRegLib.mrml.followup import Maps, write_followup
from MedSegRegLib.mrml.followup_links import jump_to_change, linked_to
from MedSegRegLib.mrml.headless import load_scene, save_scene
from MedSegRegLib.mrml.provenance import read_provenance
from MedSegRegLib.mrml.volumes import geometry_of_node, node_from_image
from MedSegRegLib.transform import Affine, Displacement, Transform

GRID = Geometry.from_spacing((12, 11, 10), (2.0, 2.0, 2.0), (-11.0, -10.0, -9.0))
TABLE = {"structure": ["lobe", "lesion 1"], "change (ml)": [0.1, 0.5], "verdict": ["unchanged", "grown"]}
PLACES = [[0.0, 1.0, 2.0], [3.0, -4.0, 5.0]]
VOLUMES = {
    "visit": ["A", "B"],
    "number": [1.0, 2.0],
    "lobe (ml)": [5.0, 5.1],
    "lobe, least (ml)": [4.8, 4.9],
    "lobe, most (ml)": [5.2, 5.3],
}


def shifted(r: float) -> np.ndarray:
    matrix = np.eye(4)
    matrix[0, 3] = r
    return matrix


def image(value: float) -> Image:
    return Image.from_array(np.full(GRID.shape_kji, value), GRID)


@pytest.fixture
def visits(scene):
    noise = np.random.default_rng(0).normal(100, 10, GRID.shape_kji)
    return [node_from_image(Image.from_array(noise, GRID), scene, name) for name in ("A", "B")]


def write(visits, **more):
    bend = Displacement(np.zeros((3, *GRID.shape_kji), np.float32), GRID)
    forward = Transform((Affine(shifted(1.0)), bend, Affine(shifted(1.0))))
    back = Transform((Affine(shifted(-1.0)), bend, Affine(shifted(-1.0))))
    maps = [Maps(forward, back, image(-4.0), image(1.1), TABLE, PLACES)]
    midway = [shifted(-1.0), shifted(1.0)]
    return write_followup(visits, midway, [image(90.0), image(95.0)], maps, VOLUMES, **more)


def test_everything_is_named_after_the_visits(visits):
    nodes = write(visits, report="<h1>Follow-up</h1>")
    assert [node.GetName() for node in nodes.midway] == ["A mid-way", "B mid-way"]
    assert [node.GetName() for node in nodes.to_midway] == ["A to mid-way", "B to mid-way"]
    named = nodes.transforms, nodes.inverses, nodes.changes, nodes.jacobians, nodes.tables
    assert [one[0].GetName() for one in named] == [
        "B to A",
        "A to B (inverse)",
        "A to B change",
        "A to B volume change",
        "A to B changes",
    ]
    assert nodes.report.GetText() == "<h1>Follow-up</h1>"


def test_the_later_visit_lies_on_the_earlier_under_the_transform(visits):
    nodes = write(visits)
    to_world = vtk.vtkGeneralTransform()
    nodes.transforms[0].GetTransformToWorld(to_world)
    np.testing.assert_allclose(to_world.TransformPoint((2.0, 0.0, 0.0)), (0.0, 0.0, 0.0), atol=1e-6)
    for node, transform, shift in zip(visits, nodes.to_midway, (1.0, -1.0), strict=True):
        node.SetAndObserveTransformNodeID(transform.GetID())
        np.testing.assert_allclose(geometry_of_node(node).origin_ras - GRID.origin_ras, (shift, 0, 0), atol=1e-9)


def test_maps_are_shown_in_diverging_colours_that_are_the_same_everywhere(scene, visits):
    nodes = write(visits)
    display = nodes.changes[0].GetDisplayNode()
    assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == (-8.0, 8.0)
    colors, rgba = display.GetColorNode(), [0.0] * 4
    for place, dominant in ((60, 2), (200, 0)):
        colors.GetColor(place, rgba)
        assert rgba[dominant] == max(rgba[:3])
    colors.GetColor(128, rgba)
    assert max(rgba[:3]) < 0.05
    assert write(visits).changes[0].GetDisplayNode().GetColorNode() is colors
    assert nodes.jacobians[0].GetDisplayNode().GetColorNode() is not colors


def test_the_chart_has_a_line_and_the_ends_of_its_error_bar(visits):
    nodes = write(visits)
    series = [nodes.chart.GetNthPlotSeriesNode(n) for n in range(nodes.chart.GetNumberOfPlotSeriesNodes())]
    assert [one.GetName() for one in series] == ["lobe", "lobe, least (ml)", "lobe, most (ml)"]
    assert {one.GetTableNode() for one in series} == {nodes.volumes}
    assert {one.GetColor() for one in series} == {series[0].GetColor()}
    assert [one.GetYColumnName() for one in series] == [name for name in VOLUMES if name.endswith("(ml)")]
    assert series[1].GetLineStyle() != series[0].GetLineStyle()


def test_a_table_leads_to_its_maps_and_a_row_to_its_place(scene, visits):
    nodes = write(visits, report="page")
    (table,) = nodes.tables
    assert linked_to(table, "change") is nodes.changes[0]
    assert linked_to(table, "later") is nodes.midway[1]
    assert linked_to(table, "report") is nodes.report
    assert linked_to(None, "change") is None
    view = scene.AddNewNodeByClass("vtkMRMLSliceNode", "Red")
    jump_to_change(table, 1)
    centre = [view.GetSliceToRAS().GetElement(axis, 3) for axis in range(3)]
    assert centre[2] == pytest.approx(5.0)


def test_it_is_undone_in_one_step(scene, visits):
    scene.SetUndoOn()
    write(visits, report="page")
    scene.Undo()
    for name in ("A to B change", "A to B changes", "B to A", "A mid-way", "Report of A to B"):
        assert scene.GetFirstNodeByName(name) is None, name
    assert scene.GetFirstNodeByName("A") is not None


def test_all_survives_a_saved_scene(scene, visits, tmp_path):
    write(visits, provenance={"preset": "followup"}, report="page")
    save_scene(scene, tmp_path / "compared.mrb")
    opened = load_scene(tmp_path / "compared.mrb")
    table = opened.GetFirstNodeByName("A to B changes")
    assert table.GetTable().GetValueByName(1, "verdict").ToString() == "grown"
    assert linked_to(table, "change").GetName() == "A to B change"
    assert linked_to(table, "report").GetText() == "page"
    assert read_provenance(table)["preset"] == "followup"


def test_a_visit_that_was_removed_meanwhile_is_told(scene, visits):
    scene.RemoveNode(visits[0])
    nodes = scene.GetNumberOfNodes()
    with pytest.raises(NodeError, match="removed"):
        write(visits)
    assert scene.GetNumberOfNodes() == nodes


def test_visits_without_labels_have_maps_but_no_chart(visits):
    maps = [Maps(Transform(), Transform(), image(0.0), image(1.0), {name: [] for name in TABLE}, [])]
    nodes = write_followup(visits, [np.eye(4)] * 2, [image(1.0)] * 2, maps, {"visit": ["A", "B"], "number": [1.0, 2.0]})
    assert nodes.chart is nodes.volumes is nodes.report is None
    assert nodes.tables[0].GetNumberOfRows() == 0
