"""Files to Transform and back: the last stop of the registration walk outside Slicer.

A file holds the same direction as in the library, fixed to moving, as ITK's and ANTs' resampling wants it.
"""

from __future__ import annotations

import re
from pathlib import Path

import SimpleITK as sitk

from ..errors import DamagedFile, DimensionError, InvalidSetting, UnsupportedFile
from ..geometry import Geometry
from ..transform import Displacement, Transform
from .atomic import TRANSFORM_EXTENSIONS, VOLUME_EXTENSIONS, atomic_path, extension_of, require_space, require_writable
from .headers.transform_file import check_transform_file
from .images import write_itk_image
from .itk import displacement_from_itk, itk_from_displacement, itk_path, read_with_itk, write_with_itk
from .itk_transform import itk_from_transform, merge_linear, transform_from_itk
from .volume_file import read_volume_file

ITK_EXTENSIONS = (".tfm", ".txt", ".h5", ".mat")


def read_transform(path: str | Path) -> Transform:
    """A transform from ``.tfm``, ``.txt``, ``.h5``, ``.mat`` (ITK), or a displacement field from a volume file.

    Linear kinds, displacement fields, B-splines (made dense) and composites of them.

    Raises:
        FileError: missing, damaged or unsupported file.
        InvalidGeometry: a singular matrix. ComponentCount, DimensionError: an image that is not a 3D field.
        InputError: vectors that are not finite.
    """
    path = Path(path)
    if extension_of(path, TRANSFORM_EXTENSIONS) in ITK_EXTENSIONS:
        return transform_from_itk(_read_itk(path))
    return Transform((displacement_from_itk(_read_field(path)),))


def read_itk_transform(path: str | Path) -> sitk.Transform:
    """The same file as ITK itself applies it (LPS): a second opinion on :func:`read_transform`.

    Raises:
        As :func:`read_transform`, for what the file is.
    """
    path = Path(path)
    if extension_of(path, TRANSFORM_EXTENSIONS) in ITK_EXTENSIONS:
        return _read_itk(path)
    return sitk.DisplacementFieldTransform(sitk.Cast(_read_field(path), sitk.sitkVectorFloat64))


def _read_itk(path: Path) -> sitk.Transform:
    text = itk_path(path)
    check_transform_file(path)
    try:
        return read_with_itk(path, lambda: sitk.ReadTransform(text))
    except DamagedFile:
        kind = _inverse_kind(path)
        if not kind:
            raise
    raise UnsupportedFile(
        f"'{path.name}' holds a {kind}, which only Slicer reads: it was saved from the side 'to parent'",
        "a transform that is kept from parent, as ITK keeps it",
        "in Slicer's Transforms module convert it to a grid transform on the fixed volume, and save that",
    )


def _inverse_kind(path: Path) -> str:
    """The kind of transform that Slicer writes for an inverse, which ITK does not know; empty when there is none."""
    found = re.search(rb"Inverse[A-Za-z]+Transform", path.read_bytes())
    return found.group().decode("ascii") if found else ""


def _read_field(path: Path) -> sitk.Image:
    volume = read_volume_file(path, components=3)
    if volume.header.frames != 1 or len(volume.header.size) != 3:
        raise DimensionError(
            f"'{path.name}' has {volume.header.frames} frames of {volume.header.size} voxels",
            "one 3D field",
            "choose a displacement field",
        )
    return volume.itk


def write_transform(transform: Transform, path: str | Path, grid: Geometry | None = None) -> None:
    """Write a transform, complete or not at all.

    Args:
        path: ``.tfm``, ``.txt`` or ``.mat`` for linear transforms; ``.h5`` for any chain; ``.nii.gz``, ``.nii``,
            ``.nrrd``, ``.mha`` for one dense displacement field (LPS mm, float32) that replaces the chain.
        grid: where a dense field is sampled: the fixed image's grid. Only needed, and only used, for those.

    Raises:
        OutputNotWritable: the folder cannot be written, the disk is full, or the extension is unknown.
        UnsupportedFile: a deformable transform for ``.tfm``, ``.txt`` or ``.mat``.
        InvalidSetting: a dense field without a grid.
    """
    path = Path(path)
    require_writable(path, overwrite=True, extensions=TRANSFORM_EXTENSIONS)
    extension = extension_of(path, TRANSFORM_EXTENSIONS)
    if extension in VOLUME_EXTENSIONS:
        if grid is None:
            raise InvalidSetting(
                "No grid is given for the displacement field", "the fixed image's grid", "give the grid, or write .h5"
            )
        write_itk_image(itk_from_displacement(transform.to_displacement(grid)), path)
        return
    fields = [stage for stage in merge_linear(transform).stages if isinstance(stage, Displacement)]
    if fields and extension != ".h5":
        raise UnsupportedFile(
            f"The transform is deformable, for which '{path.name}' has no room",
            "a linear transform",
            "write .h5 or .nii.gz",
        )
    require_space(path, 24 * sum(f.vectors_ras_mm[0].numel() for f in fields))
    with atomic_path(path) as temporary:
        write_with_itk(path, lambda: sitk.WriteTransform(itk_from_transform(transform), itk_path(temporary)))
        check_transform_file(temporary)
