"""Transforms through files: SimpleITK and our Transform send points to the same places."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import scipy.io
import SimpleITK as sitk
import torch

from MedSegRegLib.errors import DamagedFile, DimensionError, FileError, InvalidSetting, UnsupportedFile
from MedSegRegLib.files import read_transform, write_transform
from MedSegRegLib.files.transforms import read_itk_transform
from MedSegRegLib.geometry import Geometry, flip_ras_lps
from MedSegRegLib.transform import Affine, Displacement, Transform

ROTATION = np.array([[0.36, 0.48, -0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, 0.6]])
SHEAR = np.array([[1.0, 0.3, 0.0], [0.0, 0.954, 0.0], [0.0, 0.0, 1.0]])
GRIDS = {
    name: Geometry.from_spacing((12, 10, 8), (1.5, 2.0, 4.0), (-31.5, 12.25, 80.0), directions)
    for name, directions in {"oblique": ROTATION, "left-handed": ROTATION * (1, 1, -1), "axial": np.eye(3)}.items()
}
SHEARED = Geometry.from_spacing((12, 10, 8), (1.5, 2.0, 4.0), (-31.5, 12.25, 80.0), ROTATION @ SHEAR)
DENSE = (".nii.gz", ".nii", ".nrrd", ".mha")


def smooth_field(grid):
    """Up to 3 mm, different in each component, not zero at the border."""
    k, j, i = np.meshgrid(*(np.linspace(0, 1, n) for n in grid.shape_kji), indexing="ij")
    vectors = np.stack((3 * np.sin(2 * i + j), -2 * np.cos(3 * j - k), 1 + 2 * i * k))
    return Displacement(torch.from_numpy(vectors.astype(np.float32)), grid)


def tilted(offset):
    matrix = np.eye(4)
    matrix[:3, :3] = np.array([[1.02, 0.05, 0.0], [-0.04, 0.98, 0.03], [0.01, 0.0, 1.01]])
    matrix[:3, 3] = offset
    return Affine(matrix)


def chain(grid):
    return Transform((tilted((1.0, -0.5, 0.25)), smooth_field(grid), tilted((-7.0, 3.0, 12.0))))


def points_inside(grid):
    ijk = np.random.default_rng(1).uniform(0.25, 0.75, (50, 3)) * (np.array(grid.size_ijk) - 1)
    return grid.map_voxels(ijk)


def by_simpleitk(transform, ras):
    lps = [transform.TransformPoint(p) for p in flip_ras_lps(ras).tolist()]
    return flip_ras_lps(np.array(lps))


@pytest.mark.parametrize("grid", [*GRIDS.values(), SHEARED], ids=[*GRIDS, "sheared"])
def test_chain_in_h5_agrees_with_simpleitk_in_stage_order(tmp_path, grid):
    transform, ras = chain(grid), points_inside(grid)
    write_transform(transform, tmp_path / "t.h5")
    wanted = transform.map_points(ras)
    assert np.abs(by_simpleitk(sitk.ReadTransform(str(tmp_path / "t.h5")), ras) - wanted).max() < 1e-4
    assert np.abs(read_transform(tmp_path / "t.h5").map_points(ras) - wanted).max() < 1e-6
    reversed_chain = Transform(transform.stages[::-1]).map_points(ras)
    assert np.abs(reversed_chain - wanted).max() > 0.1


@pytest.mark.parametrize("extension", DENSE)
@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_dense_field_agrees_with_simpleitk_at_the_voxels(tmp_path, grid, extension):
    transform = chain(grid)
    write_transform(transform, tmp_path / f"t{extension}", grid)
    field = sitk.ReadImage(str(tmp_path / f"t{extension}"), sitk.sitkVectorFloat64)
    ras = grid.map_voxels(np.array([(0, 0, 0), (11, 9, 7), (3, 4, 5), (10, 1, 6)]))
    wanted = transform.map_points(ras)
    assert np.abs(by_simpleitk(sitk.DisplacementFieldTransform(field), ras) - wanted).max() < 1e-3
    back = read_transform(tmp_path / f"t{extension}")
    assert np.abs(back.map_points(ras) - wanted).max() < 1e-3


def test_dense_nifti_field_is_a_float32_vector_field_as_ants_writes_it(tmp_path):
    write_transform(chain(GRIDS["oblique"]), tmp_path / "t.nii.gz", GRIDS["oblique"])
    header = nibabel.load(tmp_path / "t.nii.gz").header
    assert header.get_data_shape() == (12, 10, 8, 1, 3)
    assert header["intent_code"] == 1007
    assert header.get_data_dtype() == np.float32


@pytest.mark.parametrize("extension", [".tfm", ".txt", ".h5"])
def test_linear_chain_becomes_one_affine(tmp_path, extension):
    transform = Transform((tilted((5.0, 6.0, 7.0)), tilted((-1.0, 0.0, 2.0))))
    write_transform(transform, tmp_path / f"t{extension}")
    itk = sitk.ReadTransform(str(tmp_path / f"t{extension}"))
    assert itk.GetName() == "AffineTransform"
    ras = points_inside(GRIDS["oblique"])
    assert np.abs(by_simpleitk(itk, ras) - transform.map_points(ras)).max() < 1e-9
    back = read_transform(tmp_path / f"t{extension}")
    assert len(back.stages) == 1
    assert np.abs(back.map_points(ras) - transform.map_points(ras)).max() < 1e-9


def test_identity_is_written_and_read(tmp_path):
    write_transform(Transform(), tmp_path / "t.tfm")
    assert np.allclose(read_transform(tmp_path / "t.tfm").stages[0].matrix, np.eye(4))


def linear_of_itk():
    euler = sitk.Euler3DTransform((10.0, -5.0, 3.0), 0.1, -0.2, 0.3, (1.0, 2.0, 3.0))
    versor = sitk.VersorRigid3DTransform()
    versor.SetRotation((0.0, 0.6, 0.8), 0.4)
    versor.SetCenter((3.0, -2.0, 9.0))
    similarity = sitk.Similarity3DTransform(1.2, (0.0, 0.0, 1.0), 0.3, (1.0, 2.0, 3.0), (4.0, 5.0, 6.0))
    affine = sitk.AffineTransform((ROTATION @ SHEAR).ravel().tolist(), (1.0, 2.0, 3.0), (9.0, 8.0, 7.0))
    return [
        euler,
        versor,
        similarity,
        affine,
        sitk.TranslationTransform(3, (1.0, -2.0, 3.0)),
        sitk.ScaleTransform(3, (1.0, 2.0, 0.5)),
    ]


@pytest.mark.parametrize("itk", linear_of_itk(), ids=lambda t: t.GetName())
@pytest.mark.parametrize("extension", [".tfm", ".h5"])
def test_reads_every_linear_kind_of_itk(tmp_path, itk, extension):
    sitk.WriteTransform(itk, str(tmp_path / f"t{extension}"))
    ras = points_inside(GRIDS["oblique"])
    assert np.abs(read_transform(tmp_path / f"t{extension}").map_points(ras) - by_simpleitk(itk, ras)).max() < 1e-9


def test_reads_nested_composites_of_itk_in_their_order(tmp_path):
    euler, versor, similarity, *_ = linear_of_itk()
    inner = sitk.CompositeTransform([euler, versor])
    itk = sitk.CompositeTransform([similarity, inner])
    flat = sitk.CompositeTransform(itk)
    flat.FlattenTransform()
    sitk.WriteTransform(flat, str(tmp_path / "t.tfm"))
    ras = points_inside(GRIDS["oblique"])
    assert np.abs(read_transform(tmp_path / "t.tfm").map_points(ras) - by_simpleitk(itk, ras)).max() < 1e-9


KIND_THAT_SIMPLEITK_WRAPS = """#Insight Transform File V1.0
#Transform 0
Transform: {}
Parameters: {}
FixedParameters: {}
"""


@pytest.mark.parametrize("kind", ["MatrixOffsetTransformBase_double_3_3", "AffineTransform_float_3_3"])
def test_reads_linear_kinds_that_other_programs_write(tmp_path, kind):
    text = KIND_THAT_SIMPLEITK_WRAPS.format(kind, "1 0.25 0 0 1 0 0 0 1 4 5 6", "1 2 3")
    (tmp_path / "t.txt").write_text(text)
    ras = points_inside(GRIDS["oblique"])
    wanted = by_simpleitk(sitk.ReadTransform(str(tmp_path / "t.txt")), ras)
    assert np.abs(wanted - ras).max() > 1
    assert np.abs(read_transform(tmp_path / "t.txt").map_points(ras) - wanted).max() < 1e-4


def test_kind_that_simpleitk_does_not_know_is_refused(tmp_path):
    numbers = " ".join(["1 0 0 0 1 0 0 0 1"] + ["1"] * 6)
    (tmp_path / "t.txt").write_text(
        KIND_THAT_SIMPLEITK_WRAPS.format("AzimuthElevationToCartesianTransform_double_3_3", numbers, "0 0 0")
    )
    with pytest.raises(FileError):
        read_transform(tmp_path / "t.txt")


def bspline():
    itk = sitk.BSplineTransform(3, 3)
    itk.SetTransformDomainOrigin((-20.0, 10.0, 5.0))
    itk.SetTransformDomainDirection(ROTATION.ravel().tolist())
    itk.SetTransformDomainPhysicalDimensions((120.0, 100.0, 80.0))
    itk.SetTransformDomainMeshSize((2, 2, 2))
    itk.SetParameters((np.random.default_rng(2).normal(size=len(itk.GetParameters())) * 0.5).tolist())
    return itk


@pytest.mark.parametrize("extension", [".tfm", ".h5"])
def test_reads_a_bspline_as_a_dense_field(tmp_path, extension):
    itk = bspline()
    sitk.WriteTransform(itk, str(tmp_path / f"t{extension}"))
    fractions = np.random.default_rng(3).uniform(0.01, 0.99, (200, 3))
    lps = np.array((-20.0, 10.0, 5.0)) + (fractions * (120.0, 100.0, 80.0)) @ ROTATION.T
    ras = flip_ras_lps(lps)
    assert np.abs(by_simpleitk(itk, ras) - ras).max() > 0.2
    assert np.abs(read_transform(tmp_path / f"t{extension}").map_points(ras) - by_simpleitk(itk, ras)).max() < 2e-3


def test_reads_displacement_field_of_simpleitk_and_is_zero_outside(tmp_path):
    grid = GRIDS["left-handed"]
    write_transform(Transform((smooth_field(grid),)), tmp_path / "t.h5")
    outside = grid.map_voxels(np.array([(-3.0, 4.0, 4.0), (5.0, 12.0, 3.0)]))
    itk = sitk.ReadTransform(str(tmp_path / "t.h5"))
    assert np.allclose(by_simpleitk(itk, outside), outside)
    assert np.allclose(read_transform(tmp_path / "t.h5").map_points(outside), outside)


@pytest.mark.parametrize("extension", [".tfm", ".txt"])
def test_deformable_transform_is_not_written_as_text(tmp_path, extension):
    with pytest.raises(UnsupportedFile, match=r"\.h5"):
        write_transform(chain(GRIDS["axial"]), tmp_path / f"t{extension}")
    assert list(tmp_path.iterdir()) == []


def test_dense_field_needs_a_grid(tmp_path):
    with pytest.raises(InvalidSetting, match="grid"):
        write_transform(chain(GRIDS["axial"]), tmp_path / "t.nii.gz")


def test_two_dimensional_transform_is_refused(tmp_path):
    sitk.WriteTransform(sitk.Euler2DTransform(), str(tmp_path / "t.tfm"))
    with pytest.raises(DimensionError):
        read_transform(tmp_path / "t.tfm")


@pytest.mark.parametrize("extension", [".h5", ".tfm", ".nii.gz"])
def test_truncated_transform_is_refused(tmp_path, extension):
    path = tmp_path / f"t{extension}"
    itk = chain(GRIDS["axial"]) if extension != ".tfm" else Transform((tilted((1, 2, 3)),))
    write_transform(itk, path, GRIDS["axial"])
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DamagedFile):
        read_transform(path)


def test_text_field_that_claims_a_huge_grid_is_refused(tmp_path):
    sitk.WriteTransform(bspline(), str(tmp_path / "t.tfm"))
    text = (tmp_path / "t.tfm").read_text().replace("FixedParameters: 5 5 5", "FixedParameters: 99999 99999 99999")
    (tmp_path / "t.tfm").write_text(text)
    with pytest.raises(DamagedFile, match="99999"):
        read_transform(tmp_path / "t.tfm")


@pytest.mark.parametrize("itk", linear_of_itk(), ids=lambda t: t.GetName())
def test_reads_the_linear_kinds_that_ants_writes_as_matlab(tmp_path, itk):
    sitk.WriteTransform(itk, str(tmp_path / "t.mat"))
    ras = points_inside(GRIDS["oblique"])
    assert np.abs(read_transform(tmp_path / "t.mat").map_points(ras) - by_simpleitk(itk, ras)).max() < 1e-9


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-1], lambda b: b + b"0", lambda b: b[:4] + b"\xff" * 4 + b[8:], lambda b: b""]
)
def test_a_damaged_matlab_file_is_refused(tmp_path, damage):
    path = tmp_path / "t.mat"
    sitk.WriteTransform(linear_of_itk()[0], str(path))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DamagedFile):
        read_transform(path)


def test_a_matlab_file_of_something_else_is_refused(tmp_path):
    scipy.io.savemat(tmp_path / "t.mat", {"x": np.eye(3)}, format="4")
    with pytest.raises(DamagedFile):
        read_transform(tmp_path / "t.mat")


@pytest.mark.parametrize("name", ["t.h5", "t.mat", "t.nii.gz"])
def test_itk_gives_a_second_opinion_on_the_same_file(tmp_path, name):
    grid = GRIDS["oblique"]
    transform = Transform((tilted((1.0, 2.0, 3.0)),)) if name == "t.mat" else Transform((smooth_field(grid),))
    write_transform(transform, tmp_path / name, grid)
    ras = points_inside(grid)
    assert np.abs(by_simpleitk(read_itk_transform(tmp_path / name), ras) - transform.map_points(ras)).max() < 1e-4
