"""The frames of a sequence in files: one volume after the other, or one file with four axes. Read when asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import overload

import SimpleITK as sitk

from ..errors import DimensionError, NonFiniteVoxels
from ..image import Image
from .images import read_image
from .itk import array_from_itk, geometry_from_itk
from .volume_file import read_volume_file, stem


class Frames(Sequence[Image]):
    """Images by number; none is kept. Made by :func:`open_frames`."""

    def __init__(self, sources: Sequence[Path] | sitk.Image, name: str) -> None:
        self._sources, self._name = sources, name

    def __len__(self) -> int:
        if not isinstance(self._sources, sitk.Image):
            return len(self._sources)
        axes = self._sources.GetDimension()
        return self._sources.GetSize()[3] if axes == 4 else self._sources.GetNumberOfComponentsPerPixel()

    @overload
    def __getitem__(self, number: int) -> Image: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[Image]: ...
    def __getitem__(self, number: int | slice) -> Image | Sequence[Image]:
        """A frame, [1, K, J, I]."""
        if isinstance(number, slice):
            return [self[n] for n in range(*number.indices(len(self)))]
        if not -len(self) <= number < len(self):
            raise IndexError(number)
        if not isinstance(self._sources, sitk.Image):
            return read_image(self._sources[number])
        number %= len(self)
        if self._sources.GetDimension() == 4:
            volume = self._sources[:, :, :, number]
        else:
            volume = sitk.VectorIndexSelectionCast(self._sources, number)
        return Image.from_array(array_from_itk(volume), geometry_from_itk(volume), f"{self._name} frame {number}")

    def __iter__(self) -> Iterator[Image]:
        return (self[number] for number in range(len(self)))


def open_frames(paths: Sequence[Path]) -> Frames:
    """The frames of a sequence.

    Args:
        paths: two or more files (or DICOM folders) of a volume each, in the order of time; or one NIfTI, NRRD (also
            Slicer's ``.seq.nrrd``) or MetaImage file with four axes, which stays in memory as it is stored.

    Raises:
        DimensionError: one file with one volume.
        NonFiniteVoxels: NaN or infinite voxels in a file with four axes.
        FileError, InputError: as :func:`.images.read_image`; of several files only when they are asked for.
    """
    if len(paths) > 1:
        return Frames(paths, "")
    path = Path(paths[0])
    volume = read_volume_file(path)
    if volume.header.frames < 2:
        raise DimensionError(
            f"'{path.name}' has one volume", "a sequence", "give all its frames in the order of time, or a 4D file"
        )
    if volume.non_finite:
        raise NonFiniteVoxels(
            f"'{path.name}' has {volume.non_finite} voxels that are not finite",
            "finite voxels in a file with four axes",
            "save the frames as files of their own, and repair those",
        )
    return Frames(volume.itk, stem(path).removesuffix(".seq"))
