"""One volume file, header checked first, then read by SimpleITK. Images, label maps and fields start here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import ComponentCount
from ..report import Finding
from .headers import Header, count_non_finite, file_size, read_header, restore_non_finite
from .itk import array_from_itk, itk_path, read_with_itk

EXTENSIONS = (".seg.nrrd", ".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")


@dataclass(frozen=True, eq=False)
class VolumeFile:
    """What was read.

    Attributes:
        itk: the image as ITK sees it (geometry, metadata, voxels).
        header: what the file said before it was read.
        non_finite: stored NaN and infinities; ITK makes them zero in NIfTI.
        findings: of the header, and of a file that changed while it was read.
    """

    itk: sitk.Image
    header: Header
    non_finite: int
    findings: tuple[Finding, ...]

    def array(self) -> np.ndarray:
        """Voxels of a one-component volume as they are in the file: NaN stay NaN."""
        array = array_from_itk(self.itk)
        hidden = self.non_finite and self.header.image_io == "NiftiImageIO"
        return restore_non_finite(self.header, array) if hidden else array


def read_volume_file(path: Path, components: int = 1) -> VolumeFile:
    """Check the header, walk over the stored bytes, then let SimpleITK read.

    Raises:
        ComponentCount: not this many values a voxel.
        FileError, InputError: their kinds, see :func:`headers.read_header`.
    """
    text = itk_path(path)
    before = _state(path)
    header = read_header(path)
    if header.components != components:
        raise ComponentCount(
            f"'{path.name}' has {header.components} values a voxel",
            f"{components}",
            "choose a grey image" if components == 1 else "choose a displacement field",
        )
    non_finite = count_non_finite(header)
    reader = sitk.ImageFileReader()
    reader.SetImageIO(header.image_io)
    reader.SetFileName(text)
    image = read_with_itk(path, reader.Execute)
    findings = header.findings
    if _state(path) != before:
        findings = (
            *findings,
            Finding.warn(f"'{path.name}' changed while it was read", "Read it again when it is complete."),
        )
    return VolumeFile(image, header, non_finite, findings)


def stem(path: Path) -> str:
    """The file name without its extensions, for the name of what was read."""
    for extension in EXTENSIONS:
        if path.name.lower().endswith(extension):
            return path.name[: -len(extension)]
    return path.name


def _state(path: Path) -> tuple[int, int]:
    return file_size(path), path.stat().st_mtime_ns
