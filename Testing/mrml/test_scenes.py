from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
import vtk

import MedSegRegLib
from MedSegRegLib.errors import (
    DamagedFile,
    FileError,
    MissingPackage,
    NodeError,
    OutputNotWritable,
    UnsafeFile,
    UnsupportedFile,
)
from MedSegRegLib.mrml import headless
from MedSegRegLib.mrml.headless import load_scene, load_volume, new_scene, save_node, save_scene, start_runtime
from MedSegRegLib.mrml.volumes import image_from_node


@pytest.fixture
def an_unsaveable_volume(scene):
    """A volume node whose image data are empty, with a storage node: MRML cannot write it."""
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "hollow")
    node.SetAndObserveImageData(vtk.vtkImageData())
    node.AddDefaultStorageNode()
    return node


@pytest.mark.parametrize("name", ["scene.mrb", "scene.mrml", "größe & (2).mrb"])
def test_a_scene_comes_back_with_its_data(scene, a_volume_node, an_image, tmp_path, name):
    a_volume_node.SetName("a/b: *ü* <name>")
    save_scene(scene, tmp_path / name)
    again = load_scene(tmp_path / name)
    image = image_from_node(again.GetFirstNodeByClass("vtkMRMLScalarVolumeNode"))
    np.testing.assert_array_equal(image.numpy(), an_image.numpy())
    assert image.geometry.same_grid(an_image.geometry)
    assert image.name == "a/b: *ü* <name>"
    assert sorted(os.listdir(tmp_path)) == (sorted(["Data", name]) if name.endswith(".mrml") else [name])


@pytest.mark.parametrize("name", ["scene.mrb", "scene.mrml"])
def test_a_relative_path_is_taken_from_the_working_directory(scene, a_volume_node, tmp_path, monkeypatch, name):
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    save_scene(scene, Path("folder") / name)
    assert (tmp_path / "folder" / name).is_file()
    assert load_scene(Path("folder") / name).GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 1


def test_a_loaded_scene_can_be_saved_again(scene, a_volume_node, an_image, tmp_path):
    save_scene(scene, tmp_path / "first.mrb")
    save_scene(load_scene(tmp_path / "first.mrb"), tmp_path / "second.mrb")
    image = image_from_node(load_scene(tmp_path / "second.mrb").GetFirstNodeByClass("vtkMRMLScalarVolumeNode"))
    np.testing.assert_array_equal(image.numpy(), an_image.numpy())


def test_our_bundles_and_slicers_are_the_same_kind(scene, a_volume_node, an_image, tmp_path):
    assert scene.WriteToMRB(str(tmp_path / "theirs.mrb"))
    image = image_from_node(load_scene(tmp_path / "theirs.mrb").GetFirstNodeByClass("vtkMRMLScalarVolumeNode"))
    np.testing.assert_array_equal(image.numpy(), an_image.numpy())
    save_scene(scene, tmp_path / "ours.mrb")
    other = new_scene()
    remote = slicer.vtkMRMLRemoteIOLogic()
    remote.SetMRMLScene(other)
    remote.AddDataIOToScene()
    (tmp_path / "cache").mkdir()
    other.GetCacheManager().SetRemoteCacheDirectory(str(tmp_path / "cache"))
    assert other.ReadFromMRB(str(tmp_path / "ours.mrb"), True)
    np.testing.assert_array_equal(
        image_from_node(other.GetFirstNodeByClass("vtkMRMLScalarVolumeNode")).numpy(), an_image.numpy()
    )


@pytest.mark.parametrize("name", ["scene.mrb", "scene.mrml"])
def test_a_scene_that_cannot_be_saved_leaves_the_previous_file(scene, an_unsaveable_volume, tmp_path, name):
    (tmp_path / name).write_text("previous")
    with pytest.raises(OutputNotWritable, match="hollow") as caught:
        save_scene(scene, tmp_path / name)
    assert str(tmp_path) not in str(caught.value)
    assert os.listdir(tmp_path) == [name]
    assert (tmp_path / name).read_text() == "previous"


def test_refuses_to_save_where_it_cannot(scene, tmp_path):
    with pytest.raises(OutputNotWritable, match="No such file"):
        save_scene(scene, tmp_path / "missing" / "scene.mrb")
    with pytest.raises(UnsupportedFile):
        save_scene(scene, tmp_path / "scene.xml")
    (tmp_path / "Data").mkdir()
    with pytest.raises(OutputNotWritable, match="Data"):
        save_scene(scene, tmp_path / "scene.mrml")


def test_a_damaged_bundle_is_refused_and_the_process_stays_where_it_is(tmp_path):
    folder = Path.cwd()
    (tmp_path / "no.mrb").write_text("not a bundle")
    with zipfile.ZipFile(tmp_path / "empty.mrb", "w") as archive:
        archive.writestr("scene/readme.txt", "no scene")
    with zipfile.ZipFile(tmp_path / "broken.mrb", "w") as archive:
        archive.writestr("scene/scene.mrml", "<MRML><Volume id=")
    for name in ("no.mrb", "empty.mrb", "broken.mrb"):
        with pytest.raises(DamagedFile):
            load_scene(tmp_path / name)
    with pytest.raises(FileError, match="no file"):
        load_scene(tmp_path / "absent.mrb")
    with pytest.raises(UnsupportedFile):
        load_scene(tmp_path / "volume.nrrd")
    assert Path.cwd() == folder


@pytest.mark.parametrize("entry", ["../out.txt", "/out.txt", "scene/../../out.txt", "..\\out.txt", "C:/out.txt"])
def test_refuses_a_bundle_that_reaches_outside(tmp_path, entry):
    with zipfile.ZipFile(tmp_path / "bad.mrb", "w") as archive:
        archive.writestr(entry, "x")
    with pytest.raises(UnsafeFile):
        load_scene(tmp_path / "bad.mrb")


def test_a_node_is_saved_without_changing_the_scene(scene, a_volume_node, an_image, tmp_path):
    before = scene.GetNumberOfNodes()
    save_node(a_volume_node, tmp_path / "image.nrrd")
    assert scene.GetNumberOfNodes() == before
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(tmp_path / "image.nrrd")), an_image.numpy()[0])


def test_refuses_voxels_that_mrml_cannot_store(scene, tmp_path):
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "signed bytes")
    image = vtk.vtkImageData()
    image.SetDimensions(2, 2, 2)
    image.AllocateScalars(vtk.VTK_SIGNED_CHAR, 1)
    node.SetAndObserveImageData(image)
    (tmp_path / "image.nrrd").write_text("previous")
    with pytest.raises(OutputNotWritable, match="signed"):
        save_node(node, tmp_path / "image.nrrd")
    assert os.listdir(tmp_path) == ["image.nrrd"]
    assert (tmp_path / "image.nrrd").read_text() == "previous"


def test_refuses_to_save_a_node_as_something_else(scene, a_volume_node, tmp_path):
    with pytest.raises(OutputNotWritable):
        save_node(a_volume_node, tmp_path / "image.docx")
    with pytest.raises(NodeError):
        save_node(None, tmp_path / "image.nrrd")
    assert os.listdir(tmp_path) == []


def test_a_volume_file_becomes_a_node(scene, an_image, tmp_path):
    image = sitk.GetImageFromArray(an_image.numpy()[0])
    image.SetSpacing((2.0, 3.0, 5.0))
    image.SetOrigin((1.0, 2.0, 3.0))
    sitk.WriteImage(image, tmp_path / "T1.nii.gz")
    node = load_volume(tmp_path / "T1.nii.gz", scene)
    back = image_from_node(node)
    np.testing.assert_array_equal(back.numpy(), an_image.numpy())
    np.testing.assert_allclose(back.geometry.origin_ras, (-1, -2, 3), atol=1e-6)
    assert node.GetName() == "T1"


def test_refuses_a_truncated_volume_that_mrml_would_fill_with_zeros(scene, an_image, tmp_path):
    sitk.WriteImage(sitk.GetImageFromArray(an_image.numpy()[0]), tmp_path / "T1.nii.gz")
    whole = (tmp_path / "T1.nii.gz").read_bytes()
    (tmp_path / "T1.nii.gz").write_bytes(whole[: len(whole) // 2])
    before = scene.GetNumberOfNodes()
    with pytest.raises(FileError):
        load_volume(tmp_path / "T1.nii.gz", scene)
    assert scene.GetNumberOfNodes() == before


def test_every_scene_is_fresh_and_has_its_logics(monkeypatch):
    monkeypatch.delattr(slicer, "app", raising=False)
    first = new_scene()
    first.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    second = new_scene()
    assert second.GetFirstNodeByClass("vtkMRMLScalarVolumeNode") is None
    assert start_runtime() is second
    assert slicer.modules.volumes.logic().GetMRMLScene() is second
    monkeypatch.delattr(slicer, "mrmlScene")
    assert start_runtime() is slicer.mrmlScene


def test_inside_slicer_its_own_scene_is_used(scene, monkeypatch):
    monkeypatch.setattr(slicer, "app", object(), raising=False)
    monkeypatch.setattr(slicer, "mrmlScene", scene, raising=False)
    assert start_runtime() is scene
    assert new_scene() is not scene
    assert slicer.mrmlScene is scene


def test_says_what_to_install_when_there_is_no_slicer(monkeypatch):
    monkeypatch.setitem(sys.modules, "slicer", None)
    with pytest.raises(MissingPackage, match=r"medsegreg\[scene\]"):
        headless.start_runtime()


def test_importing_the_library_imports_no_slicer():
    code = (
        "import sys, MedSegRegLib, MedSegRegLib.mrml.guards; "
        "assert not {'slicer', 'vtk', 'vtkmodules', 'torch', 'qt'} & {*sys.modules}"
    )
    folder = str(Path(MedSegRegLib.__file__).parents[1])
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": folder}, check=True)
