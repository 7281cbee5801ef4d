"""The header of a NIfTI-1 file, checked without any reader: sizes, type, position."""

from __future__ import annotations

import gzip
import itertools
import struct
import zlib
from pathlib import Path
from typing import Literal

import numpy as np

from ...errors import ComponentCount, DimensionError, InvalidGeometry, UnsupportedFile
from ...report import Finding
from .content import describe_content
from .header import EXPORT_AGAIN, Header, damaged, in_range, spans_volume

HEADER_BYTES = 348
LARGEST_OFFSET = 1 << 26
DTYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
COMPONENT_TYPES = {128: "RGB", 2304: "RGBA", 32: "complex", 1792: "complex", 2048: "complex"}
VECTOR_INTENTS = (1006, 1007)
DIFFERENT_MM = 0.1


def read_nifti_header(path: Path) -> Header:
    """Parse and check; raises the typed errors of the file and geometry kinds."""
    zipped = _is_gzip(path)
    raw = _first_bytes(path, zipped)
    order = _byte_order(path, raw)
    if zipped and path.suffix.lower() != ".gz":
        raise UnsupportedFile(
            f"'{path.name}' is compressed", "an uncompressed .nii file", "rename it to end in .nii.gz"
        )
    size, frames, components = _axes(path.name, struct.unpack_from(order + "8h", raw, 40), _one(order + "h", raw, 68))
    offset = _one(order + "f", raw, 108)
    if not 0 <= offset <= LARGEST_OFFSET:
        raise damaged(path.name, f"has its voxels at byte {offset}", "a position in the file")
    start = max(int(offset), HEADER_BYTES + 4)
    dtype = _dtype(path.name, _one(order + "h", raw, 70)).newbyteorder(order)
    return Header(
        path,
        "NiftiImageIO",
        size,
        components,
        frames,
        dtype,
        path,
        0 if zipped else start,
        start if zipped else 0,
        "gzip" if zipped else "raw",
        _check_position(path.name, order, raw, size),
    )


def _is_gzip(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _first_bytes(path: Path, zipped: bool) -> bytes:
    try:
        with gzip.open(path, "rb") if zipped else open(path, "rb") as file:
            return file.read(HEADER_BYTES)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise damaged(path.name, "breaks off in its header", "a complete gzip stream") from None


def _byte_order(path: Path, raw: bytes) -> Literal["<", ">"]:
    if len(raw) == HEADER_BYTES and raw[344:348] == b"n+1\0":
        if struct.unpack_from("<i", raw)[0] == HEADER_BYTES:
            return "<"
        if struct.unpack_from(">i", raw)[0] == HEADER_BYTES:
            return ">"
    what = describe_content(path)
    if raw and what == "a gzip archive":
        what = "a gzip archive without a NIfTI-1 file"
    if raw[4:7] == b"n+2":
        what = "a NIfTI-2 file, which ITK does not read"
    raise UnsupportedFile(
        f"'{path.name}' is {what}",
        "a NIfTI-1 file as its name says",
        "give the file its right name, or convert it to .nii.gz or .nrrd",
    )


def _one(code: str, raw: bytes, at: int):
    return struct.unpack_from(code, raw, at)[0]


def _axes(name: str, dim: tuple[int, ...], intent: int) -> tuple[tuple[int, ...], int, int]:
    if not 1 <= dim[0] <= 7:
        raise damaged(name, f"has {dim[0]} axes", "1 to 7")
    axes = dim[1 : dim[0] + 1]
    if min(axes) < 1:
        raise damaged(name, f"has size {axes}", "at least one voxel on each axis")
    if len(axes) < 2:
        raise DimensionError(f"'{name}' has one axis, size {axes}", "a volume", "choose another file")
    if any(n > 1 for n in axes[5:]):
        raise DimensionError(f"'{name}' has size {axes}", "three axes", "choose one volume of it")
    fourth, fifth = (*axes[3:5], 1, 1)[:2]
    components = fifth if intent in VECTOR_INTENTS else 1
    return axes[:3], fourth * (1 if components > 1 else fifth), components


def _dtype(name: str, code: int) -> np.dtype:
    if code in COMPONENT_TYPES:
        raise ComponentCount(
            f"'{name}' has {COMPONENT_TYPES[code]} voxels", "one real value a voxel", "convert it to a grey image first"
        )
    if code not in DTYPES:
        raise UnsupportedFile(f"'{name}' has voxel type {code}", f"a type of {sorted(DTYPES)}", EXPORT_AGAIN)
    return np.dtype(DTYPES[code])


def _check_position(name: str, order: str, raw: bytes, size: tuple[int, ...]) -> tuple[Finding, ...]:
    pixdim = np.array(struct.unpack_from(order + "8f", raw, 76), np.float64)
    used = [abs(pixdim[n + 1]) for n, voxels in enumerate(size) if voxels > 1]
    if not in_range(pixdim[1 : len(size) + 1]) or 0 in used:
        raise InvalidGeometry(
            f"'{name}' has voxel sizes {pixdim[1 : len(size) + 1].tolist()}",
            "positive millimetres",
            "repair pixdim in the header, or export the image again",
        )
    codes = struct.unpack_from(order + "2h", raw, 252)
    quaternion = np.array(struct.unpack_from(order + "6f", raw, 256), np.float64)
    sform = np.vstack((np.array(struct.unpack_from(order + "12f", raw, 280), np.float64).reshape(3, 4), (0, 0, 0, 1)))
    lost = codes[0] > 0 and not in_range(quaternion)
    if lost or (codes[1] > 0 and not (spans_volume(sform[:3, :3].T) and in_range(sform))):
        raise InvalidGeometry(
            f"'{name}' has a position that is not finite or not invertible (qform {quaternion.tolist()}, "
            f"sform {sform[:3].tolist()})",
            "a finite, invertible matrix",
            "repair the header",
        )
    spacing = np.where(pixdim[1:4] == 0, 1.0, np.abs(pixdim[1:4]))
    if max(codes) <= 0:
        return (
            Finding.warn(
                f"'{name}' says nothing about its position (qform and sform codes are 0)",
                "Check the orientation of the result.",
            ),
        )
    if codes[1] <= 0:
        return ()
    return _conflicts(name, size, sform, _qform(quaternion, spacing, pixdim[0]) if codes[0] > 0 else None, spacing)


def _qform(quaternion: np.ndarray, spacing: np.ndarray, handedness: float) -> np.ndarray:
    b, c, d = quaternion[:3]
    a = np.sqrt(max(0.0, 1 - b * b - c * c - d * d))
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    matrix = np.eye(4)
    matrix[:3, :3] = rotation * spacing * (1, 1, -1 if handedness < 0 else 1)
    matrix[:3, 3] = quaternion[3:]
    return matrix


def _conflicts(
    name: str, size: tuple[int, ...], sform: np.ndarray, qform: np.ndarray | None, spacing: np.ndarray
) -> tuple[Finding, ...]:
    findings = []
    lengths = np.linalg.norm(sform[:3, :3], axis=0)
    if not np.allclose(lengths, spacing, rtol=1e-3):
        findings.append(
            Finding.warn(
                f"'{name}' has voxel sizes {spacing.round(4).tolist()} in pixdim and {lengths.round(4).tolist()} mm "
                "in its sform; pixdim is used, as in Slicer",
                "Check the size of the image in the viewer.",
            )
        )
    if qform is not None:
        ends = [(0, n - 1) for n in (*size, 1)[:3]]
        corners = np.array([(*ijk, 1) for ijk in itertools.product(*ends)], np.float64)
        distance = np.linalg.norm((corners @ (sform - qform).T)[:, :3], axis=1).max()
        if distance > DIFFERENT_MM:
            findings.append(
                Finding.warn(
                    f"qform and sform of '{name}' disagree by {distance:.1f} mm: qform {qform[:3].round(3).tolist()}, "
                    f"sform {sform[:3].round(3).tolist()}; ITK's choice is used, as in Slicer",
                    "Check the position of the image against another study of the patient.",
                )
            )
    return tuple(findings)
