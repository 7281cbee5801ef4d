"""SimpleITK at the door of the library: Geometry, Image and Labels to ``SimpleITK.Image`` (LPS) and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
import SimpleITK as sitk
import torch

from ..errors import ComponentCount, DimensionError, FileError, InvalidGeometry, TooLarge, UnsupportedFile
from ..geometry import RAS_LPS, Geometry, flip_ras_lps
from ..image import Image, Labels
from ..transform import Displacement
from .headers.header import damaged

T = TypeVar("T")


def geometry_from_itk(image: sitk.Image) -> Geometry:
    """The RAS grid of a 3D image; a 2D image becomes one slice of 1 mm.

    Raises:
        DimensionError: more than three axes with more than one voxel.
    """
    axes = image.GetDimension()
    if any(n > 1 for n in image.GetSize()[3:]):
        raise DimensionError(f"The image has size {image.GetSize()}", "three axes", "choose a frame")
    used = min(axes, 3)
    ijk_to_lps = np.eye(4)
    directions = np.array(image.GetDirection()).reshape(axes, axes)[:used, :used]
    ijk_to_lps[:used, :used] = directions * np.array(image.GetSpacing()[:used])
    ijk_to_lps[:used, 3] = image.GetOrigin()[:used]
    size = (*image.GetSize()[:3], 1)[:3]
    return Geometry((size[0], size[1], size[2]), RAS_LPS @ ijk_to_lps)


def place_itk(image: sitk.Image, geometry: Geometry) -> sitk.Image:
    """Give a 3D SimpleITK image this grid (in place) and return it; sheared directions are kept."""
    lps = RAS_LPS @ geometry.ijk_to_ras
    image.SetSpacing(geometry.spacing_mm)
    image.SetDirection((lps[:3, :3] / np.asarray(geometry.spacing_mm)).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    return image


def array_from_itk(image: sitk.Image) -> np.ndarray:
    """Voxels of a one-component image, (K, J, I); valid as long as ``image`` lives."""
    if image.GetNumberOfComponentsPerPixel() != 1 or "complex" in image.GetPixelIDTypeAsString():
        raise ComponentCount(
            f"The voxels are {image.GetPixelIDTypeAsString()} with {image.GetNumberOfComponentsPerPixel()} components",
            "one real value a voxel",
            "convert it to a grey image first",
        )
    return sitk.GetArrayViewFromImage(image)


def itk_from_image(image: Image) -> sitk.Image:
    """[1, K, J, I] float32 to a 3D float image.

    Raises:
        ComponentCount: more than one channel.
    """
    if image.tensor.shape[0] != 1:
        raise ComponentCount(
            f"The image has {image.tensor.shape[0]} channels", "one", "write each channel to its own file"
        )
    return place_itk(sitk.GetImageFromArray(image.numpy()[0].astype(np.float32, copy=False)), image.geometry)


def itk_from_labels(labels: Labels) -> sitk.Image:
    """[K, J, I] integers to uint8 where all values and structures fit, else uint16, else int32."""
    array = labels.numpy()
    highest = max([int(array.max()), *(s.value for s in labels.structures)])
    dtype = np.uint8 if highest <= 255 else np.uint16 if highest <= 65535 else np.int32
    return place_itk(sitk.GetImageFromArray(array.astype(dtype)), labels.geometry)


def displacement_from_itk(field: sitk.Image) -> Displacement:
    """A 3D vector image (LPS mm) to a displacement (RAS mm, float32)."""
    if field.GetDimension() != 3 or field.GetNumberOfComponentsPerPixel() != 3:
        raise ComponentCount(
            f"The field has {field.GetDimension()} axes and {field.GetNumberOfComponentsPerPixel()} components",
            "three axes and three components",
            "choose a displacement field",
        )
    vectors = flip_ras_lps(sitk.GetArrayViewFromImage(field)).astype(np.float32)
    return Displacement(torch.from_numpy(np.ascontiguousarray(np.moveaxis(vectors, -1, 0))), geometry_from_itk(field))


def itk_from_displacement(displacement: Displacement, dtype: type = np.float32) -> sitk.Image:
    """A displacement (RAS mm) to a 3D vector image (LPS mm)."""
    vectors = np.moveaxis(displacement.vectors_ras_mm.detach().cpu().numpy(), 0, -1)
    return place_itk(sitk.GetImageFromArray(flip_ras_lps(vectors).astype(dtype), isVector=True), displacement.geometry)


def itk_path(path: Path) -> str:
    """The path as text that SimpleITK can take; it aborts the process on names that are not valid Unicode."""
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        raise UnsupportedFile(
            "The file's path is not valid Unicode",
            "a path that can be written as text",
            "rename the file or the folder",
        ) from None
    return str(path)


def read_with_itk(path: Path, call: Callable[[], T]) -> T:
    """Run a SimpleITK read and turn its RuntimeError into a typed error; nothing is printed by ITK meanwhile."""
    try:
        with _quiet():
            return call()
    except RuntimeError as error:
        text = " ".join(str(error).split())
        if "orthonormal" in text:
            raise InvalidGeometry(
                f"'{path.name}' has a sheared position matrix, which NIfTI readers of ITK and Slicer refuse",
                "axes at right angles",
                "resample the image to a grid with right angles (for example with "
                "its own software), or convert it to .nrrd, which keeps the shear",
            ) from error
        if "llocat" in text:
            raise TooLarge(
                f"There is not enough memory to read '{path.name}'", "free memory", "close other programs"
            ) from error
        raise damaged(path.name, f"cannot be read: {text[-160:]}", "a complete file") from error
    except MemoryError as error:
        raise TooLarge(
            f"There is not enough memory to read '{path.name}'", "free memory", "close other programs"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)


def write_with_itk(path: Path, call: Callable[[], object]) -> None:
    """Run a SimpleITK write and turn its RuntimeError into a FileError."""
    try:
        with _quiet():
            call()
    except RuntimeError as error:
        text = " ".join(str(error).split())
        raise FileError(
            f"'{path.name}' could not be written: {text[-160:]}",
            "space on the disk and a writable folder",
            "free some space or choose another folder",
        ) from error
