"""Sequences in files, against SimpleITK and nibabel, which write them."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from MedSegRegLib.errors import DimensionError, NonFiniteVoxels
from MedSegRegLib.files import write_image
from MedSegRegLib.files.frames import open_frames
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Image

VOXELS = np.random.default_rng(0).normal(100, 20, (3, 5, 6, 7)).astype(np.float32)
AFFINE = np.array([[2.0, 0, 0, -5], [0, 0, 3.0, 8], [0, 1.5, 0, 2], [0, 0, 0, 1]])
GRID = Geometry((7, 6, 5), AFFINE)


def check(frames) -> None:
    assert len(frames) == 3
    for number, frame in enumerate(frames):
        np.testing.assert_allclose(frame.numpy()[0], VOXELS[number], rtol=1e-6)
        assert frame.geometry.same_grid(GRID)


def test_a_nifti_file_with_four_axes(tmp_path):
    nibabel.save(nibabel.Nifti1Image(VOXELS.transpose(3, 2, 1, 0), AFFINE), tmp_path / "heart.nii.gz")
    frames = open_frames([tmp_path / "heart.nii.gz"])
    check(frames)
    assert frames[1].name == "heart frame 1"
    assert [frame.name for frame in frames[1:]] == ["heart frame 1", "heart frame 2"]
    np.testing.assert_array_equal(frames[-1].numpy(), frames[2].numpy())
    with pytest.raises(IndexError):
        frames[3]


def test_a_sequence_of_slicer_with_the_frames_as_components(tmp_path):
    whole = sitk.GetImageFromArray(np.moveaxis(VOXELS, 0, -1), isVector=True)
    lps = np.diag([-1.0, -1, 1, 1]) @ AFFINE
    whole.SetSpacing(GRID.spacing_mm)
    whole.SetDirection((lps[:3, :3] / np.asarray(GRID.spacing_mm)).ravel().tolist())
    whole.SetOrigin(lps[:3, 3].tolist())
    sitk.WriteImage(whole, str(tmp_path / "heart.seq.nrrd"))
    text = (tmp_path / "heart.seq.nrrd").read_bytes().replace(b"kinds: vector", b"kinds: list")
    (tmp_path / "heart.seq.nrrd").write_bytes(text)
    check(open_frames([tmp_path / "heart.seq.nrrd"]))


def test_one_file_a_frame_is_read_when_it_is_asked_for(tmp_path):
    paths = [tmp_path / f"{number}.nrrd" for number in range(3)]
    frames = open_frames(paths)
    for path, array in zip(paths, VOXELS, strict=True):
        write_image(Image.from_array(array, GRID), path)
    check(frames)


def test_a_file_with_one_volume_is_no_sequence(tmp_path):
    write_image(Image.from_array(VOXELS[0], GRID), tmp_path / "still.nrrd")
    with pytest.raises(DimensionError, match=r"still\.nrrd' has one volume"):
        open_frames([tmp_path / "still.nrrd"])


def test_voxels_that_are_no_numbers_are_told_at_once(tmp_path):
    holes = VOXELS.transpose(3, 2, 1, 0).copy()
    holes[0, 0, 0, 1] = np.nan
    nibabel.save(nibabel.Nifti1Image(holes, AFFINE), tmp_path / "heart.nii")
    with pytest.raises(NonFiniteVoxels, match="1 voxels"):
        open_frames([tmp_path / "heart.nii"])
