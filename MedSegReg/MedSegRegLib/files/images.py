"""Files to Image and back: the first and the last stop of both walks outside Slicer."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import DimensionError, InvalidGeometry
from ..image import Image
from .atomic import VOLUME_EXTENSIONS, atomic_path, extension_of, require_writable
from .dicom import read_dicom_folder
from .headers import count_non_finite, read_header
from .itk import geometry_from_itk, itk_from_image, itk_path, write_with_itk
from .pictures import is_picture, read_picture
from .volume_file import read_volume_file, stem


def read_image(path: str | Path) -> Image:
    """An image from a NIfTI, NRRD or MetaImage file, a picture, or a folder with one DICOM series.

    Args:
        path: ``.nii``, ``.nii.gz``, ``.nrrd``, ``.nhdr``, ``.mha``, ``.mhd``, ``.png``, ``.jpg``, ``.tif``, or a
            folder.

    Returns:
        [1, K, J, I] float32 on its RAS grid, [3, 1, J, I] for a picture in colour. NaN in the file are NaN in the
        image. A 2D file is one slice. What is odd but readable is in ``findings``.

    Raises:
        FileError: missing, damaged, unsupported or unsafe file.
        DimensionError: a time series. ComponentCount: RGB or vectors. InvalidGeometry: no usable position.
        TooLarge: more than the free memory.
    """
    path = Path(path)
    if os.path.isdir(path):  # False, not an error, for impossible names
        return read_dicom_folder(path)
    if is_picture(path):
        return read_picture(path)
    volume = read_volume_file(path)
    if volume.header.frames != 1:
        raise DimensionError(
            f"'{path.name}' has {volume.header.frames} frames of {volume.header.size} voxels",
            "one volume",
            "choose a frame, and save it as a file of its own",
        )
    geometry = geometry_from_itk(volume.itk)
    array = np.reshape(volume.array(), geometry.shape_kji)
    with np.errstate(over="ignore"):  # beyond float32 is infinite, which the check battery refuses
        return Image.from_array(array, geometry, stem(path), findings=volume.findings)


def write_image(image: Image, path: str | Path) -> None:
    """A one-channel image as float32 ``.nii.gz``, ``.nii``, ``.nrrd`` or ``.mha``, compressed; complete or not at all.

    Raises:
        OutputNotWritable: the folder cannot be written, the disk is full, or the extension is unknown.
        ComponentCount: more than one channel.
        InvalidGeometry: a sheared grid, which NIfTI cannot hold for ITK.
    """
    path = Path(path)
    require_writable(path, overwrite=True, extensions=VOLUME_EXTENSIONS)
    write_itk_image(itk_from_image(image), path)


def write_itk_image(image: sitk.Image, path: Path) -> None:
    """Write, read the written bytes back against their header, and only then give the file its name."""
    directions = np.array(image.GetDirection()).reshape(3, 3)
    if ".nii" in extension_of(path) and not np.allclose(directions.T @ directions, np.eye(3), atol=1e-4):
        raise InvalidGeometry(
            "The grid is sheared", "axes at right angles for NIfTI", "write .nrrd or .mha, which keep the shear"
        )
    with atomic_path(path) as temporary:
        write_with_itk(path, lambda: sitk.WriteImage(image, itk_path(temporary), useCompression=True))
        count_non_finite(read_header(temporary))
