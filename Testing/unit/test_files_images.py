"""Images through files: values and places come back, and what cannot be worked on is refused with a reason."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from MedSegRegLib.errors import ComponentCount, DimensionError, InvalidGeometry
from MedSegRegLib.files import VOLUME_EXTENSIONS, read_image, write_image
from MedSegRegLib.geometry import Geometry, flip_ras_lps
from MedSegRegLib.image import Image

ROTATION = np.array([[0.36, 0.48, -0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, 0.6]])
GRIDS = {
    "oblique": Geometry.from_spacing((6, 5, 4), (0.7, 1.5, 3.0), (-31.5, 12.25, 80.0), ROTATION),
    "left-handed": Geometry.from_spacing((6, 5, 4), (0.7, 1.5, 3.0), (-31.5, 12.25, 80.0), ROTATION * (1, 1, -1)),
    "one slice": Geometry.from_spacing((6, 5, 1), (0.7, 1.5, 3.0), (-31.5, 12.25, 80.0), ROTATION),
}
VOXELS = np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32)


def nifti(path, array_ijk, affine=None, **fields):
    image = nibabel.Nifti1Image(array_ijk, np.eye(4) if affine is None else affine)
    for key, value in fields.items():
        image.header[key] = value
    image.to_filename(path)
    return path


@pytest.mark.parametrize("extension", VOLUME_EXTENSIONS)
@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_image_comes_back_identical_in_its_place(tmp_path, extension, grid):
    image = Image.from_array(VOXELS[: grid.size_ijk[2]], grid)
    write_image(image, tmp_path / f"a brain.v2{extension}")
    back = read_image(tmp_path / f"a brain.v2{extension}")
    assert np.array_equal(back.numpy(), image.numpy())
    assert back.geometry.same_grid(grid, 1e-4)
    assert back.name == "a brain.v2"


@pytest.mark.parametrize("extension", VOLUME_EXTENSIONS)
def test_simpleitk_sees_the_same_points(tmp_path, extension):
    grid = GRIDS["left-handed"]
    write_image(Image.from_array(VOXELS, grid), tmp_path / f"x{extension}")
    itk = sitk.ReadImage(str(tmp_path / f"x{extension}"))
    lps = np.array([itk.TransformIndexToPhysicalPoint(p) for p in ((0, 0, 0), (5, 4, 3), (5, 0, 1))])
    assert np.allclose(flip_ras_lps(lps), grid.map_voxels(np.array([(0, 0, 0), (5, 4, 3), (5, 0, 1)])), atol=1e-4)


@pytest.mark.parametrize("extension", [".nii", ".nii.gz"])
def test_nibabel_sees_the_same_matrix(tmp_path, extension):
    write_image(Image.from_array(VOXELS, GRIDS["oblique"]), tmp_path / f"x{extension}")
    assert np.allclose(nibabel.load(tmp_path / f"x{extension}").affine, GRIDS["oblique"].ijk_to_ras, atol=1e-4)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.float64])
@pytest.mark.parametrize("extension", VOLUME_EXTENSIONS)
def test_reads_every_real_type_exactly(tmp_path, dtype, extension):
    values = np.array([[[0, 1, 2], [100, 50, 127]]], dtype)
    sitk.WriteImage(sitk.GetImageFromArray(values), str(tmp_path / f"x{extension}"))
    assert read_image(tmp_path / f"x{extension}").numpy()[0].tolist() == values.tolist()


@pytest.mark.parametrize("order", ["<", ">"])
def test_reads_both_byte_orders_with_scaling(tmp_path, order):
    header = nibabel.Nifti1Header(endianness=order)
    header.set_data_dtype(np.int16)
    image = nibabel.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.eye(4), header)
    image.header.set_slope_inter(2.0, -5.0)
    image.to_filename(tmp_path / "x.nii")
    expected = np.asarray(nibabel.load(tmp_path / "x.nii").dataobj, np.float32).T
    assert np.array_equal(read_image(tmp_path / "x.nii").numpy()[0], expected)


@pytest.mark.parametrize("extension", VOLUME_EXTENSIONS)
def test_two_dimensional_file_is_one_slice(tmp_path, extension):
    flat = sitk.GetImageFromArray(VOXELS[0])
    flat.SetSpacing((0.5, 0.25))
    sitk.WriteImage(flat, str(tmp_path / f"x{extension}"))
    image = read_image(tmp_path / f"x{extension}")
    assert image.geometry.size_ijk == (6, 5, 1)
    assert image.geometry.spacing_mm == (0.5, 0.25, 1.0)


@pytest.mark.parametrize("extension", VOLUME_EXTENSIONS)
def test_not_finite_voxels_stay_as_they_are(tmp_path, extension):
    voxels = VOXELS.copy()
    voxels[1, 2, 3], voxels[0, 0, 0] = np.nan, np.inf
    write_image(Image.from_array(voxels, GRIDS["oblique"]), tmp_path / f"x{extension}")
    back = read_image(tmp_path / f"x{extension}").numpy()[0]
    assert np.isnan(back[1, 2, 3])
    assert back[0, 0, 0] == np.inf
    assert np.isfinite(back).sum() == back.size - 2


@pytest.mark.parametrize("extension", VOLUME_EXTENSIONS)
def test_time_series_asks_for_a_frame(tmp_path, extension):
    frame = sitk.GetImageFromArray(VOXELS)
    sitk.WriteImage(sitk.JoinSeries([frame, frame]), str(tmp_path / f"x{extension}"))
    with pytest.raises(DimensionError, match="choose a frame"):
        read_image(tmp_path / f"x{extension}")


@pytest.mark.parametrize("extension", VOLUME_EXTENSIONS)
def test_vector_voxels_are_refused(tmp_path, extension):
    one = sitk.GetImageFromArray(VOXELS)
    sitk.WriteImage(sitk.Compose([one] * 3), str(tmp_path / f"x{extension}"))
    with pytest.raises(ComponentCount, match="3 values a voxel"):
        read_image(tmp_path / f"x{extension}")


def test_colour_nifti_is_refused(tmp_path):
    colour = np.zeros((3, 3, 3), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    with pytest.raises(ComponentCount, match="RGB"):
        read_image(nifti(tmp_path / "x.nii", colour))


def test_several_channels_are_not_written_into_one_file(tmp_path):
    with pytest.raises(ComponentCount):
        write_image(Image.from_array(np.stack([VOXELS] * 2), GRIDS["oblique"]), tmp_path / "x.nrrd")
    assert list(tmp_path.iterdir()) == []


def test_sheared_grid_is_kept_by_mha_and_refused_by_nifti(tmp_path):
    matrix = np.eye(4)
    matrix[0, 1] = 0.3
    image = Image.from_array(VOXELS, Geometry((6, 5, 4), matrix))
    write_image(image, tmp_path / "x.mha")
    assert np.allclose(read_image(tmp_path / "x.mha").geometry.ijk_to_ras, matrix, atol=1e-5)
    with pytest.raises(InvalidGeometry, match="nrrd"):
        write_image(image, tmp_path / "x.nii.gz")


def test_sheared_sform_is_refused_with_a_way_out(tmp_path):
    matrix = np.eye(4)
    matrix[0, 1] = 0.3
    with pytest.raises(InvalidGeometry, match="resample"):
        read_image(nifti(tmp_path / "x.nii", VOXELS.T, matrix))


def test_conflict_of_qform_and_sform_is_reported_and_simpleitk_is_followed(tmp_path, capfd):
    image = nibabel.Nifti1Image(VOXELS.T, np.eye(4))
    image.set_sform(np.diag([-1.0, -1, 1, 1]), 1)
    image.set_qform(np.array([[1.0, 0, 0, 50], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), 1)
    image.to_filename(tmp_path / "x.nii")
    read = read_image(tmp_path / "x.nii")
    assert "disagree by" in read.findings[0].message
    itk = sitk.ReadImage(str(tmp_path / "x.nii"))
    end = flip_ras_lps(np.array(itk.TransformIndexToPhysicalPoint((5, 4, 3))))
    assert np.allclose(read.geometry.map_voxels(np.array([5, 4, 3])), end)
    capfd.readouterr()


def test_spacing_conflict_of_sform_and_pixdim_is_reported(tmp_path):
    image = nibabel.Nifti1Image(VOXELS.T, None)
    image.set_sform(np.diag([3.0, 2, 1, 1]), 1, update_affine=False)
    image.header["pixdim"][1:4] = 1
    image.to_filename(tmp_path / "x.nii")
    read = read_image(tmp_path / "x.nii")
    assert "pixdim is used" in read.findings[0].message
    assert read.geometry.spacing_mm == (1.0, 1.0, 1.0)


def test_nifti_without_position_is_reported(tmp_path):
    image = nibabel.Nifti1Image(VOXELS.T, None)
    image.header.set_qform(None, 0)
    image.header.set_sform(None, 0)
    image.to_filename(tmp_path / "x.nii")
    assert "nothing about its position" in read_image(tmp_path / "x.nii").findings[0].message


def test_ordinary_file_has_no_findings(tmp_path):
    write_image(Image.from_array(VOXELS, GRIDS["oblique"]), tmp_path / "x.nii.gz")
    assert read_image(tmp_path / "x.nii.gz").findings == ()


def test_path_with_spaces_and_unicode_works(tmp_path):
    folder = tmp_path / "Müller 日本"
    folder.mkdir()
    write_image(Image.from_array(VOXELS, GRIDS["oblique"]), folder / "é x.nii.gz")
    assert read_image(folder / "é x.nii.gz").name == "é x"
