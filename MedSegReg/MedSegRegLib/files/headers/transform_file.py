"""Transform files checked before ITK opens them: truncated HDF5 and MATLAB, text whose sizes do not fit its numbers."""

from __future__ import annotations

import re
import struct
from pathlib import Path

from ...errors import FileError, UnsupportedFile
from .content import describe_content
from .header import damaged, file_size

LONGEST_TEXT = 1 << 30
LONGEST_MATLAB = 1 << 16
MATLAB_NUMBER_BYTES = {0: 8, 10: 4}
TRANSFORM_NAME = r"[A-Za-z0-9]+_(double|float)_\d+_\d+"
DENSE = ("DisplacementFieldTransform", "BSplineTransform")


def check_transform_file(path: Path) -> None:
    """Compare an HDF5 or MATLAB file with its stored lengths, or a text transform's field sizes with its numbers.

    Raises:
        FileError: missing. UnsupportedFile: something else than its name says. DamagedFile: incomplete.
    """
    size = file_size(path)
    try:
        if path.suffix.lower() == ".h5":
            _check_hdf5(path, size)
        elif path.suffix.lower() == ".mat":
            _check_matlab(path, size)
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


def _check_matlab(path: Path, size: int) -> None:
    """Version 4 as ITK and ANTs write it: a matrix named as the transform, then one named 'fixed', and no more."""
    content = path.read_bytes() if size <= LONGEST_MATLAB else b""
    names: list[str] = []
    at = 0
    while at + 20 <= len(content) and len(names) < 2:
        kind, rows, columns, imaginary, length = struct.unpack_from("<5i", content, at)
        number_bytes = MATLAB_NUMBER_BYTES.get(kind)
        if number_bytes is None or imaginary or columns != 1 or not 0 <= rows < size or not 0 < length < size:
            break
        names.append(content[at + 20 : at + 20 + length].rstrip(b"\0").decode("ascii", "replace"))
        at += 20 + length + rows * number_bytes
    if at != size or len(names) != 2 or not re.fullmatch(TRANSFORM_NAME, names[0]) or names[1] != "fixed":
        raise damaged(path.name, f"holds {names} in {size} bytes", "one linear transform as ITK or ANTs writes it")


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
            if not re.fullmatch(TRANSFORM_NAME, kind):
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
