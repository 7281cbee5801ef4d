"""What a file's header promises about its voxels: checked before any reader allocates memory for them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ...device import free_host_bytes
from ...errors import DamagedFile, EmptyVolume, FileError, TooLarge, UnsafeFile
from ...report import Finding

LARGEST_AXIS = 2**31 - 1
DEFLATE_LIMIT = 1032  # no deflate stream inflates by more than this factor
LARGEST_NUMBER = 1e12  # mm; beyond it, ITK's matrix decomposition overflows and never returns
SMALLEST_NUMBER = 1e-12
EXPORT_AGAIN = "copy or download the file again, or export it again from the program that wrote it"


@dataclass(frozen=True)
class Header:
    """Where the voxels are and how many bytes they must have.

    Attributes:
        path: the file that was named.
        image_io: the ITK reader for it.
        size: voxels along the spatial axes, i first.
        components: values a voxel (3 for RGB or a displacement).
        frames: volumes in the file (1 unless it is a time series or has several layers).
        dtype: stored type with byte order.
        data_path: the file with the voxels; another one only for detached formats.
        offset: bytes of ``data_path`` before the (compressed) voxels.
        skip: bytes to drop after inflating.
        compression: ``raw``, ``gzip`` or ``zlib``.
        findings: what the header has that is readable but odd.
    """

    path: Path
    image_io: str
    size: tuple[int, ...]
    components: int
    frames: int
    dtype: np.dtype
    data_path: Path
    offset: int
    skip: int = 0
    compression: str = "raw"
    findings: tuple[Finding, ...] = field(default=())

    @property
    def data_bytes(self) -> int:
        """Bytes of all voxels when inflated; a Python integer, so it cannot wrap."""
        return math.prod(self.size) * self.components * self.frames * self.dtype.itemsize


def require_possible(header: Header) -> None:
    """Refuse sizes that the file cannot hold or the memory cannot take.

    Raises:
        EmptyVolume: an axis without voxels.
        DamagedFile: fewer bytes than promised.
        UnsafeFile: compressed data that cannot inflate to what is promised.
        TooLarge: more than the free memory.
    """
    name = header.path.name
    if min(header.size) < 1:
        raise EmptyVolume(f"'{name}' has size {header.size}", "at least one voxel on each axis", EXPORT_AGAIN)
    if max(header.size) > LARGEST_AXIS or header.offset < 0 or header.skip < 0:
        raise damaged(name, f"has size {header.size} with voxels at byte {header.offset}", f"axes up to {LARGEST_AXIS}")
    available = file_size(header.data_path) - header.offset
    if header.compression == "raw" and available < header.data_bytes:
        raise damaged(
            name, f"holds {max(available, 0)} bytes of voxels", f"{header.data_bytes} bytes as its header says"
        )
    promised = header.data_bytes + header.skip
    if header.compression != "raw" and promised > max(available, 0) * DEFLATE_LIMIT:
        raise UnsafeFile(
            f"The header of '{name}' promises {promised} bytes from {max(available, 0)} compressed bytes",
            f"at most {DEFLATE_LIMIT} times the compressed size",
            EXPORT_AGAIN,
        )
    needed = header.data_bytes + 4 * (header.data_bytes // header.dtype.itemsize)
    free = free_host_bytes()
    if free is not None and needed > free:
        raise TooLarge(
            f"'{name}' needs {needed / 2**30:.1f} GiB of memory",
            f"at most {free / 2**30:.1f} GiB, which are free",
            "crop or resample the image, close other programs, or use a machine with more memory",
        )


def damaged(name: str, found: str, expected: str) -> DamagedFile:
    """The error for a file that contradicts itself."""
    return DamagedFile(f"'{name}' {found}", expected, EXPORT_AGAIN)


def file_size(path: Path) -> int:
    """Bytes of an ordinary file.

    Raises:
        FileError: missing, unreadable, or not an ordinary file.
    """
    try:
        ordinary, size = path.is_file(), path.stat().st_size
    except (OSError, ValueError) as error:
        raise FileError(
            f"'{path.name}' cannot be opened", "a file that exists and can be read", "check the path"
        ) from error
    if not ordinary:
        raise FileError(f"'{path.name}' is not an ordinary file", "a file", "check the path")
    return size


def data_file(path: Path, named: str) -> Path:
    """The detached data file that a header names: only from the header's own folder.

    Raises:
        UnsafeFile: an absolute path, a path with ``..``, or a link out of the folder.
        FileError: no such file.
    """
    folder = path.parent.resolve()
    relative = Path(named)
    outside = relative.is_absolute() or ".." in relative.parts or "\\" in named or ":" in named or "\0" in named
    if outside or folder not in (folder / relative).resolve().parents:
        raise UnsafeFile(
            f"'{path.name}' takes its voxels from '{named}'",
            "a data file in the same folder",
            "do not open this file, or put its data file beside it and name it without a folder",
        )
    file_size(folder / relative)
    return folder / relative


def in_range(values: np.ndarray) -> bool:
    """True when all numbers are finite and no larger than any place in the world."""
    return bool((np.abs(values) <= LARGEST_NUMBER).all())


def spans_volume(vectors: np.ndarray) -> bool:
    """True when the row vectors [n, n or more] are in range, not zero, and independent."""
    if not in_range(vectors):
        return False
    lengths = np.linalg.norm(vectors, axis=1)
    return bool((lengths > SMALLEST_NUMBER).all()) and bool(
        np.linalg.matrix_rank(vectors / lengths[:, None], tol=1e-6) == len(vectors)
    )


def whole_numbers(name: str, key: str, text: str, count: int | None = None) -> tuple[int, ...]:
    """Integers of a text header's field; DamagedFile otherwise."""
    words = text.split()
    if not all(w.lstrip("-").isascii() and w.lstrip("-").isdigit() and len(w) < 20 for w in words) or (
        len(words) != count if count is not None else not words
    ):
        raise damaged(name, f"has '{key}: {text[:60]}'", f"{count or 'some'} whole numbers")
    try:
        return tuple(int(w) for w in words)
    except ValueError:
        raise damaged(name, f"has '{key}: {text[:60]}'", "whole numbers") from None


def real_numbers(name: str, key: str, text: str, count: int) -> np.ndarray:
    """Float64 values [count] of a text header's field; DamagedFile otherwise."""
    try:
        values = np.array([float(w) for w in text.split()])
    except ValueError:
        values = np.empty(0)
    if len(values) != count:
        raise damaged(name, f"has '{key}: {text[:60]}'", f"{count} numbers")
    return values
