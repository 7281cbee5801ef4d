"""Aligned series in real MRML: transforms, volumes, segmentations on native grids, and the fusion of two volumes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from MedSegRegLib.errors import NodeError
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Image, Labels, Structure
from MedSegRegLib.mrml.align import AlignedResult, write_aligned
from MedSegRegLib.mrml.fusion import show_fusion
from MedSegRegLib.mrml.headless import load_scene, save_scene
from MedSegRegLib.mrml.provenance import read_provenance
from MedSegRegLib.mrml.segmentations import labels_from_segmentation
from MedSegRegLib.mrml.volumes import geometry_of_node, node_from_image
from MedSegRegLib.transform import Affine, Transform

FLAIR = Geometry.from_spacing((20, 18, 10), (2.0, 2.0, 4.0), (-19.0, -17.0, -18.0))
T1 = Geometry.from_spacing((24, 22, 20), (1.5, 1.6, 2.0), (-15.0, -16.0, -19.0))
SHIFT = np.array([3.0, -2.0, 1.0])


@pytest.fixture
def volumes(scene):
    noise = np.random.default_rng(0)
    return {
        name: node_from_image(Image.from_array(noise.uniform(0, 100, grid.shape_kji), grid), scene, f"{name} series")
        for name, grid in (("FLAIR", FLAIR), ("T1", T1))
    }


@pytest.fixture
def result():
    matrix = np.eye(4)
    matrix[:3, 3] = SHIFT
    cube = np.zeros(T1.shape_kji, np.uint8)
    cube[5:10, 6:12, 7:13] = 2
    labels = Labels.from_array(cube, T1, (Structure(2, "lesion"),))
    moved = Image.from_array(np.full(FLAIR.shape_kji, 7.0), FLAIR)
    return AlignedResult(
        "FLAIR", {"T1": Transform((Affine(matrix),))}, {"T1": moved}, {"T1": labels}, {"preset": "rigid"}
    )


@pytest.fixture
def a_view(scene):
    return scene.AddNewNodeByClass("vtkMRMLSliceCompositeNode")


def test_a_series_placed_under_its_transform_lies_on_the_reference(volumes, result):
    made = write_aligned(result, volumes)
    assert made.transforms["T1"].GetName() == "T1 series to FLAIR series"
    assert volumes["T1"].GetParentTransformNode() is None
    volumes["T1"].SetAndObserveTransformNodeID(made.transforms["T1"].GetID())
    np.testing.assert_allclose(geometry_of_node(volumes["T1"]).origin_ras, T1.origin_ras - SHIFT)


def test_resampled_volumes_lie_on_the_references_grid_and_look_like_the_original(volumes, result):
    volumes["T1"].GetDisplayNode().AutoWindowLevelOff()
    volumes["T1"].GetDisplayNode().SetWindowLevel(80, 30)
    node = write_aligned(result, volumes).resampled["T1"]
    assert node.GetName() == "T1 series on FLAIR series"
    assert geometry_of_node(node).same_grid(FLAIR)
    assert (node.GetDisplayNode().GetWindow(), node.GetDisplayNode().GetLevel()) == (80, 30)


def test_a_segmentation_lies_on_the_native_grid_of_its_series(volumes, result):
    node = write_aligned(result, volumes, "lesions").segmentations["T1"]
    assert node.GetName() == "T1 series lesions"
    assert node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole()) is volumes["T1"]
    back = labels_from_segmentation(node, T1)
    assert torch.equal(back.tensor, result.labels["T1"].tensor)
    assert read_provenance(node)["preset"] == "rigid"


def test_all_is_undone_in_one_step(scene, volumes, result):
    scene.SetUndoOn()
    write_aligned(result, volumes)
    scene.Undo()
    names = [scene.GetNthNode(n).GetName() for n in range(scene.GetNumberOfNodes())]
    assert not {"T1 series to FLAIR series", "T1 series on FLAIR series", "T1 series segmentation"} & set(names)
    assert {"T1 series", "FLAIR series"} <= set(names)


def test_a_volume_that_was_removed_meanwhile_is_told_and_nothing_written(scene, volumes, result):
    scene.RemoveNode(volumes["T1"])
    nodes = scene.GetNumberOfNodes()
    with pytest.raises(NodeError, match="removed"):
        write_aligned(result, volumes)
    assert scene.GetNumberOfNodes() == nodes


@pytest.mark.parametrize(("style", "colors", "cut"), [("blend", "Iron", 0), ("pet", "PET-Heat", 1)])
def test_a_fusion_is_ready_in_the_slice_views(volumes, a_view, style, colors, cut):
    show_fusion(volumes["FLAIR"], volumes["T1"], style, 0.4)
    assert a_view.GetBackgroundVolumeID() == volumes["FLAIR"].GetID()
    assert a_view.GetForegroundVolumeID() == volumes["T1"].GetID()
    assert a_view.GetForegroundOpacity() == pytest.approx(0.4)
    display = volumes["T1"].GetDisplayNode()
    assert display.GetColorNode().GetName() == colors
    assert display.GetApplyThreshold() == cut
    assert 15 < display.GetLowerThreshold() < 25  # of intensities from 0 to 100
    assert volumes["FLAIR"].GetDisplayNode().GetColorNode().GetName() == "Grey"


def test_a_fusion_goes_on_in_a_saved_scene(scene, volumes, a_view, tmp_path):
    show_fusion(volumes["FLAIR"], volumes["T1"], "pet")
    save_scene(scene, tmp_path / "fused.mrb")
    opened = load_scene(tmp_path / "fused.mrb")
    node = opened.GetFirstNodeByName("T1 series")
    assert node.GetDisplayNode().GetColorNode().GetName() == "PET-Heat"
    assert node.GetDisplayNode().GetApplyThreshold()


def test_a_fusion_of_nothing_is_refused(volumes):
    with pytest.raises(NodeError):
        show_fusion(volumes["FLAIR"], None)
