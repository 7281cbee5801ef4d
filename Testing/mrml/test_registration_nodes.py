"""From a scene to what a registration is told, and from its result to nodes that stand together."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
import torch

from MedSegRegLib.errors import InputError, NodeError
from MedSegRegLib.evaluate.deformation import jacobian_determinant
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Image, Labels, Structure
from MedSegRegLib.mrml.live_preview import LivePreview
from MedSegRegLib.mrml.moving_study import nodes_under, place_under, study_nodes
from MedSegRegLib.mrml.points import add_partners, paired_points
from MedSegRegLib.mrml.quality_nodes import jacobian_colors, jacobian_node, write_quality
from MedSegRegLib.mrml.registration_inputs import RegistrationNodes
from MedSegRegLib.mrml.registration_results import Result, read_registration, write_registration
from MedSegRegLib.mrml.result_links import FORWARD, in_own_place, is_result, linked
from MedSegRegLib.mrml.segmentations import write_segmentation
from MedSegRegLib.mrml.transform_update import update_transform
from MedSegRegLib.mrml.transforms import transform_from_node, write_transform
from MedSegRegLib.mrml.volumes import node_from_image
from MedSegRegLib.transform import Affine, Displacement, Transform

FACTS = {
    "quality": {
        "similarity": "mi",
        "before": 0.2,
        "after": 0.5,
        "overlap": 0.9,
        "folding": {"voxels": 0, "percent": 0.0, "voxels_any_corner": 0, "percent_any_corner": 0.0},
        "sdlogj": 0.1,
        "inverse_consistency": {"mean_mm": 0.01, "p99_mm": 0.02, "max_mm": 0.03},
        "mean_motion_mm": 1.0,
        "largest_motion_mm": 2.0,
    },
    "landmarks_mm": {"before": 4.0, "after": 1.0},
    "dice": {"ball": {"before": 0.5, "after": None}},
    "sentence": "Moves T2 onto T1.",
}
PLACES = np.array([[-5.0, 20.0, 20.0], [0.0, 30.0, 30.0]])


def shifted(mm: float) -> Transform:
    matrix = np.eye(4)
    matrix[0, 3] = mm
    return Transform((Affine(matrix),))


def bent(grid: Geometry, mm: float) -> Transform:
    vectors = torch.zeros(3, *grid.shape_kji)
    vectors[1, 2:-2, 2:-2, 2:-2] = mm
    return Transform((Displacement(vectors, grid), *shifted(1.0).stages))


@pytest.fixture
def studies(scene, an_oblique_grid):
    """Two volumes of one grid with different voxels."""
    random = np.random.default_rng(0)
    images = [Image.from_array(random.normal(100, 20, an_oblique_grid.shape_kji), an_oblique_grid) for _ in range(2)]
    return [node_from_image(image, scene, name) for image, name in zip(images, ("T1", "T2"), strict=True)]


@pytest.fixture
def a_segmentation(scene, studies, an_oblique_grid):
    """Made on the moving study."""
    array = np.zeros(an_oblique_grid.shape_kji)
    array[3:6, 4:8, 5:9] = 1
    labels = Labels.from_array(array, an_oblique_grid, (Structure(1, "ball"),))
    return write_segmentation(labels, scene, name="organs", reference=studies[1])


def points(scene, name, places, labels=()):
    node = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", name)
    for n, place in enumerate(places):
        node.AddControlPointWorld(place, labels[n] if labels else f"P{n}")
    return node


def test_a_result_is_written_with_its_inverse_its_numbers_and_its_links(scene, studies, an_oblique_grid):
    transform = bent(an_oblique_grid, 3.0)
    resampled = Image.from_array(np.ones(an_oblique_grid.shape_kji), an_oblique_grid)
    node = write_registration(Result(transform, shifted(-1.0), FACTS, resampled, resampled), *studies)
    assert node.GetName() == "T2 to T1"
    assert linked(node, "inverse").GetName() == "T1 to T2"
    assert linked(node, "quality").GetName() == "T2 to T1 quality"
    assert (linked(node, "fixed"), linked(node, "moving")) == tuple(studies)
    assert {"T2 on T1", "T2 to T1 volume change"} <= {
        v.GetName() for v in slicer.util.getNodesByClass("vtkMRMLVolumeNode")
    }
    np.testing.assert_allclose(transform_from_node(node).map_points(PLACES), transform.map_points(PLACES), atol=1e-5)
    assert is_result(node)
    assert node.GetAttribute(FORWARD)
    assert not linked(node, "inverse").GetAttribute(FORWARD)


def test_a_result_is_one_undo_step(scene, studies, an_oblique_grid):
    scene.SetUndoOn()
    before = scene.GetNumberOfNodes()
    levels = scene.GetNumberOfUndoLevels()
    write_registration(Result(bent(an_oblique_grid, 3.0), shifted(-1.0), FACTS), *studies)
    assert scene.GetNumberOfUndoLevels() == levels + 1
    scene.Undo()
    assert scene.GetNumberOfNodes() == before


def test_a_result_stands_beside_the_fixed_study_in_the_hierarchy(scene, studies):
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "a study")
    hierarchy.CreateItem(study, studies[0])
    node = write_registration(Result(shifted(1.0), shifted(-1.0), FACTS), *studies)
    for one in (node, linked(node, "inverse"), linked(node, "quality")):
        assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(one)) == study


def test_an_earlier_result_is_written_anew_in_place_and_read_back(scene, studies, an_oblique_grid):
    node = write_registration(Result(bent(an_oblique_grid, 3.0), shifted(-1.0), FACTS), *studies)
    place_under(studies[1:], node)
    held, count = read_registration(node), scene.GetNumberOfNodes()
    again = write_registration(
        Result(bent(an_oblique_grid, -2.0), shifted(-2.0), {**FACTS, "sentence": "2"}), *studies, node
    )
    assert again is node
    assert scene.GetNumberOfNodes() == count
    inside = an_oblique_grid.map_voxels(np.array([[5.0, 6.0, 4.0]]))
    assert abs(transform_from_node(node).map_points(inside) - inside)[0, 1] == pytest.approx(2.0, abs=1e-5)
    write_registration(held, *studies, node)
    assert abs(transform_from_node(node).map_points(inside) - inside)[0, 1] == pytest.approx(3.0, abs=1e-5)
    assert read_registration(node).facts == FACTS
    assert nodes_under(node) == studies[1:]


def test_a_linear_result_can_become_a_deformable_one_and_back(scene, studies, an_oblique_grid):
    node = write_registration(Result(shifted(5.0), shifted(-5.0), FACTS), *studies)
    place_under(studies[1:], node)
    held, count = read_registration(node), scene.GetNumberOfNodes()
    node = write_registration(Result(bent(an_oblique_grid, 3.0), shifted(-1.0), FACTS), *studies, node)
    assert studies[1].GetParentTransformNode() is node
    assert node.GetName() == "T2 to T1"
    node = write_registration(held, *studies, node)
    assert studies[1].GetParentTransformNode() is node
    assert transform_from_node(node).matrix[0, 3] == 5.0
    assert scene.GetNumberOfNodes() == count


def test_a_result_without_its_inverse_cannot_be_read(scene, studies):
    node = write_registration(Result(shifted(5.0), shifted(-5.0), FACTS), *studies)
    scene.RemoveNode(linked(node, "inverse"))
    with pytest.raises(NodeError, match="no inverse"):
        read_registration(node)


def test_a_result_is_not_written_for_a_volume_that_is_gone(scene, studies):
    scene.RemoveNode(studies[0])
    count = scene.GetNumberOfNodes()
    with pytest.raises(NodeError):
        write_registration(Result(shifted(5.0), shifted(-5.0), FACTS), *studies)
    assert scene.GetNumberOfNodes() == count


def test_nodes_are_read_in_their_own_place_when_they_are_under_a_result(
    scene, studies, a_segmentation, an_oblique_grid
):
    first, *_ = RegistrationNodes(*studies).read()[1].values()
    node = write_registration(Result(bent(an_oblique_grid, 3.0), shifted(-1.0), FACTS), *studies)
    place_under(study_nodes(studies[1]), node)
    fixed_segments = write_segmentation(
        Labels.from_array(
            np.ones(an_oblique_grid.shape_kji), an_oblique_grid, (Structure(1, "BRAIN"), Structure(2, "ball"))
        ),
        scene,
        name="fixed organs",
    )
    arguments, values = RegistrationNodes(
        *studies,
        moving_mask=a_segmentation,
        fixed_points=points(scene, "F", PLACES),
        moving_points=points(scene, "M", PLACES + 1),
        fixed_segments=fixed_segments,
        moving_segments=a_segmentation,
        initial=node,
    ).read()
    assert values["moving"].geometry.same_grid(an_oblique_grid)
    assert int(values["moving_mask"].tensor.sum()) == 3 * 4 * 4
    assert arguments["moving_points"] == (PLACES + 1).tolist()
    names = {side: {s.name: s.value for s in values[f"{side}_labels"].structures} for side in ("fixed", "moving")}
    assert names["fixed"]["ball"] == names["moving"]["ball"] == 2
    assert sorted(np.unique(values["moving_labels"].numpy())) == [0, 2]
    assert len(values["initial"].stages) == 2
    assert studies[1].GetParentTransformNode() is node
    assert first.name == "T1"


def test_nodes_under_a_transform_of_their_own_stay_there(scene, studies, a_segmentation, a_linear_parent):
    studies[1].SetAndObserveTransformNodeID(a_linear_parent.GetID())
    node = write_registration(Result(shifted(5.0), shifted(-5.0), FACTS), *studies)
    assert study_nodes(studies[1], (None, a_segmentation)) == [studies[1], a_segmentation]
    assert place_under(study_nodes(studies[1]), node) == studies[1:]
    assert a_segmentation.GetParentTransformNode() is node
    with in_own_place([*studies, a_segmentation, None]):
        assert studies[1].GetParentTransformNode() is a_linear_parent
        assert a_segmentation.GetParentTransformNode() is None
    assert a_segmentation.GetParentTransformNode() is node


def test_points_under_a_result_are_taken_in_the_moving_studys_own_place(scene, studies, an_oblique_grid):
    node = write_registration(Result(bent(an_oblique_grid, 3.0), shifted(-1.0), FACTS), *studies)
    fixed = points(scene, "F", [])
    moving = points(scene, "M", [])
    moving.SetAndObserveTransformNodeID(node.GetID())
    inside = an_oblique_grid.map_voxels(np.array([[5.0, 6.0, 4.0], [8.0, 5.0, 3.0]]))
    fixed.AddControlPointWorld(inside[0], "a")
    fixed.AddControlPointWorld(inside[1], "b")
    add_partners(fixed, moving)
    names, here, there = paired_points(fixed, moving, node)
    assert names == ["a", "b"]
    np.testing.assert_allclose(here, inside)
    np.testing.assert_allclose(there, transform_from_node(node).map_points(inside), atol=1e-4)
    add_partners(fixed, moving)
    assert moving.GetNumberOfControlPoints() == 2


@pytest.mark.parametrize(
    ("here", "there", "message"),
    [
        (PLACES, PLACES[:1], "has 2 points and 'M' 1"),
        ([], [], "has 0 points"),
    ],
)
def test_points_without_a_partner_are_refused(scene, here, there, message):
    with pytest.raises(InputError, match=message):
        paired_points(points(scene, "F", here), points(scene, "M", there))


def test_points_of_the_same_names_in_another_order_are_refused(scene):
    with pytest.raises(InputError, match="another order"):
        paired_points(points(scene, "F", PLACES, ("a", "b")), points(scene, "M", PLACES, ("b", "a")))


def test_rows_that_neither_list_has_placed_are_left_out(scene):
    lists = [points(scene, name, PLACES) for name in "FM"]
    for node in lists:
        node.UnsetNthControlPointPosition(0)
    names, here, _ = paired_points(*lists)
    assert names == ["P1"]
    np.testing.assert_allclose(here, PLACES[1:])
    lists[0].UnsetNthControlPointPosition(1)
    with pytest.raises(InputError, match="has 0 points"):
        paired_points(*lists)


def test_a_preview_moves_the_study_and_leaves_nothing_behind(scene, studies, a_segmentation, an_oblique_grid):
    scene.SetUndoOn()
    count, levels = scene.GetNumberOfNodes(), scene.GetNumberOfUndoLevels()
    preview = LivePreview(study_nodes(studies[1]))
    for mm in (5.0, 3.0):
        preview.show(bent(an_oblique_grid, mm))
        shown = studies[1].GetParentTransformNode()
        inside = an_oblique_grid.map_voxels(np.array([[5.0, 6.0, 4.0]]))
        assert (transform_from_node(shown).map_points(inside) - inside)[0, 1] == pytest.approx(mm, abs=1e-5)
        assert shown.GetHideFromEditors()
        assert a_segmentation.GetParentTransformNode() is shown
    preview.end()
    assert studies[1].GetParentTransformNode() is None
    assert (scene.GetNumberOfNodes(), scene.GetNumberOfUndoLevels()) == (count, levels)
    preview.end()


def test_a_preview_survives_that_its_scene_is_closed(scene, studies, an_oblique_grid):
    preview = LivePreview(study_nodes(studies[1]))
    preview.show(shifted(1.0))
    scene.Clear(True)
    preview.show(shifted(2.0))
    preview.end()
    assert scene.GetNumberOfNodesByClass("vtkMRMLTransformNode") == 0


def test_an_update_changes_what_is_under_the_transform_at_once(scene, studies):
    node = write_transform(shifted(5.0), scene, "here")
    studies[1].SetAndObserveTransformNodeID(node.GetID())
    heard = []
    studies[1].AddObserver(slicer.vtkMRMLTransformableNode.TransformModifiedEvent, lambda *_: heard.append(1))
    assert update_transform(node, shifted(7.0)) is node
    assert heard
    assert transform_from_node(node).matrix[0, 3] == 7.0


def test_the_quality_becomes_a_table(scene):
    table = write_quality(FACTS, scene, "quality").GetTable()
    cells = {
        table.GetValue(row, 0).ToString(): [table.GetValue(row, n).ToString() for n in (1, 2)]
        for row in range(table.GetNumberOfRows())
    }
    assert cells["Similarity (mi)"] == ["0.200", "0.500"]
    assert cells["Distance of points (mm)"] == ["4.00", "1.00"]
    assert cells["Dice, ball"] == ["0.500", ""]
    assert cells["Folded voxels"] == ["", "0"]
    assert cells["Inverse error, largest (mm)"] == ["", "0.030"]
    linear = {
        **FACTS,
        "quality": {**FACTS["quality"], "folding": None, "before": None},
        "landmarks_mm": None,
        "dice": {},
    }
    assert write_quality(linear, scene, "linear").GetTable().GetNumberOfRows() == 4


def test_volume_change_is_shown_in_colours_that_say_what_it_is(scene):
    """Second opinion: VTK's own mapping of the display node."""
    grid = Geometry.from_spacing((8, 8, 8))
    ramp = torch.zeros(3, 8, 8, 8)
    ramp[0] = torch.linspace(0, -14, 8)  # folds: the determinant is 1 - 2
    folded = jacobian_determinant(Displacement(ramp, grid))
    values = torch.stack([folded[0], torch.full((8, 8), 0.5), torch.ones(8, 8), torch.full((8, 8), 1.9)])
    node = jacobian_node(Image.from_array(values.numpy(), Geometry.from_spacing((8, 8, 4))), scene, "change")
    display = node.GetDisplayNode()
    display.GetImageDataConnection().GetProducer().Update()
    image = display.GetImageDataConnection().GetProducer().GetOutput()
    red, green, blue = np.array([[image.GetScalarComponentAsFloat(4, 4, k, c) for k in range(4)] for c in range(3)])
    assert min(red[0], blue[0]) > 200
    assert green[0] < 10
    assert blue[1] > red[1] + 80
    assert min(red[2], green[2], blue[2]) > 230
    assert red[3] > blue[3] + 50
    assert display.GetColorNode() is jacobian_colors(scene)
