"""A study's segmentation, markups and models on another study, in real MRML."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
import torch
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from MedSegRegLib.errors import InputError, NodeError
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Image, Labels, Structure
from MedSegRegLib.mrml.carry import Cargo, write_carried
from MedSegRegLib.mrml.headless import load_scene, save_scene
from MedSegRegLib.mrml.provenance import read_provenance
from MedSegRegLib.mrml.segmentations import labels_from_segmentation, write_segmentation
from MedSegRegLib.mrml.volumes import geometry_of_node, node_from_image
from MedSegRegLib.resample import resample_labels
from MedSegRegLib.transform import Affine, Transform

GRID = Geometry.from_spacing((20, 18, 16), (2.0, 2.0, 2.0), (-19.0, -17.0, -15.0))
POINTS = np.array([[1.0, 2.0, 3.0], [-4.0, 0.0, 2.0], [5.0, -3.0, -1.0]])


def shift(r: float, a: float, s: float) -> Transform:
    matrix = np.eye(4)
    matrix[:3, 3] = r, a, s
    return Transform((Affine(matrix),))


MOVED = np.array([4.0, -2.0, 0.0])
TRANSFORM, INVERSE = shift(-4.0, 2.0, 0.0), shift(4.0, -2.0, 0.0)


@pytest.fixture
def study(scene):
    """Source and target volumes, and a segmentation, points, a curve and a model of the source."""
    noise = np.random.default_rng(0).normal(size=GRID.shape_kji)
    source, target = (node_from_image(Image.from_array(noise, GRID), scene, name) for name in ("A", "B"))
    array = np.zeros(GRID.shape_kji, np.uint8)
    array[5:10, 6:12, 7:13] = 3
    labels = Labels.from_array(array, GRID, (Structure(3, "cube", (0.2, 0.4, 0.6)),))
    segmentation = write_segmentation(labels, scene, name="S", reference=source)
    points = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "P")
    curve = scene.AddNewNodeByClass("vtkMRMLMarkupsCurveNode", "C")
    for node in (points, curve):
        for number, point in enumerate(POINTS.tolist()):
            node.AddControlPoint(point, f"point {number}")
    ball = vtk.vtkSphereSource()
    ball.SetRadius(6.0)
    ball.Update()
    model = scene.AddNewNodeByClass("vtkMRMLModelNode", "M")
    model.SetAndObserveMesh(ball.GetOutput())
    model.CreateDefaultDisplayNodes()
    model.GetDisplayNode().SetColor(0.1, 0.9, 0.3)
    return Cargo(source, target, segmentation, (points, curve), (model,))


def places(node) -> np.ndarray:
    return np.array([node.GetNthControlPointPositionWorld(n) for n in range(node.GetNumberOfControlPoints())])


def corners(node) -> np.ndarray:
    return vtk_to_numpy(node.GetMesh().GetPoints().GetData())


def write(cargo: Cargo, **more):
    return write_carried(cargo, TRANSFORM, INVERSE, **more)


def test_every_kind_arrives_in_its_place(scene, study):
    labels = study.labels()
    carried = write(study, labels=resample_labels(labels, GRID, TRANSFORM), tables={"review": {"name": ["cube"]}})
    assert carried.segmentation.GetName() == "S on B"
    back = labels_from_segmentation(carried.segmentation, geometry_of_node(study.target))
    assert torch.equal(back.tensor, torch.roll(labels.tensor, (-1, 2), dims=(1, 2)))
    assert back.structures[0].name == "cube"
    points, curve = carried.markups
    np.testing.assert_allclose(places(points), POINTS + MOVED, atol=1e-9)
    np.testing.assert_allclose(places(curve), POINTS + MOVED, atol=1e-9)
    assert curve.GetClassName() == "vtkMRMLMarkupsCurveNode"
    assert points.GetNthControlPointLabel(1) == "point 1"
    (model,) = carried.models
    np.testing.assert_allclose(corners(model), corners(study.models[0]) + MOVED, atol=1e-4)
    assert model.GetDisplayNode().GetColor() == (0.1, 0.9, 0.3)
    assert carried.tables[0].GetName() == "review"


def test_what_was_carried_stays_as_it_is(study):
    before = places(study.markups[0]), corners(study.models[0]).copy()
    write(study)
    np.testing.assert_array_equal(places(study.markups[0]), before[0])
    np.testing.assert_array_equal(corners(study.models[0]), before[1])


def test_the_source_volume_can_be_placed_under_the_transform(study):
    carried = write(study)
    study.source.SetAndObserveTransformNodeID(carried.transform.GetID())
    np.testing.assert_allclose(geometry_of_node(study.source).origin_ras, GRID.origin_ras + MOVED)
    assert (carried.transform.GetName(), carried.inverse.GetName()) == ("A to B", "B to A (inverse)")


def test_nodes_under_a_transform_are_carried_from_where_they_are_seen(study, a_nonlinear_parent):
    study.markups[0].SetAndObserveTransformNodeID(a_nonlinear_parent.GetID())
    study.models[0].SetAndObserveTransformNodeID(a_nonlinear_parent.GetID())
    seen = places(study.markups[0])
    assert np.abs(seen - POINTS).max() > 0.5
    np.testing.assert_array_equal(study.points()[:3], seen)
    carried = write(study)
    np.testing.assert_allclose(places(carried.markups[0]), seen + MOVED, atol=1e-6)
    hardened = slicer.vtkMRMLModelNode()
    study.models[0].GetScene().AddNode(hardened)
    hardened.CopyContent(study.models[0])
    hardened.SetAndObserveTransformNodeID(a_nonlinear_parent.GetID())
    hardened.HardenTransform()
    np.testing.assert_allclose(corners(carried.models[0]), corners(hardened) + MOVED, atol=1e-3)


def test_points_that_were_never_placed_stay_unplaced(study):
    study.markups[0].UnsetNthControlPointPosition(1)
    assert len(study.points()) == 5
    assert study.point_names()[:2] == ["point 0", "point 2"]
    carried = write(study).markups[0]
    assert carried.GetNthControlPointPositionStatus(1) != slicer.vtkMRMLMarkupsNode.PositionDefined
    np.testing.assert_allclose(carried.GetNthControlPointPositionWorld(2), POINTS[2] + MOVED)


def test_carrying_is_undone_in_one_step(scene, study):
    scene.SetUndoOn()
    before = scene.GetNumberOfNodes()
    write(study, labels=study.labels(), tables={"review": {"confidence": [0.5]}})
    scene.Undo()
    assert scene.GetFirstNodeByName("S on B") is None
    assert scene.GetFirstNodeByName("M on B") is None
    assert scene.GetNumberOfNodes() <= before + 4  # display nodes are not undone by MRML


def test_all_survives_a_saved_scene_with_how_it_came_about(scene, study, tmp_path):
    write(study, labels=study.labels(), provenance={"preset": "deformable"})
    save_scene(scene, tmp_path / "carried.mrb")
    opened = load_scene(tmp_path / "carried.mrb")
    np.testing.assert_allclose(places(opened.GetFirstNodeByName("P on B")), POINTS + MOVED, atol=1e-4)
    assert read_provenance(opened.GetFirstNodeByName("S on B"))["preset"] == "deformable"


def test_nothing_but_volumes_gives_the_transforms_alone(study):
    cargo = Cargo(study.source, study.target)
    assert cargo.labels() is None
    assert cargo.points() is None
    carried = write(cargo)
    assert carried.segmentation is None
    assert carried.markups == carried.models == carried.tables == ()


def test_a_box_is_refused(scene, study):
    box = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "box")
    with pytest.raises(InputError, match="box"):
        Cargo(study.source, study.target, markups=(box,))


def test_a_node_that_was_removed_meanwhile_is_told(scene, study):
    scene.RemoveNode(study.models[0])
    nodes = scene.GetNumberOfNodes()
    with pytest.raises(NodeError, match="removed"):
        write(study)
    assert scene.GetNumberOfNodes() == nodes
