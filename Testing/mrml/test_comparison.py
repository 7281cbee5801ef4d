"""Two studies in the slice views, and two segmentations as scores."""

from __future__ import annotations

import math

import numpy as np
import pytest
import slicer
from scipy.ndimage import label

from MedSegRegLib.errors import EmptyVolume, InputError, NodeError
from MedSegRegLib.evaluate.scores import compare_labels
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Image, Labels, Structure
from MedSegRegLib.mrml.checkerboard import CUBES, checkerboard_node
from MedSegRegLib.mrml.comparison import Comparison
from MedSegRegLib.mrml.evaluation_grid import reference_grid
from MedSegRegLib.mrml.headless import load_scene, save_scene
from MedSegRegLib.mrml.quality_nodes import jacobian_node
from MedSegRegLib.mrml.score_nodes import write_scores
from MedSegRegLib.mrml.segmentations import write_segmentation
from MedSegRegLib.mrml.shared_labels import labels_of_node, mask_of_node, shared_labels
from MedSegRegLib.mrml.volumes import node_from_image

GRID = Geometry.from_spacing((40, 40, 20), (1.0, 1.0, 2.0))


@pytest.fixture
def studies(scene):
    random = np.random.default_rng(0)
    return [
        node_from_image(Image.from_array(random.uniform(50, 100, GRID.shape_kji), GRID), scene, name)
        for name in ("T1", "T2")
    ]


@pytest.fixture
def a_view(scene, studies):
    """A slice view that shows the moving study."""
    node = scene.AddNewNodeByClass("vtkMRMLSliceCompositeNode")
    node.SetBackgroundVolumeID(studies[1].GetID())
    return node


def layers(view):
    return view.GetBackgroundVolumeID(), view.GetForegroundVolumeID(), view.GetForegroundOpacity()


def shown_alpha(volume) -> np.ndarray:
    """What VTK draws of a volume, by its display node: 0 is transparent."""
    producer = volume.GetDisplayNode().GetImageDataConnection().GetProducer()
    producer.Update()
    scalars = producer.GetOutput().GetPointData().GetScalars()
    alpha = np.array([scalars.GetComponent(n, 3) for n in range(scalars.GetNumberOfTuples())])
    return alpha.reshape(GRID.shape_kji)


def test_a_checkerboard_lets_half_of_the_other_study_through_in_cubes(studies):
    alpha = shown_alpha(checkerboard_node(studies[0], "board"))
    assert alpha.mean() == pytest.approx(127.5)
    side = 40 // CUBES
    assert (alpha[: side // 2, :side, :side] == alpha[0, 0, 0]).all()
    assert alpha[0, 0, side] != alpha[0, 0, 0]
    structure = np.ones((3, 3, 3)) * 0
    structure[1, 1] = structure[1, :, 1] = structure[:, 1, 1] = 1
    assert label(alpha > 0, structure)[1] == CUBES**3 // 2


def test_a_checkerboard_of_one_grey_value_is_no_error(scene):
    flat = node_from_image(Image.from_array(np.full(GRID.shape_kji, 7.0), GRID), scene, "flat")
    assert set(np.unique(shown_alpha(checkerboard_node(flat, "board")))) == {0.0, 255.0}


def test_views_show_both_studies_and_then_what_they_showed_before(scene, studies, a_view):
    before, count = layers(a_view), scene.GetNumberOfNodes()
    fixed, moving = (node.GetID() for node in studies)
    comparison = Comparison()
    comparison.show("blend", *studies)
    assert layers(a_view) == (fixed, moving, 0.5)
    comparison.show("flicker", *studies)
    seen = []
    for _ in range(3):
        seen.append(layers(a_view)[2])
        comparison.flip()
    assert seen == [0.0, 1.0, 0.0]
    comparison.show("checkerboard", *studies)
    assert layers(a_view)[0] == moving
    assert scene.GetNodeByID(layers(a_view)[1]).GetHideFromEditors()
    comparison.end()
    assert layers(a_view) == before
    assert scene.GetNumberOfNodes() == count


def test_ending_a_comparison_after_the_scene_was_closed_is_no_error(scene, studies, a_view):
    comparison = Comparison()
    comparison.show("checkerboard", *studies)
    scene.Clear(True)
    comparison.end()
    comparison.flip()


def labels_of(scene, studies, name, structures, shift=0):
    array = np.zeros(GRID.shape_kji)
    for n in range(len(structures)):
        array[5:10, 5 + 12 * n : 15 + 12 * n, 5 + shift : 15 + shift] = n + 1
    named = tuple(Structure(n + 1, structure) for n, structure in enumerate(structures))
    return write_segmentation(Labels.from_array(array, GRID, named), scene, name=name, reference=studies[0])


def test_scores_become_a_table_and_a_bar_chart(scene, studies):
    nodes = [labels_of(scene, studies, "a", ("left", "right")), labels_of(scene, studies, "b", ("right", "left"), 2)]
    truth, found = shared_labels(*nodes, GRID, GRID)
    scores = compare_labels(truth, found)
    table, chart = write_scores(scores, scene, "b against a")
    columns = {table.GetColumnName(n): n for n in range(table.GetNumberOfColumns())}
    cells = [[table.GetTable().GetValue(row, columns[name]) for name in ("Structure", "Dice")] for row in range(2)]
    assert [(name.ToString(), dice.ToDouble()) for name, dice in cells] == [
        (score.name, round(score.dice, 3)) for score in scores
    ]
    series = chart.GetNthPlotSeriesNode(0)
    assert series.GetTableNode() is table
    assert (series.GetLabelColumnName(), series.GetYColumnName()) == ("Structure", "Dice")
    assert series.GetPlotType() == slicer.vtkMRMLPlotSeriesNode.PlotTypeBar


def test_what_has_no_score_is_not_a_number(scene, studies):
    nothing = Labels.from_array(np.zeros(GRID.shape_kji), GRID, (Structure(1, "left"),))
    table, _ = write_scores(compare_labels(nothing, nothing), scene, "nothing")
    assert math.isnan(table.GetTable().GetValueByName(0, "Dice").ToDouble())


def test_names_decide_which_structures_belong_together(scene, studies):
    both = shared_labels(
        labels_of(scene, studies, "a", ("left", "right")), labels_of(scene, studies, "b", ("right",)), GRID, GRID
    )
    values = [{structure.name: structure.value for structure in labels.structures} for labels in both]
    assert values[0]["right"] == values[1]["right"]
    assert (both[1].numpy() == values[0]["right"]).sum() == 500


def test_two_segments_of_one_name_are_refused(scene, studies):
    node = labels_of(scene, studies, "a", ("left", "right"))
    node.GetSegmentation().GetNthSegment(1).SetName("left")
    with pytest.raises(InputError, match="each name once"):
        shared_labels(node, node, GRID, GRID)


def test_a_label_map_serves_as_well_as_a_segmentation(scene, studies):
    node = labels_of(scene, studies, "a", ("left", "right"))
    expected = labels_of_node(node, GRID).numpy()
    label_map = slicer.util.addVolumeFromArray(
        expected.astype("uint8"), GRID.ijk_to_ras, "a", "vtkMRMLLabelMapVolumeNode"
    )
    np.testing.assert_array_equal(labels_of_node(label_map, GRID).numpy(), expected)
    np.testing.assert_array_equal(mask_of_node(label_map, GRID).numpy(), expected > 0)
    with pytest.raises(NodeError):
        labels_of_node(studies[0], GRID)


def test_the_grid_of_an_evaluation_is_that_of_the_source_volume(scene, studies, a_linear_parent):
    node = labels_of(scene, studies, "a", ("left",))
    assert reference_grid(node).same_grid(GRID)
    node.SetAndObserveTransformNodeID(a_linear_parent.GetID())
    shift = reference_grid(node).origin_ras - GRID.origin_ras
    np.testing.assert_allclose(shift, (7, -4, 2), atol=1e-9)
    with pytest.raises(InputError, match="no reference geometry"):
        reference_grid(scene.AddNewNodeByClass("vtkMRMLSegmentationNode"))


def test_refuses_a_checkerboard_of_a_volume_without_voxels(scene):
    with pytest.raises(EmptyVolume):
        checkerboard_node(scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode"), "board")


def test_tables_charts_and_colours_come_back_with_the_scene_and_boards_do_not(scene, studies, tmp_path):
    node = labels_of(scene, studies, "a", ("left", "right"))
    write_scores(compare_labels(*shared_labels(node, node, GRID, GRID)), scene, "a against a")
    jacobian_node(Image.from_array(np.ones(GRID.shape_kji), GRID), scene, "change")
    checkerboard_node(studies[0], "board")
    save_scene(scene, tmp_path / "scene.mrb")
    again = load_scene(tmp_path / "scene.mrb")
    assert again.GetFirstNodeByName("board") is None
    table = again.GetFirstNodeByName("a against a").GetTable()
    assert table.GetValueByName(0, "Dice").ToDouble() == 1.0
    assert again.GetFirstNodeByName("a against a: chart").GetNthPlotSeriesNode(0).GetTableNode().GetTable() is table
    colors = again.GetFirstNodeByName("change").GetDisplayNode().GetColorNode()
    rgba = [0.0] * 4
    colors.GetColor(0, rgba)
    np.testing.assert_allclose(rgba, (0.85, 0, 0.85, 1), atol=0.01)
