"""The voxels of a file as a stream of bytes, bounded by what the header promises: truncation and bombs end here."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from ...errors import UnsafeFile
from .header import EXPORT_AGAIN, Header, damaged

CHUNK = 1 << 22  # a multiple of every voxel type's size
TRAILING = 1 << 20


def count_non_finite(header: Header) -> int:
    """Walk once over all voxels; how many stored values are NaN or infinite (0 for integer types).

    Raises:
        DamagedFile: the data end early, or the compressed stream is broken (its checksum is verified).
        UnsafeFile: the stream goes on for more than 1 MiB behind the last voxel.
    """
    if header.compression == "raw" and header.dtype.kind != "f":
        return 0  # its length was compared with the file already
    return sum(int((~np.isfinite(values)).sum()) for _, values in voxel_chunks(header) if values.dtype.kind == "f")


def restore_non_finite(header: Header, array: np.ndarray) -> np.ndarray:
    """A copy of ``array`` (any shape, in file order) with the NaN and infinities that the reader made zero."""
    restored = np.array(array, copy=True)
    flat = restored.reshape(-1)
    for start, values in voxel_chunks(header):
        bad = ~np.isfinite(values)
        flat[start : start + len(values)][bad] = values[bad]
    return restored


def voxel_chunks(header: Header) -> Iterator[tuple[int, np.ndarray]]:
    """(index of the first value, values in the stored type) in file order, at most 4 MiB at a time."""
    try:
        with open(header.data_path, "rb") as file:
            file.seek(header.offset)
            yield from _chunks(header, _inflated(header, file))
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise damaged(
            header.path.name,
            f"has compressed voxels that break off or are altered ({error})",
            f"{header.data_bytes} bytes as its header says",
        ) from None


def _chunks(header: Header, stream: gzip.GzipFile | BinaryIO | _ZlibReader) -> Iterator[tuple[int, np.ndarray]]:
    _read(stream, header.skip)
    done = 0
    while done < header.data_bytes:
        data = _read(stream, min(CHUNK, header.data_bytes - done))
        if not data or len(data) % header.dtype.itemsize:
            raise EOFError(f"after {done + len(data)} bytes")
        yield done // header.dtype.itemsize, np.frombuffer(data, header.dtype)
        done += len(data)
    if header.compression != "raw" and len(_read(stream, TRAILING)) == TRAILING:
        raise UnsafeFile(
            f"'{header.path.name}' goes on for more than {TRAILING} bytes behind its last voxel",
            f"{header.data_bytes} bytes as its header says",
            EXPORT_AGAIN,
        )


def _inflated(header: Header, file: BinaryIO) -> gzip.GzipFile | BinaryIO | _ZlibReader:
    if header.compression == "gzip":
        return gzip.GzipFile(fileobj=file, mode="rb")
    return _ZlibReader(file) if header.compression == "zlib" else file


def _read(stream: gzip.GzipFile | BinaryIO | _ZlibReader, count: int) -> bytes:
    """Up to ``count`` bytes; fewer only at the end of the stream."""
    parts = []
    while count > 0 and (part := stream.read(min(count, CHUNK))):
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


class _ZlibReader:
    """Reads one zlib stream with bounded output; raises EOFError when it breaks off."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._inflater, self._pending = file, zlib.decompressobj(), b""

    def read(self, count: int) -> bytes:
        while not self._inflater.eof:
            self._pending = self._pending or self._file.read(1 << 16)
            if not self._pending:
                raise EOFError("the stream breaks off")
            data = self._inflater.decompress(self._pending, count)
            self._pending = self._inflater.unconsumed_tail
            if data:
                return data
        return b""
