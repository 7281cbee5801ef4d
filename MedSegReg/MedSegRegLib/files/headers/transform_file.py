"""Transform files checked before ITK opens them: truncated HDF5, and text whose sizes do not fit its numbers."""

from __future__ import annotations

import re
import struct
from pathlib import Path

from ...errors import FileError, UnsupportedFile
from .content import describe_content
from .header import damaged, file_size

LONGEST_TEXT = 1 << 30
DENSE = ("DisplacementFieldTransform", "BSplineTransform")


def check_transform_file(path: Path) -> None:
    """Compare an HDF5 file with its stored length, or a text transform's field sizes with its numbers.

    Raises:
        FileError: missing. UnsupportedFile: something else than its name says. DamagedFile: incomplete.
    """
    size = file_size(path)
    try:
        if path.suffix.lower() == ".h5":
            _check_hdf5(path, size)
        else:
            _check_text(path, size)
    except OSError as error:
        raise FileError(
            f"'{path.name}' cannot be read: {error.strerror}", "a readable file", "check its permissions"
        ) from error


def _check_hdf5(path: Path, size: int) -> None:
    with open(path, "rb") as file:
        start = file.read(48)
    if start[:8] != b"\x89HDF\r\n\x1a\n":
        raise UnsupportedFile(
            f"'{path.name}' is {describe_content(path)}", "an HDF5 transform", "give the file its right name"
        )
    end_at = 40 if len(start) == 48 and start[8] == 0 else 28
    if len(start) < 48 or start[8] not in (0, 2, 3) or struct.unpack_from("<Q", start, end_at)[0] > size:
        raise damaged(path.name, f"has {size} bytes", "the length that is stored in it")


def _check_text(path: Path, size: int) -> None:
    if describe_content(path) != "an ITK transform":
        raise UnsupportedFile(
            f"'{path.name}' is {describe_content(path)}",
            "an ITK transform file",
            "export it from Slicer as .h5 or .tfm",
        )
    if size > LONGEST_TEXT:
        raise damaged(path.name, f"has {size} bytes of text", f"at most {LONGEST_TEXT}")
    kind, count = "", 0
    for line in path.read_text("utf-8", "replace").splitlines():
        key, colon, rest = line.partition(":")
        if colon and key == "Transform":
            kind, count = rest.strip(), -1
            if not re.fullmatch(r"[A-Za-z0-9]+_(double|float)_\d+_\d+", kind):
                raise damaged(path.name, f"has the transform '{kind[:60]}'", "a type that ITK knows")
        elif line.startswith("Parameter"):
            count = len(re.sub(r"^Parameters?:?", "", line).split())
        elif colon and key == "FixedParameters" and kind.startswith(DENSE):
            _check_grid(path.name, kind, rest.split(), count)
    if count == -1 and not kind.startswith("CompositeTransform"):
        raise damaged(path.name, "ends before the numbers of its last transform", "a complete file")


def _check_grid(name: str, kind: str, fixed: list[str], count: int) -> None:
    axes = 3 if kind.endswith("_3_3") else 2
    sizes = [word for word in fixed[:axes] if word.isascii() and word.isdigit()]
    product = axes
    for word in sizes:
        product *= int(word[:12])
    if len(sizes) != axes or product != count:
        raise damaged(
            name, f"has a grid of {fixed[:axes]} with {count} numbers", f"{axes} numbers for each of its points"
        )
