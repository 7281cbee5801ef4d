"""A folder with one DICOM series to an Image: GDCM (in SimpleITK) decodes, order and grid come from the tags."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..device import free_host_bytes
from ..errors import ComponentCount, DamagedFile, DimensionError, InvalidGeometry, TooLarge, UnsupportedFile
from ..geometry import RAS_LPS, Geometry
from ..image import Image
from ..report import Finding
from .headers import file_size
from .headers.header import EXPORT_AGAIN
from .itk import geometry_from_itk, itk_path, read_with_itk

SAME_DIRECTION = 1e-3
EXACT_MM = 0.01
UNEVEN_FRACTION = 0.1
STORAGE = "1.2.840.10008.5.1.4.1.1."
WITHOUT_IMAGE = tuple(STORAGE + n for n in ("481.3", "481.5", "481.8", "88.", "11.", "104.", "66.1", "66.3", "9."))
UNCOMPRESSED = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")


@dataclass(frozen=True, eq=False)
class Slice:
    """What the tags of one file say; positions are in LPS mm."""

    path: Path
    series: str
    size: tuple[int, int]
    spacing: tuple[float, float]
    position: np.ndarray
    directions: np.ndarray

    @property
    def has_place(self) -> bool:
        """False for projections and secondary captures: position or orientation is not in the file (all NaN)."""
        return bool(np.isfinite(self.position).all() and np.isfinite(self.directions).all())


def read_dicom_folder(folder: Path) -> Image:
    """The one series in a folder (files of other kinds and DICOMDIR are ignored, subfolders are not entered).

    Returns:
        [1, K, J, I] float32 with the rescale slope and intercept applied; slices sorted by position. A gantry tilt
        is kept as a sheared grid.

    Raises:
        UnsupportedFile: no DICOM image, several series, or multi-frame files.
        DamagedFile: a truncated file.
        InvalidGeometry: mixed orientation, missing slices or slices without position.
        DimensionError: several slices at one position (a time series). ComponentCount: colour.
        TooLarge: more than the free memory.
    """
    slices, findings = [], []
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.name.upper() != "DICOMDIR" and _is_dicom(path):
            found = _read_slice(path)
            slices.extend([found] if found else [])
            findings.extend([] if found else [Finding.info(f"'{path.name}' has no image and was left out")])
    if not slices:
        raise UnsupportedFile(
            f"The folder '{folder.name}' has no DICOM image", "one DICOM series", "choose another folder"
        )
    series = {s.series for s in slices}
    sizes = {s.size for s in slices}
    if len(series) > 1 or len(sizes) > 1:
        counts = [sum(s.series == uid for s in slices) for uid in sorted(series)]
        raise UnsupportedFile(
            f"The folder '{folder.name}' has {len(series)} series of {counts} images, sizes {sorted(sizes)}",
            "one series of one size",
            "put the files of one series into a folder of their own",
        )
    needed, free = 8 * len(slices) * slices[0].size[0] * slices[0].size[1], free_host_bytes()
    if free is not None and needed > free:
        raise TooLarge(
            f"The series needs {needed / 2**30:.1f} GiB", f"at most {free / 2**30:.1f} GiB", "close other programs"
        )
    ordered, more = (slices, []) if len(slices) == 1 else sort_slices(slices)
    return _read_voxels(folder, ordered, (*findings, *more))


def sort_slices(slices: list[Slice]) -> tuple[list[Slice], list[Finding]]:
    """Slices along their normal, with a warning for uneven spacing; errors as in :func:`read_dicom_folder`."""
    if not all(s.has_place for s in slices):
        raise InvalidGeometry(
            "Some slices have no position or orientation", "both in every file", "load the series in Slicer"
        )
    first = slices[0]
    for s in slices[1:]:
        if np.abs(s.directions - first.directions).max() > SAME_DIRECTION or s.spacing != first.spacing:
            raise InvalidGeometry(
                f"Slices differ in orientation or voxel size: {np.round(first.directions, 3).tolist()} {first.spacing} "
                f"and {np.round(s.directions, 3).tolist()} {s.spacing}",
                "one orientation",
                "separate localisers from the series",
            )
    normal = np.cross(first.directions[0], first.directions[1])
    ordered = sorted(slices, key=lambda s: float(s.position @ normal))
    along = np.array([s.position @ normal for s in ordered])
    return ordered, _check_gaps(along, np.array([s.position for s in ordered]))


def _check_gaps(along: np.ndarray, positions: np.ndarray) -> list[Finding]:
    gaps = np.diff(along)
    usual = float(np.median(gaps))
    if gaps.min() < EXACT_MM:
        at = along[:-1][gaps < EXACT_MM]
        raise DimensionError(
            f"{len(at)} slices share a position, first at {at[0]:.2f} mm along the normal",
            "one slice a position",
            "separate the time points or echoes, or remove doubled files",
        )
    wrong = np.flatnonzero(np.abs(gaps - usual) > UNEVEN_FRACTION * usual)
    if len(wrong):
        where = ", ".join(f"{along[n]:.2f} to {along[n + 1]:.2f} mm" for n in wrong[:5])
        raise InvalidGeometry(
            f"Slices are missing or unevenly spaced: usual distance {usual:.2f} mm, but {where}",
            "evenly spaced slices",
            "get the missing slices, or resample the series in Slicer",
        )
    straight = np.linspace(positions[0], positions[-1], len(positions))
    worst = float(np.linalg.norm(positions - straight, axis=1).max())
    return (
        []
        if worst <= EXACT_MM
        else [
            Finding.warn(
                f"Slices are up to {worst:.2f} mm away from even spacing (usual distance {usual:.2f} mm)",
                "Distances along the slice axis are that much uncertain.",
            )
        ]
    )


def _is_dicom(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(132)[128:] == b"DICM"


def _sop_class(path: Path) -> str:
    """The kind of object, from the file meta information, which is always explicit little endian."""
    with open(path, "rb") as file:
        start = file.read(1024)
    at = start.find(b"\x02\x00\x02\x00UI", 132)
    length = int.from_bytes(start[at + 6 : at + 8], "little") if at >= 0 else 0
    return start[at + 8 : at + 8 + length].decode("ascii", "replace").strip("\0 ")


def _read_slice(path: Path) -> Slice | None:
    """Tags of one file; None when its kind has no image (structure sets, plans, reports, documents)."""
    if _sop_class(path).startswith(WITHOUT_IMAGE):
        return None
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(itk_path(path))
    read_with_itk(path, reader.ReadImageInformation)
    tags = {key: reader.GetMetaData(key).strip() for key in reader.GetMetaDataKeys() if "|" in key}
    if tags.get("0028|0002", "1") != "1" or reader.GetNumberOfComponents() != 1:
        raise ComponentCount(
            f"'{path.name}' is a colour image", "one value a voxel", "convert it to a grey image first"
        )
    if _numbers(tags, "0028|0008", 1, (1,))[0] > 1:
        raise UnsupportedFile(
            f"'{path.name}' is a multi-frame file", "one slice a file", "load it in Slicer and save it as .nrrd"
        )
    columns, rows = reader.GetSize()[:2]
    stored = rows * columns * int(_numbers(tags, "0028|0100", 1, (8,))[0]) // 8
    if tags.get("0002|0010", "") in UNCOMPRESSED and file_size(path) < stored:
        raise DamagedFile(
            f"'{path.name}' holds {file_size(path)} bytes", f"more than {stored} bytes of voxels", EXPORT_AGAIN
        )
    spacing = reader.GetSpacing()
    return Slice(
        path,
        tags.get("0020|000e", ""),
        (columns, rows),
        (spacing[0], spacing[1]),
        np.array(_numbers(tags, "0020|0032", 3, (np.nan,) * 3)),
        np.array(_numbers(tags, "0020|0037", 6, (np.nan,) * 6)).reshape(2, 3),
    )


def _numbers(tags: dict[str, str], key: str, count: int, default: tuple[float, ...]) -> tuple[float, ...]:
    try:
        values = tuple(float(word) for word in tags[key].split("\\")) if key in tags else default
    except ValueError:
        return default
    return values if len(values) == count and np.isfinite(values).all() else default


def _read_voxels(folder: Path, ordered: list[Slice], findings: tuple[Finding, ...]) -> Image:
    reader = sitk.ImageSeriesReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileNames([itk_path(s.path) for s in ordered])
    reader.SetOutputPixelType(sitk.sitkFloat32)
    image = read_with_itk(folder, reader.Execute)
    return Image.from_array(
        sitk.GetArrayViewFromImage(image).reshape(len(ordered), *ordered[0].size[::-1]),
        _grid(ordered, image),
        folder.name,
        findings=findings,
    )


def _grid(ordered: list[Slice], image: sitk.Image) -> Geometry:
    first, last = ordered[0], ordered[-1]
    if len(ordered) == 1:
        return geometry_from_itk(image)
    lps = np.eye(4)
    lps[:3, 0], lps[:3, 1] = first.directions[0] * first.spacing[0], first.directions[1] * first.spacing[1]
    lps[:3, 2] = (last.position - first.position) / (len(ordered) - 1)
    lps[:3, 3] = first.position
    return Geometry((*first.size, len(ordered)), RAS_LPS @ lps)
