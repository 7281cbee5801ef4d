"""The files of ``medsegreg transform`` in Slicer: what it loads leads from parent, to the same places."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
import torch
import vtk

from MedSegRegLib.errors import UnsupportedFile
from MedSegRegLib.files import read_transform, write_transform
from MedSegRegLib.geometry import Geometry, flip_ras_lps
from MedSegRegLib.mrml.headless import save_node
from MedSegRegLib.mrml.transforms import write_transform as write_transform_node
from MedSegRegLib.register.invert import invert
from MedSegRegLib.transform import Affine, Displacement, Transform

GRID = Geometry.from_spacing((12, 11, 10), (4.0, 4.0, 5.0), (-22.0, -20.0, -22.0))
POINTS = np.random.default_rng(5).uniform(-9, 9, (30, 3))


def a_field() -> Displacement:
    k, j, i = np.meshgrid(*(np.linspace(0, np.pi, n) for n in GRID.shape_kji), indexing="ij")
    inside = np.sin(i) * np.sin(j) * np.sin(k)
    vectors = np.stack((3 * inside, -2 * inside * np.cos(i), inside))
    return Displacement(torch.from_numpy(vectors), GRID)


def a_matrix() -> Affine:
    matrix = np.eye(4)
    matrix[:2, :2] = [[0.96, -0.28], [0.28, 0.96]]
    matrix[:3, 3] = (3.0, -2.0, 1.0)
    return Affine(matrix)


def loaded(scene, path):
    """The node that Slicer makes of a file."""
    node = slicer.vtkSlicerTransformLogic().AddTransform(str(path), scene)
    assert node is not None
    return node


def from_parent(node, points):
    transform = node.GetTransformFromParent()
    return np.array([transform.TransformPoint(p) for p in points.tolist()])


@pytest.mark.parametrize(
    "chain", [(a_matrix(),), (a_field(),), (a_field(), a_matrix())], ids=["matrix", "field", "both"]
)
def test_slicer_takes_points_of_our_files_from_parent_to_the_same_places(scene, tmp_path, chain):
    transform = Transform(chain)
    write_transform(transform, tmp_path / "t.h5")
    node = loaded(scene, tmp_path / "t.h5")
    np.testing.assert_allclose(from_parent(node, POINTS), transform.map_points(POINTS), atol=0.1)  # cubic in Slicer


@pytest.mark.parametrize("name", ["t.tfm", "t.mat"])
def test_slicer_reads_linear_files_exactly(scene, tmp_path, name):
    write_transform(Transform((a_matrix(),)), tmp_path / name)
    matrix = vtk.vtkMatrix4x4()
    loaded(scene, tmp_path / name).GetMatrixTransformFromParent(matrix)
    np.testing.assert_allclose(slicer.util.arrayFromVTKMatrix(matrix), a_matrix().matrix, atol=1e-9)


def test_our_inverse_is_slicers_to_parent(scene, tmp_path):
    transform = Transform((a_field(), a_matrix()))
    write_transform(transform, tmp_path / "t.h5")
    node = loaded(scene, tmp_path / "t.h5")
    to_parent = node.GetTransformToParent()
    slicers = np.array([to_parent.TransformPoint(p) for p in POINTS.tolist()])
    np.testing.assert_allclose(invert(transform).map_points(POINTS), slicers, atol=0.2)  # cubic in Slicer


@pytest.mark.parametrize("extension", [".h5", ".tfm"])
def test_slicers_own_files_are_read(scene, tmp_path, extension):
    node = write_transform_node(Transform((a_field(),)), scene, "bend")
    save_node(node, tmp_path / f"t{extension}")
    np.testing.assert_allclose(
        read_transform(tmp_path / f"t{extension}").map_points(POINTS), from_parent(node, POINTS), atol=1e-4
    )
    itk = sitk.ReadTransform(str(tmp_path / f"t{extension}"))
    by_itk = flip_ras_lps(np.array([itk.TransformPoint(p) for p in flip_ras_lps(POINTS).tolist()]))
    np.testing.assert_allclose(by_itk, from_parent(node, POINTS), atol=1e-4)


@pytest.mark.parametrize("extension", [".h5", ".tfm"])
def test_a_file_that_slicer_saved_to_parent_is_refused_with_the_way_out(scene, tmp_path, extension):
    grid = write_transform_node(Transform((a_field(),)), scene, "bend").GetTransformFromParent()
    other_side = slicer.vtkOrientedGridTransform()
    other_side.DeepCopy(grid)
    node = scene.AddNewNodeByClass("vtkMRMLGridTransformNode", "to parent")
    node.SetAndObserveTransformToParent(other_side)
    save_node(node, tmp_path / f"t{extension}")
    with pytest.raises(UnsupportedFile, match=r"InverseDisplacementFieldTransform.*convert it to a grid"):
        read_transform(tmp_path / f"t{extension}")
