"""One direction everywhere: Slicer's own code, SimpleITK and the library send a point to the same place."""

from __future__ import annotations

import gc

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
import torch
import vtk
from scipy.spatial.transform import Rotation

from MedSegRegLib.errors import InputError, InvalidGeometry, NodeError
from MedSegRegLib.geometry import Geometry, flip_ras_lps, flip_world_matrix
from MedSegRegLib.image import Image
from MedSegRegLib.mrml.headless import save_node
from MedSegRegLib.mrml.transforms import transform_from_node, write_flat_transform, write_transform
from MedSegRegLib.mrml.volumes import image_from_node, node_from_image
from MedSegRegLib.resample import resample_image
from MedSegRegLib.transform import Affine, Displacement, Transform

TOLERANCE_MM = 0.01


def an_affine(angle, shift):
    matrix = np.eye(4)
    rotation = Rotation.from_euler("xyz", (angle, -angle, 2 * angle), degrees=True).as_matrix()
    matrix[:3, :3] = rotation * (1.02, 0.99, 1.01)
    matrix[:3, 3] = shift
    return Affine(matrix)


def a_displacement(grid, amplitude_mm=2.0):
    """Smooth vectors that differ along each axis."""
    i, j, k = (np.linspace(0, np.pi, n) for n in grid.size_ijk)
    kk, jj, ii = np.meshgrid(k, j, i, indexing="ij")
    vectors = np.stack((np.sin(ii) * np.cos(jj), np.sin(jj + 1) * np.sin(kk), np.cos(2 * ii) * np.sin(kk + 0.5)))
    return Displacement(torch.from_numpy(amplitude_mm * vectors), grid)


def wider(grid):
    """A larger grid of other voxels around the same place: later stages see points that were moved."""
    matrix = np.eye(4)
    matrix[:3, :3] = grid.directions * 6.0
    matrix[:3, 3] = grid.centre_ras - matrix[:3, :3] @ ((14, 13, 12) - np.ones(3)) / 2
    return Geometry((14, 13, 12), matrix)


def inverse_of(displacement):
    """Fixed-point inverse on the same grid."""
    forward, grid = Transform((displacement,)), displacement.geometry
    i, j, k = grid.size_ijk
    kji = np.stack(np.meshgrid(np.arange(k), np.arange(j), np.arange(i), indexing="ij"), -1).reshape(-1, 3)
    moving = grid.map_voxels(kji[:, ::-1])
    fixed = moving.copy()
    for _ in range(30):
        fixed = moving - (forward.map_points(fixed) - fixed)
    return Displacement(torch.from_numpy((fixed - moving).T.reshape(3, k, j, i).copy()), grid)


def transforms_on(grid):
    linear, dense, wide = an_affine(4, (3, -2, 5)), a_displacement(grid), a_displacement(wider(grid), 1.5)
    return {
        "identity": Transform(),
        "linear": Transform((linear,)),
        "grid": Transform((dense,)),
        "chain": Transform((dense, linear, wide)),
        "affine first": Transform((an_affine(2, (1, 1, -1)), wide)),
        "inverse": Transform((linear.inverse(), inverse_of(wide))),
    }


@pytest.fixture(params=["identity", "linear", "grid", "chain", "affine first", "inverse"])
def transform(request, grid):
    return transforms_on(grid)[request.param]


@pytest.fixture
def points(grid):
    """Points of the fixed image, away from its border."""
    size = np.array(grid.size_ijk) - 1
    return grid.map_voxels(np.random.default_rng(3).uniform(0.15, 0.85, (200, 3)) * size)


def through(vtk_transform, points):
    return np.array([vtk_transform.TransformPoint(point) for point in points])


def through_slicer(node, points):
    """World -> local: a volume under the node is looked up there."""
    chain = vtk.vtkGeneralTransform()
    node.GetTransformFromWorld(chain)
    return through(chain, points)


def itk_field(displacement):
    image = sitk.GetImageFromArray(flip_ras_lps(np.moveaxis(displacement.vectors_ras_mm.numpy(), 0, -1)), isVector=True)
    geometry = displacement.geometry
    image.SetSpacing(geometry.spacing_mm)
    image.SetOrigin(flip_ras_lps(geometry.origin_ras).tolist())
    image.SetDirection((np.diag([-1, -1, 1]) @ geometry.directions).ravel().tolist())
    return image


def itk_stage(stage):
    if isinstance(stage, Displacement):
        return sitk.DisplacementFieldTransform(itk_field(stage))
    matrix, itk = flip_world_matrix(stage.matrix), sitk.AffineTransform(3)
    itk.SetMatrix(matrix[:3, :3].ravel().tolist())
    itk.SetTranslation(matrix[:3, 3].tolist())
    return itk


def through_itk(itk, points):
    return np.array([flip_ras_lps(itk.TransformPoint(flip_ras_lps(point).tolist())) for point in points])


def assert_close(found, expected, tolerance=TOLERANCE_MM):
    assert np.linalg.norm(found - expected, axis=-1).max() < tolerance


def test_slicer_itk_and_the_library_send_points_to_the_same_place(scene, transform, points):
    expected = transform.map_points(points)
    node = write_transform(transform, scene, "result")
    itk = sitk.CompositeTransform(3)
    for stage in reversed(transform.stages):  # ITK applies the last one added first
        itk.AddTransform(itk_stage(stage))
    assert_close(through_slicer(node, points), expected, 1e-4)
    assert_close(through_itk(itk, points), expected, 1e-4)
    assert node.GetName() == "result"
    if transform.stages:
        assert np.linalg.norm(expected - points, axis=1).max() > 1


def test_a_chain_becomes_nested_nodes_with_the_first_stage_outermost(scene, an_oblique_grid):
    chain = transforms_on(an_oblique_grid)["chain"]
    inner = write_transform(chain, scene, "moving to fixed")
    middle = inner.GetParentTransformNode()
    outer = middle.GetParentTransformNode()
    classes = [node.GetClassName() for node in (outer, middle, inner)]
    assert classes == ["vtkMRMLGridTransformNode", "vtkMRMLLinearTransformNode", "vtkMRMLGridTransformNode"]
    assert [node.GetName() for node in (outer, inner)] == ["moving to fixed (stage 1 of 3)", "moving to fixed"]
    assert outer.GetParentTransformNode() is None
    np.testing.assert_array_equal(
        slicer.util.arrayFromGridTransform(outer), np.moveaxis(chain.stages[0].vectors_ras_mm.numpy(), 0, -1)
    )


def test_a_transform_comes_back_from_its_nodes_exactly(scene, transform, points):
    back = transform_from_node(write_transform(transform, scene, "result"))
    assert len(back.stages) == max(1, len(transform.stages))
    np.testing.assert_allclose(back.map_points(points), transform.map_points(points), atol=1e-9)


def test_a_grid_node_takes_vectors_as_they_come_and_keeps_them(scene, an_oblique_grid):
    vectors = np.random.default_rng(0).normal(size=(*an_oblique_grid.shape_kji, 3)).astype(np.float32)
    kept = vectors.copy()
    node = write_transform(Transform((Displacement(np.moveaxis(vectors, -1, 0), an_oblique_grid),)), scene, "field")
    written = slicer.util.arrayFromGridTransform(node)
    assert written.dtype == np.float32
    assert np.shares_memory(written, vectors)
    del vectors, written
    gc.collect()
    np.testing.assert_array_equal(slicer.util.arrayFromGridTransform(node), kept)


def test_slicers_own_inverse_brings_the_points_back(scene, transform, points):
    node = write_transform(transform, scene, "result")
    to_world = vtk.vtkGeneralTransform()
    node.GetTransformToWorld(to_world)
    stages = max(1, len(transform.stages))  # each is inverted to VTK's own tolerance of 0.01 mm
    assert_close(through(to_world, transform.map_points(points)), points, 2 * TOLERANCE_MM * stages)


def test_the_written_inverse_undoes_the_transform(scene, an_oblique_grid):
    dense = a_displacement(wider(an_oblique_grid), 1.5)
    points = an_oblique_grid.map_voxels(np.random.default_rng(4).uniform(3, 6, (50, 3)))
    forward = write_transform(Transform((dense,)), scene, "forward")
    inverse = write_transform(Transform((inverse_of(dense),)), scene, "inverse")
    assert_close(through_slicer(inverse, through_slicer(forward, points)), points, 0.1)  # two linear interpolations


def test_a_hardened_landmark_moves_from_the_moving_to_the_fixed_study(scene, transform, points):
    landmarks = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode")
    for point in transform.map_points(points[:10]):
        landmarks.AddControlPoint(point)
    landmarks.SetAndObserveTransformNodeID(write_transform(transform, scene, "result").GetID())
    landmarks.HardenTransform()
    found = slicer.util.arrayFromMarkupsControlPoints(landmarks)
    assert_close(found, points[:10], 0.1)


def test_slicers_resampling_equals_ours(scene, transform, grid):
    rng = np.random.default_rng(5)
    moving_grid = wider(grid).with_spacing((2.0, 2.5, 3.0))
    moving = Image.from_array(rng.uniform(0, 1000, moving_grid.shape_kji), moving_grid, "moving")
    ours = resample_image(moving, grid, transform).numpy()[0]
    moving_node = node_from_image(moving, scene, "moving")
    fixed_node = node_from_image(Image.from_array(np.zeros(grid.shape_kji), grid), scene, "fixed")
    moving_node.SetAndObserveTransformNodeID(write_transform(transform, scene, "result").GetID())
    resampled = slicer.vtkSlicerVolumesLogic.ResampleVolumeToReferenceVolume(moving_node, fixed_node)
    resampled.SetAndObserveTransformNodeID(None)  # it comes with the parent of the moving volume
    theirs = image_from_node(resampled)
    assert theirs.geometry.same_grid(grid, 1e-6)
    inner = (slice(2, -2),) * 3
    voxels = moving_grid.map_points(
        transform.map_points(
            grid.map_voxels(
                np.stack(np.meshgrid(*(np.arange(n) for n in grid.shape_kji), indexing="ij"), -1)[..., ::-1]
            ).reshape(-1, 3)
        )
    )
    inside = ((voxels >= 0) & (voxels <= np.array(moving_grid.size_ijk) - 1)).all(1).reshape(grid.shape_kji)[inner]
    assert inside.mean() > 0.5
    assert np.abs(theirs.numpy()[0][inner] - ours[inner])[inside].max() < 1e-3 * 1000


@pytest.mark.parametrize("name", ["field.nii.gz", "field.nrrd", "field.mha", "field.h5", "field.tfm"])
def test_itk_reads_a_saved_grid_transform(scene, grid, points, tmp_path, name):
    transform = Transform((a_displacement(grid),))
    save_node(write_transform(transform, scene, "result"), tmp_path / name)
    if name.endswith((".h5", ".tfm")):
        itk = sitk.ReadTransform(tmp_path / name)
    else:
        itk = sitk.DisplacementFieldTransform(sitk.ReadImage(tmp_path / name, sitk.sitkVectorFloat64))
    assert_close(through_itk(itk, points), transform.map_points(points), 1e-4)


def test_refuses_a_sheared_grid_as_nifti_and_keeps_it_in_nrrd(scene, a_sheared_grid, tmp_path):
    sheared = a_sheared_grid
    transform = Transform((a_displacement(sheared),))
    points = sheared.map_voxels(np.random.default_rng(9).uniform(2, 6, (50, 3)))
    node = write_transform(transform, scene, "result")
    assert_close(through_slicer(node, points), transform.map_points(points), 1e-4)
    save_node(node, tmp_path / "field.nrrd")
    itk = sitk.DisplacementFieldTransform(sitk.ReadImage(tmp_path / "field.nrrd", sitk.sitkVectorFloat64))
    assert_close(through_itk(itk, points), transform.map_points(points), 1e-4)
    volume = node_from_image(Image.from_array(np.ones(sheared.shape_kji), sheared), scene, "sheared")
    for refused in (node, volume):
        with pytest.raises(InvalidGeometry):
            save_node(refused, tmp_path / "field.nii.gz")


@pytest.mark.parametrize("name", ["field.nii.gz", "field.nrrd", "field.h5"])
def test_a_grid_transform_of_itk_is_read_through_slicer(scene, grid, points, tmp_path, name):
    displacement = a_displacement(grid)
    if name.endswith(".h5"):
        sitk.WriteTransform(itk_stage(displacement), tmp_path / name)
    else:
        sitk.WriteImage(itk_field(displacement), tmp_path / name)
    logic = slicer.vtkSlicerTransformLogic()
    logic.SetMRMLScene(scene)
    node = logic.AddTransform(str(tmp_path / name), scene)
    assert_close(transform_from_node(node).map_points(points), Transform((displacement,)).map_points(points), 1e-4)


def test_a_linear_transform_is_the_same_file_for_itk_and_slicer(scene, an_oblique_grid, tmp_path):
    transform = Transform((an_affine(5, (1, 2, 3)),))
    points = an_oblique_grid.corners_ras()
    save_node(write_transform(transform, scene, "result"), tmp_path / "linear.tfm")
    assert_close(through_itk(sitk.ReadTransform(tmp_path / "linear.tfm"), points), transform.map_points(points), 1e-6)


def test_a_flat_transform_equals_the_chain_at_the_voxels(scene, grid):
    chain = transforms_on(grid)["chain"]
    node = write_flat_transform(chain, grid, scene, "flat")
    voxels = grid.map_voxels(np.random.default_rng(6).integers(0, 9, (100, 3)))
    assert node.GetParentTransformNode() is None
    assert_close(through_slicer(node, voxels), chain.map_points(voxels), 1e-4)


def test_other_kinds_of_transform_are_sampled_on_a_grid(a_nonlinear_parent, a_linear_parent, an_oblique_grid):
    a_nonlinear_parent.SetAndObserveTransformNodeID(a_linear_parent.GetID())
    with pytest.raises(InputError, match="bend"):
        transform_from_node(a_nonlinear_parent)
    transform = transform_from_node(a_nonlinear_parent, an_oblique_grid)
    voxels = an_oblique_grid.map_voxels(np.random.default_rng(7).integers(0, 9, (100, 3)))
    assert_close(transform.map_points(voxels), through_slicer(a_nonlinear_parent, voxels), 1e-9)
    assert_close(through_slicer(a_linear_parent, voxels), transform_from_node(a_linear_parent).map_points(voxels), 1e-9)


def test_the_numerically_inverted_side_of_a_grid_is_sampled(scene, an_oblique_grid):
    node = write_transform(Transform((a_displacement(wider(an_oblique_grid)),)), scene, "result")
    node.Inverse()
    with pytest.raises(InputError):
        transform_from_node(node)
    voxels = an_oblique_grid.map_voxels(np.random.default_rng(8).integers(0, 9, (100, 3)))
    sampled = transform_from_node(node, an_oblique_grid).map_points(voxels)
    assert_close(sampled, through_slicer(node, voxels), 1e-9)


def test_refuses_an_empty_grid_transform_and_nodes_without_transform(scene, a_volume_node):
    empty = scene.AddNewNodeByClass("vtkMRMLGridTransformNode", "empty")
    with pytest.raises(InputError, match="no displacement grid"):
        transform_from_node(empty)
    with pytest.raises(NodeError):
        transform_from_node(a_volume_node)
    scene.RemoveNode(empty)
    with pytest.raises(NodeError, match="removed"):
        transform_from_node(empty)


def test_one_undo_takes_all_nodes_of_a_chain_back(scene, an_oblique_grid):
    before = scene.GetNumberOfNodesByClass("vtkMRMLTransformNode")
    scene.SetUndoOn()
    write_transform(transforms_on(an_oblique_grid)["chain"], scene, "result")
    assert scene.GetNumberOfNodesByClass("vtkMRMLTransformNode") == before + 3
    scene.Undo()
    assert scene.GetNumberOfNodesByClass("vtkMRMLTransformNode") == before
