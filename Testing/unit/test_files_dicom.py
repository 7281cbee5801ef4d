"""DICOM folders: slices are ordered by position, and gaps, mixtures and foreign files are found."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from MedSegRegLib.errors import ComponentCount, DamagedFile, DimensionError, InvalidGeometry, UnsupportedFile
from MedSegRegLib.files import read_image
from MedSegRegLib.geometry import Geometry, flip_ras_lps

ROTATION = np.array([[0.36, 0.48, -0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, 0.6]])
OBLIQUE = Geometry.from_spacing((6, 5, 8), (0.7, 1.5, 3.0), (-31.5, 12.25, 80.0), ROTATION)
VOXELS = np.random.default_rng(0).integers(0, 2000, (8, 5, 6)).astype(np.uint16)


def write_slice(path, voxels, position_ras, series, directions=ROTATION, **tags):
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(str(path), Dataset(), file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    data.SeriesInstanceUID, data.StudyInstanceUID, data.Modality = series, "1.2.3", "CT"
    data.Rows, data.Columns = voxels.shape[:2]
    data.PixelSpacing, data.SliceThickness = [1.5, 0.7], 3.0
    data.ImagePositionPatient = [f"{x:.6f}" for x in flip_ras_lps(position_ras)]
    data.ImageOrientationPatient = [f"{x:.8f}" for x in flip_ras_lps(directions.T[:2]).ravel()]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation = 15, 0
    data.RescaleSlope, data.RescaleIntercept = 2.0, -1024.0
    data.PixelData = voxels.tobytes()
    for key, value in tags.items():
        setattr(data, key, value)
    data.save_as(path, enforce_file_format=True)


@pytest.fixture
def folder(tmp_path):
    """An oblique series of 8 slices under shuffled file names."""
    series = generate_uid()
    for n, k in enumerate(np.random.default_rng(1).permutation(8)):
        write_slice(tmp_path / f"{n}.dcm", VOXELS[k], OBLIQUE.map_voxels(np.array([0, 0, k])), series)
    return tmp_path


def file_of_slice(folder, k):
    wanted = flip_ras_lps(OBLIQUE.map_voxels(np.array([0, 0, k])))
    return next(p for p in folder.iterdir() if np.allclose(pydicom.dcmread(p).ImagePositionPatient, wanted, atol=1e-3))


def edit(path, **tags):
    data = pydicom.dcmread(path)
    for key, value in tags.items():
        setattr(data, key, value)
    data.save_as(path)


def test_slices_are_ordered_by_position_and_rescaled(folder):
    image = read_image(folder)
    assert np.array_equal(image.numpy()[0], VOXELS * 2.0 - 1024.0)
    assert image.geometry.same_grid(OBLIQUE, 1e-4)
    assert image.findings == ()


def test_dicomdir_and_other_files_are_not_followed(folder):
    (folder / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM" + b"../../../etc/passwd")
    (folder / "notes.txt").write_text("hello")
    (folder / "virus.exe").write_bytes(b"MZ" + b"\0" * 600)
    assert read_image(folder).findings == ()


def test_missing_slice_is_refused_with_its_position(folder):
    file_of_slice(folder, 3).unlink()
    with pytest.raises(InvalidGeometry, match=r"usual distance 3\.00 mm, but"):
        read_image(folder)


def test_slightly_uneven_spacing_is_a_warning(folder):
    moved = flip_ras_lps(OBLIQUE.map_voxels(np.array([0, 0, 3.05])))
    edit(file_of_slice(folder, 3), ImagePositionPatient=[f"{x:.6f}" for x in moved])
    assert "0.15 mm away from even spacing" in read_image(folder).findings[0].message


def test_two_series_are_refused(folder):
    edit(file_of_slice(folder, 3), SeriesInstanceUID=generate_uid())
    with pytest.raises(UnsupportedFile, match="2 series"):
        read_image(folder)


def test_mixed_orientation_is_refused(folder):
    edit(file_of_slice(folder, 3), ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
    with pytest.raises(InvalidGeometry, match="orientation"):
        read_image(folder)


def test_two_slices_at_one_position_are_refused(folder):
    (folder / "copy.dcm").write_bytes(file_of_slice(folder, 3).read_bytes())
    with pytest.raises(DimensionError, match="share a position"):
        read_image(folder)


def test_slices_without_position_are_refused(folder):
    path = file_of_slice(folder, 3)
    data = pydicom.dcmread(path)
    del data.ImagePositionPatient
    data.save_as(path)
    with pytest.raises(InvalidGeometry, match="no position"):
        read_image(folder)


def test_gantry_tilt_is_kept_as_shear(tmp_path):
    series = generate_uid()
    for k in range(8):
        write_slice(tmp_path / f"{k}.dcm", VOXELS[k], np.array([0.0, 0.5 * k, 3.0 * k]), series, np.eye(3))
    image = read_image(tmp_path)
    assert image.geometry.is_sheared
    assert np.allclose(image.geometry.map_voxels(np.array([0, 0, 7])), (0.0, 3.5, 21.0), atol=1e-5)
    assert np.array_equal(image.numpy()[0], VOXELS * 2.0 - 1024.0)


def test_one_file_is_one_slice(tmp_path):
    write_slice(tmp_path / "x.dcm", VOXELS[0], np.array([1.0, 2.0, 3.0]), generate_uid())
    image = read_image(tmp_path)
    assert image.geometry.size_ijk == (6, 5, 1)
    assert np.allclose(image.geometry.origin_ras, (1.0, 2.0, 3.0), atol=1e-5)


def test_colour_is_refused(tmp_path):
    write_slice(
        tmp_path / "x.dcm",
        np.zeros((5, 6, 3), np.uint8),
        np.zeros(3),
        generate_uid(),
        SamplesPerPixel=3,
        PhotometricInterpretation="RGB",
        PlanarConfiguration=0,
        BitsAllocated=8,
        BitsStored=8,
        HighBit=7,
    )
    with pytest.raises(ComponentCount):
        read_image(tmp_path)


def test_multi_frame_file_is_refused(tmp_path):
    write_slice(
        tmp_path / "x.dcm", VOXELS[0], np.zeros(3), generate_uid(), NumberOfFrames=8, PixelData=VOXELS.tobytes()
    )
    with pytest.raises(UnsupportedFile, match="multi-frame"):
        read_image(tmp_path)


def test_truncated_slice_is_refused(tmp_path):
    series = generate_uid()
    for k in range(2):
        write_slice(tmp_path / f"{k}.dcm", np.zeros((64, 64), np.uint16), np.array([0, 0, 3.0 * k]), series, np.eye(3))
    content = (tmp_path / "1.dcm").read_bytes()
    (tmp_path / "1.dcm").write_bytes(content[: len(content) - 3000])
    with pytest.raises(DamagedFile):
        read_image(tmp_path)


def test_file_without_image_is_left_out_and_said(folder):
    path = folder / "structures.dcm"
    path.write_bytes(file_of_slice(folder, 0).read_bytes())
    data = pydicom.dcmread(path)
    for key in ("PixelData", "Rows", "Columns"):
        delattr(data, key)
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.481.3"
    data.save_as(path)
    assert "has no image" in read_image(folder).findings[0].message


def test_folder_without_dicom_is_refused(tmp_path):
    with pytest.raises(UnsupportedFile, match="no DICOM image"):
        read_image(tmp_path)
