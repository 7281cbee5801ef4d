from __future__ import annotations

import numpy as np
import pytest
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk

from MedSegRegLib.errors import ComponentCount, EmptyVolume, InputError, InvalidGeometry, NodeError, NotAnImage
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Image
from MedSegRegLib.mrml.guards import require_node
from MedSegRegLib.mrml.volumes import geometry_of_node, image_from_node, labels_from_node, node_from_image


def a_volume_of(scene, array, class_name="vtkMRMLScalarVolumeNode"):
    node = scene.AddNewNodeByClass(class_name, "volume")
    image = vtk.vtkImageData()
    image.SetDimensions(*array.shape[2::-1])
    image.GetPointData().SetScalars(numpy_to_vtk(array.reshape(-1, *array.shape[3:]), deep=True))
    node.SetAndObserveImageData(image)
    return node


def refused(scene, error, work, *arguments):
    before = scene.GetNumberOfNodes()
    with pytest.raises(error) as caught:
        work(*arguments)
    assert scene.GetNumberOfNodes() == before
    assert caught.value.found
    assert caught.value.fix
    return str(caught.value)


def test_an_image_comes_back_from_its_node(scene, any_grid):
    image = Image.from_array(np.random.default_rng(0).normal(size=any_grid.shape_kji), any_grid)
    node = node_from_image(image, scene, "result")
    back = image_from_node(node)
    np.testing.assert_array_equal(back.numpy(), image.numpy())
    np.testing.assert_allclose(back.geometry.ijk_to_ras, any_grid.ijk_to_ras, atol=1e-12)
    assert back.name == "result"
    assert node.GetDisplayNode() is not None
    assert node.GetImageData().GetScalarTypeAsString() == "float"


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "float32", "float64"])
def test_every_voxel_type_is_read_exactly(scene, dtype):
    array = np.arange(60, dtype=dtype).reshape(3, 4, 5)
    np.testing.assert_array_equal(image_from_node(a_volume_of(scene, array)).numpy()[0], array)


def test_an_image_survives_the_removal_of_its_node(scene, a_volume_node, an_image):
    image = image_from_node(a_volume_node)
    slicer.util.arrayFromVolume(a_volume_node)[:] = -1
    scene.RemoveNode(a_volume_node)
    np.testing.assert_array_equal(image.numpy(), an_image.numpy())
    assert image.name == "T1 of somebody"


def test_a_linear_parent_is_multiplied_into_the_geometry(a_volume_node, an_oblique_grid, a_linear_parent):
    a_volume_node.SetAndObserveTransformNodeID(a_linear_parent.GetID())
    to_parent = slicer.util.arrayFromTransformMatrix(a_linear_parent)
    expected = to_parent @ an_oblique_grid.ijk_to_ras
    np.testing.assert_allclose(geometry_of_node(a_volume_node).ijk_to_ras, expected, atol=1e-10)
    a_volume_node.HardenTransform()
    np.testing.assert_allclose(geometry_of_node(a_volume_node).ijk_to_ras, expected, atol=1e-10)


def test_refuses_a_volume_under_a_nonlinear_transform(scene, a_volume_node, a_nonlinear_parent):
    a_volume_node.SetAndObserveTransformNodeID(a_nonlinear_parent.GetID())
    assert "harden first" in refused(scene, InputError, image_from_node, a_volume_node)


def test_refuses_a_missing_a_removed_and_a_wrong_node(scene, a_volume_node, a_linear_parent):
    refused(scene, NodeError, image_from_node, None)
    refused(scene, NodeError, image_from_node, "T1")
    refused(scene, NodeError, image_from_node, a_linear_parent)
    scene.RemoveNode(a_volume_node)
    assert "removed" in refused(scene, NodeError, image_from_node, a_volume_node)


def test_refuses_the_nodes_of_a_closed_scene(scene, a_volume_node):
    scene.Clear(False)
    refused(scene, NodeError, require_node, a_volume_node, "vtkMRMLScalarVolumeNode")


@pytest.mark.parametrize("class_name", ["vtkMRMLScalarVolumeNode", "vtkMRMLVectorVolumeNode"])
def test_refuses_colour_and_vector_voxels(scene, class_name):
    node = a_volume_of(scene, np.zeros((3, 4, 5, 3), np.uint8), class_name)
    assert "3 components" in refused(scene, ComponentCount, image_from_node, node)


@pytest.mark.parametrize("class_name", ["vtkMRMLDiffusionWeightedVolumeNode", "vtkMRMLDiffusionTensorVolumeNode"])
def test_refuses_diffusion_volumes(scene, class_name):
    refused(scene, ComponentCount, image_from_node, scene.AddNewNodeByClass(class_name))


def test_refuses_a_label_map_given_as_an_image(scene):
    node = a_volume_of(scene, np.zeros((3, 4, 5), np.uint8), "vtkMRMLLabelMapVolumeNode")
    assert "label map" in refused(scene, NotAnImage, image_from_node, node)


def test_refuses_a_volume_without_voxels(scene):
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    refused(scene, EmptyVolume, image_from_node, node)
    refused(scene, EmptyVolume, geometry_of_node, node)
    node.SetAndObserveImageData(vtk.vtkImageData())
    refused(scene, EmptyVolume, image_from_node, node)


@pytest.mark.parametrize("bad", [0.0, np.nan])
def test_refuses_zero_spacing_and_nan_in_the_matrix(scene, bad):
    node = a_volume_of(scene, np.zeros((3, 4, 5), np.int16))
    matrix = np.diag([1.0, bad, 1.0, 1.0])
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(matrix))
    refused(scene, InvalidGeometry, image_from_node, node)


def test_a_single_slice_is_a_volume_of_one_slice(scene):
    image = image_from_node(a_volume_of(scene, np.ones((1, 4, 5), np.int16)))
    assert image.geometry.size_ijk == (5, 4, 1)


def test_an_extent_that_does_not_start_at_zero_keeps_its_place(scene):
    node = a_volume_of(scene, np.ones((2, 3, 4), np.int16))
    node.GetImageData().SetExtent(2, 5, 0, 2, 1, 2)
    np.testing.assert_allclose(geometry_of_node(node).origin_ras, (2, 0, 1))


def test_labels_take_names_and_colours_from_the_colour_table(scene):
    table = scene.AddNewNodeByClass("vtkMRMLColorTableNode")
    table.SetTypeToUser()
    table.SetNumberOfColors(3)
    table.SetColor(2, "left hippocampus", 0.8, 0.2, 0.1, 1)
    node = a_volume_of(scene, np.array([0, 2, 7, 2], np.int16).reshape(1, 2, 2), "vtkMRMLLabelMapVolumeNode")
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().SetAndObserveColorNodeID(table.GetID())
    labels = labels_from_node(node)
    assert [(s.value, s.name) for s in labels.structures] == [(2, "left hippocampus"), (7, "label 7")]
    np.testing.assert_allclose(labels.structures[0].color, (0.8, 0.2, 0.1), atol=1 / 255)
    np.testing.assert_array_equal(labels.numpy().ravel(), [0, 2, 7, 2])


def test_refuses_to_write_two_channels_into_one_volume(scene):
    image = Image.from_array(np.zeros((2, 3, 4, 5)), Geometry.from_spacing((5, 4, 3)))
    refused(scene, ComponentCount, node_from_image, image, scene, "two")
