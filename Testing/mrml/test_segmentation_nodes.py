from __future__ import annotations

import numpy as np
import pytest
import slicer
import vtk

from MedSegRegLib.errors import InputError, NodeError
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Code, Image, Labels, Structure
from MedSegRegLib.mrml.headless import load_scene, save_node, save_scene
from MedSegRegLib.mrml.segmentations import labels_from_segmentation, write_segmentation
from MedSegRegLib.mrml.volumes import image_from_node, node_from_image
from MedSegRegLib.resample import resample_labels

LIVER = Structure(1, "liver", (0.2, 0.4, 0.6), Code("SCT", "10200004", "Liver"))
KIDNEY = Structure(
    2, "left kidney", (1.0, 0.0, 0.2), Code("SCT", "64033007", "Kidney"), modifier=Code("SCT", "7771000", "Left")
)
LESION = Structure(
    5,
    "lesion",
    (0.0, 1.0, 0.0),
    Code("SCT", "52988006", "Lesion"),
    category=Code("SCT", "49755003", "Morphologically Altered Structure"),
)
UNCODED = Structure(9, "something", (0.4, 0.4, 0.4))
LIVER_ENTRY = (
    "Segmentation category and type - DICOM master list~SCT^123037004^Anatomical Structure"
    "~SCT^10200004^Liver~^^~Anatomic codes - DICOM master list~^^~^^|"
)


def labels_on(grid, structures=(LIVER, KIDNEY, LESION, UNCODED)):
    """Boxes and one corner voxel; every structure has voxels."""
    array = np.zeros(grid.shape_kji, np.int32)
    array[1:4, 2:7, 3:8] = structures[0].value
    array[5:, 6:, 1:4] = structures[1].value
    array[0, 0, 0] = structures[2].value
    array[-1, -1, -1] = structures[3].value
    return Labels.from_array(array, grid, structures, "result")


@pytest.fixture
def some_labels(an_oblique_grid):
    return labels_on(an_oblique_grid)


def segments_of(node):
    segmentation = node.GetSegmentation()
    return [segmentation.GetNthSegment(n) for n in range(segmentation.GetNumberOfSegments())]


def names_of(node):
    return [segment.GetName() for segment in segments_of(node)]


def assert_same(found, expected):
    np.testing.assert_array_equal(found.numpy(), expected.numpy())
    for one, other in zip(found.structures, expected.structures, strict=True):
        assert (one.value, one.name, one.code, one.category, one.modifier) == (
            other.value,
            other.name,
            other.code,
            other.category,
            other.modifier,
        )
        np.testing.assert_allclose(one.color, other.color, atol=1 / 255)


def read_seg_nrrd(scene, path):
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    storage = slicer.vtkMRMLSegmentationStorageNode()
    storage.SetFileName(str(path))
    assert storage.ReadData(node)
    return node


def test_a_segmentation_comes_back_from_its_node(scene, any_grid):
    labels = labels_on(any_grid)
    node = write_segmentation(labels, scene, name="organs")
    assert_same(labels_from_segmentation(node, any_grid), labels)
    assert node.GetName() == "organs"
    assert node.GetSegmentation().GetNumberOfLayers("Binary labelmap") == 1
    assert node.GetDisplayNode() is not None


def test_a_segmentation_comes_back_from_seg_nrrd(scene, any_grid, tmp_path):
    labels = labels_on(any_grid)
    save_node(write_segmentation(labels, scene, name="organs"), tmp_path / "organs.seg.nrrd")
    assert_same(labels_from_segmentation(read_seg_nrrd(scene, tmp_path / "organs.seg.nrrd"), any_grid), labels)


def test_a_segmentation_comes_back_from_mrb(scene, any_grid, tmp_path):
    labels = labels_on(any_grid)
    volume = node_from_image(Image.from_array(np.ones(any_grid.shape_kji), any_grid), scene, "CT")
    written = write_segmentation(labels, scene, name="organs", reference=volume)
    save_scene(scene, tmp_path / "scene.mrb")
    node = load_scene(tmp_path / "scene.mrb").GetFirstNodeByClass("vtkMRMLSegmentationNode")
    assert_same(labels_from_segmentation(node, any_grid), labels)
    assert node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole()).GetName() == "CT"
    parameter = slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName()
    before, after = (slicer.vtkOrientedImageData(), slicer.vtkOrientedImageData())
    for image, segmentation in ((before, written), (after, node)):
        text = segmentation.GetSegmentation().GetConversionParameter(parameter)
        assert slicer.vtkSegmentationConverter.DeserializeImageGeometry(text, image, False)
    assert slicer.vtkOrientedImageDataResample.DoGeometriesMatch(before, after)
    assert after.GetDimensions() == any_grid.size_ijk


def test_terminology_is_written_as_slicer_writes_it(scene, some_labels):
    segment = segments_of(write_segmentation(some_labels, scene, name="organs"))[0]
    entry = vtk.reference("")
    assert segment.GetTag("TerminologyEntry", entry)
    assert str(entry) == LIVER_ENTRY
    logic = slicer.vtkSlicerTerminologiesModuleLogic
    parsed = slicer.vtkSlicerTerminologyEntry()
    assert logic().DeserializeTerminologyEntry(str(entry), parsed)
    assert parsed.GetTypeObject().GetCodeMeaning() == "Liver"


def test_slicers_own_export_sees_the_same_voxels(scene, any_grid):
    labels = labels_on(any_grid)
    volume = node_from_image(Image.from_array(np.ones(any_grid.shape_kji), any_grid), scene, "CT")
    node = write_segmentation(labels, scene, name="organs", reference=volume)
    for segment_id, structure in zip(node.GetSegmentation().GetSegmentIDs(), labels.structures, strict=True):
        exported = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode")
        ids = vtk.vtkStringArray()
        ids.InsertNextValue(segment_id)
        assert slicer.vtkSlicerSegmentationsModuleLogic.ExportSegmentsToLabelmapNode(node, ids, exported, volume)
        mask = slicer.util.arrayFromVolume(exported) > 0
        np.testing.assert_array_equal(mask, labels.numpy() == structure.value)


def test_more_than_255_labels_keep_their_values(scene, an_oblique_grid, tmp_path):
    structures = tuple(Structure(value, f"parcel {value}") for value in range(1, 401))
    array = (np.arange(np.prod(an_oblique_grid.shape_kji)) % 401).reshape(an_oblique_grid.shape_kji)
    labels = Labels.from_array(array, an_oblique_grid, structures)
    node = write_segmentation(labels, scene, name="parcels")
    save_node(node, tmp_path / "parcels.seg.nrrd")
    loaded = labels_from_segmentation(read_seg_nrrd(scene, tmp_path / "parcels.seg.nrrd"), an_oblique_grid)
    np.testing.assert_array_equal(loaded.numpy(), array)
    assert [s.name for s in loaded.structures] == [s.name for s in structures]


def test_values_without_a_structure_are_named_and_empty_structures_are_kept(scene, an_oblique_grid):
    array = np.zeros(an_oblique_grid.shape_kji, np.uint8)
    array[2, 2, 2] = 7
    node = write_segmentation(Labels.from_array(array, an_oblique_grid, (LIVER,)), scene, name="partly named")
    assert names_of(node) == ["liver", "label 7"]
    np.testing.assert_array_equal(labels_from_segmentation(node, an_oblique_grid).numpy(), array)


def test_the_result_of_a_volume_under_a_linear_parent_lies_in_the_world(scene, a_volume_node, a_linear_parent):
    a_volume_node.SetAndObserveTransformNodeID(a_linear_parent.GetID())
    world = image_from_node(a_volume_node).geometry
    labels = labels_on(world)
    node = write_segmentation(labels, scene, name="organs", reference=a_volume_node)
    assert_same(labels_from_segmentation(node, world), labels)
    parameter = slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName()
    image = slicer.vtkOrientedImageData()
    slicer.vtkSegmentationConverter.DeserializeImageGeometry(
        node.GetSegmentation().GetConversionParameter(parameter), image, False
    )
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    np.testing.assert_allclose(slicer.util.arrayFromVTKMatrix(matrix), world.ijk_to_ras, atol=1e-9)


def test_an_existing_segmentation_under_a_linear_parent_is_added_to_in_place(scene, some_labels, a_linear_parent):
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    node.SetAndObserveTransformNodeID(a_linear_parent.GetID())
    write_segmentation(some_labels, scene, name="", node=node)
    assert_same(labels_from_segmentation(node, some_labels.geometry), some_labels)


def test_only_the_named_segments_are_replaced(scene, some_labels, an_oblique_grid):
    node = write_segmentation(some_labels, scene, name="organs")
    ids = node.GetSegmentation().GetSegmentIDs()
    moved = Labels.from_array(np.roll(some_labels.numpy(), 2, axis=1), an_oblique_grid, some_labels.structures)
    assert write_segmentation(moved, scene, name="ignored", node=node, replace=["left kidney"]) is node
    assert names_of(node) == ["liver", "left kidney", "lesion", "something", "liver_1", "lesion_1", "something_1"]
    assert node.GetSegmentation().GetSegmentIDs()[:4] == ids
    both = {
        name: slicer.util.arrayFromSegmentInternalBinaryLabelmap(node, segment_id) == segment.GetLabelValue()
        for name, segment_id, segment in zip(
            names_of(node), node.GetSegmentation().GetSegmentIDs(), segments_of(node), strict=True
        )
    }
    for name, value, source in (
        ("liver", 1, some_labels),
        ("lesion", 5, some_labels),
        ("left kidney", 2, moved),
        ("liver_1", 1, moved),
        ("something", 9, some_labels),
    ):
        np.testing.assert_array_equal(both[name], source.numpy() == value, err_msg=name)


def test_segments_on_layers_of_their_own_are_numbered(scene, some_labels, an_oblique_grid):
    node = write_segmentation(some_labels, scene, name="organs")
    write_segmentation(some_labels, scene, name="", node=node)
    labels = labels_from_segmentation(node, an_oblique_grid)
    assert [s.value for s in labels.structures] == list(range(1, 9))
    assert set(np.unique(labels.numpy())) == {0, 5, 6, 7, 8}  # the later ones lie over the earlier


def test_a_segmentation_is_resampled_on_another_grid(scene, some_labels):
    other = Geometry.from_spacing((25, 24, 20), (2.5, 2.5, 2.5), (-45.0, -20.0, -10.0))
    node = write_segmentation(some_labels, scene, name="organs")
    expected = resample_labels(some_labels, other).numpy()
    np.testing.assert_array_equal(labels_from_segmentation(node, other).numpy(), expected)
    assert (expected == LIVER.value).any()


def test_a_segmentation_of_surfaces_is_read_and_not_changed(scene, some_labels, an_oblique_grid):
    node = write_segmentation(some_labels, scene, name="organs")
    node.GetSegmentation().SetConversionParameter("Smoothing factor", "0")
    assert node.CreateClosedSurfaceRepresentation()
    node.GetSegmentation().SetSourceRepresentationName("Closed surface")
    node.GetSegmentation().RemoveRepresentation("Binary labelmap")
    labels = labels_from_segmentation(node, an_oblique_grid)
    liver, found = some_labels.numpy() == LIVER.value, labels.numpy() == LIVER.value
    assert 2 * (liver & found).sum() / (liver.sum() + found.sum()) > 0.8
    assert not node.GetSegmentation().ContainsRepresentation("Binary labelmap")
    with pytest.raises(InputError, match="Closed surface"):
        write_segmentation(some_labels, scene, name="", node=node)
    assert node.GetSegmentation().GetNumberOfSegments() == 4


def test_one_undo_takes_a_new_segmentation_back(scene, some_labels):
    scene.SetUndoOn()
    node = write_segmentation(some_labels, scene, name="organs")
    assert scene.GetNumberOfUndoLevels() == 1
    scene.Undo()
    assert node.GetScene() is None


def test_one_undo_takes_added_segments_back(scene, some_labels):
    scene.SetUndoOn()
    node = write_segmentation(some_labels, scene, name="organs")
    write_segmentation(some_labels, scene, name="", node=node, replace=["liver"])
    scene.Undo()
    assert names_of(node) == ["liver", "left kidney", "lesion", "something"]


def test_one_undo_brings_replaced_segments_back(scene, some_labels, an_oblique_grid):
    scene.SetUndoOn()
    node = write_segmentation(some_labels, scene, name="result")
    names = [structure.name for structure in some_labels.structures]
    moved = Labels.from_array(np.roll(some_labels.numpy(), 1, axis=0), an_oblique_grid, some_labels.structures)
    write_segmentation(moved, scene, name="result", node=node, replace=names)
    np.testing.assert_array_equal(labels_from_segmentation(node, an_oblique_grid).numpy(), moved.numpy())
    scene.Undo()
    np.testing.assert_array_equal(labels_from_segmentation(node, an_oblique_grid).numpy(), some_labels.numpy())


def test_a_reference_that_was_removed_meanwhile_does_not_stop_the_result(scene, some_labels, a_volume_node):
    scene.RemoveNode(a_volume_node)
    node = write_segmentation(some_labels, scene, name="T1 of somebody organs", reference=a_volume_node)
    assert node.GetNodeReferenceID(node.GetReferenceImageGeometryReferenceRole()) is None
    assert_same(labels_from_segmentation(node, some_labels.geometry), some_labels)


def structures_with(structure):
    return (structure, KIDNEY, LESION, UNCODED)


@pytest.mark.parametrize(
    "structure",
    [Structure(2, "twice"), Structure(0, "background"), Structure(1, "caret", code=Code("SCT", "1", "a^b"))],
)
def test_refuses_structures_that_cannot_be_written(scene, an_oblique_grid, structure):
    labels = labels_on(an_oblique_grid, structures_with(LIVER))
    labels = Labels(labels.tensor, an_oblique_grid, structures_with(structure))
    before = scene.GetNumberOfNodes()
    with pytest.raises(InputError):
        write_segmentation(labels, scene, name="organs")
    assert scene.GetNumberOfNodes() == before


def test_refuses_an_output_node_that_was_removed_or_is_of_another_kind(scene, some_labels, a_volume_node):
    node = write_segmentation(some_labels, scene, name="organs")
    scene.RemoveNode(node)
    before = scene.GetNumberOfNodes()
    with pytest.raises(NodeError, match="removed"):
        write_segmentation(some_labels, scene, name="organs", node=node)
    with pytest.raises(NodeError, match="vtkMRMLScalarVolumeNode"):
        write_segmentation(some_labels, scene, name="organs", node=a_volume_node)
    assert scene.GetNumberOfNodes() == before


def test_refuses_an_output_node_under_a_nonlinear_transform(scene, some_labels, a_nonlinear_parent):
    node = write_segmentation(some_labels, scene, name="organs")
    node.SetAndObserveTransformNodeID(a_nonlinear_parent.GetID())
    with pytest.raises(InputError, match="harden first"):
        write_segmentation(some_labels, scene, name="", node=node)
    with pytest.raises(InputError, match="harden first"):
        labels_from_segmentation(node, some_labels.geometry)
    assert len(names_of(node)) == 4
