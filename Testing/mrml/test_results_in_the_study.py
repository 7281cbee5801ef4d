"""Where results stand in the scene: beside their study, and regions that say where to look."""

from __future__ import annotations

import numpy as np
import pytest
import slicer

from MedSegRegLib.errors import InputError, NodeError
from MedSegRegLib.image import Labels, Structure
from MedSegRegLib.mrml.regions import region_corners
from MedSegRegLib.mrml.segmentation_results import write_result
from MedSegRegLib.mrml.studies import modality_of, place_beside

CONSTANTS = slicer.vtkMRMLSubjectHierarchyConstants


@pytest.fixture
def hierarchy(scene):
    return slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)


@pytest.fixture
def a_study(hierarchy, a_volume_node):
    """A patient's study that holds the volume, an MR that came from DICOM."""
    patient = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), "patient")
    study = hierarchy.CreateStudyItem(patient, "study")
    item = hierarchy.CreateItem(study, a_volume_node)
    hierarchy.SetItemAttribute(item, CONSTANTS.GetDICOMSeriesModalityAttributeName(), "MR")
    a_volume_node.SetAttribute("DICOM.instanceUIDs", "1.2.3 1.2.4")
    return study


def some_labels(grid):
    return Labels.from_array(np.ones(grid.shape_kji, np.uint8), grid, (Structure(1, "liver"),), "T1")


def test_a_new_result_lies_in_the_study_and_refers_to_its_instances(hierarchy, a_study, scene, a_volume_node, an_image):
    node = write_result(some_labels(an_image.geometry), {}, scene, name="T1 liver", volume=a_volume_node)
    item = hierarchy.GetItemByDataNode(node)
    assert hierarchy.GetItemParent(item) == a_study
    name = CONSTANTS.GetDICOMReferencedInstanceUIDsAttributeName()
    assert hierarchy.GetItemAttribute(item, name) == "1.2.3 1.2.4"


def test_an_existing_segmentation_stays_where_its_user_put_it(hierarchy, a_study, scene, a_volume_node, an_image):
    mine = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "mine")
    folder = hierarchy.CreateFolderItem(hierarchy.GetSceneItemID(), "my folder")
    item = hierarchy.CreateItem(folder, mine)
    write_result(some_labels(an_image.geometry), {}, scene, name="T1 liver", volume=a_volume_node, node=mine)
    assert hierarchy.GetItemParent(item) == folder


def test_a_volume_without_a_place_is_no_fault(scene, a_volume_node):
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "result")
    place_beside(node, a_volume_node)
    place_beside(node, None)
    assert modality_of(a_volume_node) == ""


def test_the_modality_is_the_one_of_the_series(a_study, a_volume_node):
    assert modality_of(a_volume_node) == "MR"


@pytest.fixture
def a_box(scene):
    node = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "box")
    node.SetCenter(10.0, 20.0, 30.0)
    node.SetSize(4.0, 6.0, 8.0)
    return node


def test_a_region_gives_the_corners_of_its_box(a_box):
    corners = region_corners(a_box)
    assert corners.shape == (8, 3)
    np.testing.assert_allclose((corners.min(0), corners.max(0)), ((8, 17, 26), (12, 23, 34)), atol=1e-9)
    assert len(np.unique(corners.round(6), axis=0)) == 8


def test_a_region_follows_its_parent_transform(a_box, a_linear_parent):
    before = region_corners(a_box)
    a_box.SetAndObserveTransformNodeID(a_linear_parent.GetID())
    matrix = slicer.util.arrayFromTransformMatrix(a_linear_parent)
    np.testing.assert_allclose(region_corners(a_box), before @ matrix[:3, :3].T + matrix[:3, 3], atol=1e-6)


def test_a_region_that_was_not_drawn_or_is_none_is_refused(scene):
    with pytest.raises(InputError, match="draw it"):
        region_corners(scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "empty"))
    with pytest.raises(NodeError):
        region_corners(None)
