"""The header of an NRRD file, attached or detached, checked without any reader."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from ...errors import DimensionError, InvalidGeometry, UnsupportedFile
from .content import describe_content
from .header import (
    EXPORT_AGAIN,
    Header,
    damaged,
    data_file,
    file_size,
    in_range,
    real_numbers,
    spans_volume,
    whole_numbers,
)

LONGEST_HEADER = 1 << 24
MOST_AXES = 16
FIELDS = frozenset(
    (
        "type",
        "dimension",
        "sizes",
        "encoding",
        "endian",
        "content",
        "min",
        "max",
        "old min",
        "old max",
        "data file",
        "line skip",
        "byte skip",
        "number",
        "space",
        "space dimension",
        "space units",
        "space origin",
        "space directions",
        "measurement frame",
        "spacings",
        "thicknesses",
        "axis mins",
        "axis maxs",
        "centers",
        "labels",
        "units",
        "kinds",
        "sample units",
    )
)
ALIASES = {
    "datafile": "data file",
    "lineskip": "line skip",
    "byteskip": "byte skip",
    "centerings": "centers",
    "axismins": "axis mins",
    "axismaxs": "axis maxs",
    "oldmin": "old min",
    "oldmax": "old max",
    "sampleunits": "sample units",
}
TYPES = {
    name: code
    for names, code in (
        ("signed char|int8|int8_t", "i1"),
        ("uchar|unsigned char|uint8|uint8_t", "u1"),
        ("short|short int|signed short|signed short int|int16|int16_t", "i2"),
        ("ushort|unsigned short|unsigned short int|uint16|uint16_t", "u2"),
        ("int|signed int|int32|int32_t", "i4"),
        ("uint|unsigned int|uint32|uint32_t", "u4"),
        ("longlong|long long|long long int|signed long long|signed long long int|int64|int64_t", "i8"),
        ("ulonglong|unsigned long long|unsigned long long int|uint64|uint64_t", "u8"),
        ("float", "f4"),
        ("double", "f8"),
    )
    for name in names.split("|")
}
SPATIAL_KINDS = ("domain", "space", "???")
FRAME_KINDS = ("list", "time", "none")


def read_nrrd_header(path: Path) -> Header:
    """Parse and check; raises the typed errors of the file and geometry kinds."""
    fields, offset = _fields(path)
    for required in ("type", "dimension", "sizes", "encoding"):
        if required not in fields:
            raise damaged(path.name, f"has no '{required}'", "a complete NRRD header")
    (dimension,) = whole_numbers(path.name, "dimension", fields["dimension"], 1)
    if not 1 <= dimension <= MOST_AXES:
        raise damaged(path.name, f"has {dimension} axes", f"1 to {MOST_AXES}")
    sizes = whole_numbers(path.name, "sizes", fields["sizes"], dimension)
    if min(sizes) < 1:
        raise damaged(path.name, f"has sizes {sizes}", "at least one voxel on each axis")
    size, components, frames = _axes(path.name, fields, sizes)
    compression = {"raw": "raw", "gzip": "gzip", "gz": "gzip"}.get(fields["encoding"].lower())
    if compression is None or fields["type"].lower() not in TYPES or fields.get("line skip", "0") != "0":
        raise UnsupportedFile(
            f"'{path.name}' has type '{fields['type'][:20]}', encoding '{fields['encoding'][:20]}'",
            "numbers, stored raw or as gzip, without skipped lines",
            "save it again in Slicer as .nrrd",
        )
    dtype = np.dtype(TYPES[fields["type"].lower()]).newbyteorder(
        ">" if fields.get("endian", "little") == "big" else "<"
    )
    data_path, offset, skip = _data_position(path, fields, offset, compression)
    header = Header(path, "NrrdImageIO", size, components, frames, dtype, data_path, offset, max(skip, 0), compression)
    if skip < 0:
        header = Header(
            path, "NrrdImageIO", size, components, frames, dtype, data_path, file_size(data_path) - header.data_bytes
        )
    return header


def _fields(path: Path) -> tuple[dict[str, str], int]:
    with open(path, "rb") as file:
        if not re.fullmatch(rb"NRRD000[1-6]\r?\n", file.readline(16)):
            raise UnsupportedFile(
                f"'{path.name}' is {describe_content(path)}",
                "an NRRD file as its name says",
                "give the file its right name, or export it again as .nrrd",
            )
        fields: dict[str, str] = {}
        while line := file.readline(LONGEST_HEADER):
            text = line.decode("utf-8", "replace").rstrip("\r\n")
            if file.tell() > LONGEST_HEADER or not line.endswith(b"\n") or "\0" in text:
                raise damaged(path.name, "has a header without end", "a text header that ends with an empty line")
            if not text:
                return fields, file.tell()
            _add_field(path.name, fields, text)
        return fields, file.tell()


def _add_field(name: str, fields: dict[str, str], text: str) -> None:
    if text.startswith("#"):
        return
    key, colon, value = text.partition(":")
    if colon and value.startswith("="):
        return
    key = ALIASES.get(key.lower(), key.lower())
    if not value.startswith(" ") or key not in FIELDS or key in fields:
        raise damaged(name, f"has the header line '{text[:60]}'", "each field of the NRRD format once")
    fields[key] = value.strip()


def _axes(name: str, fields: dict[str, str], sizes: tuple[int, ...]) -> tuple[tuple[int, ...], int, int]:
    kinds = fields["kinds"].lower().split() if "kinds" in fields else ["domain"] * len(sizes)
    vectors = _directions(name, fields, len(sizes))
    if len(kinds) != len(sizes):
        raise damaged(name, f"has kinds '{fields['kinds'][:60]}'", f"{len(sizes)} of them")
    spatial = [
        n for n, kind in enumerate(kinds) if kind in SPATIAL_KINDS and (vectors is None or vectors[n] is not None)
    ]
    frame_axes = [n for n in range(len(sizes)) if n not in spatial and kinds[n] in (*SPATIAL_KINDS, *FRAME_KINDS)]
    if not 2 <= len(spatial) <= 4:
        raise DimensionError(
            f"'{name}' has {len(spatial)} spatial axes, sizes {sizes}", "two or three", "choose a volume"
        )
    extra = spatial[3:]
    _check_geometry(name, fields, [n for n in spatial if n not in extra], vectors)
    frames = int(np.prod([sizes[n] for n in (*extra, *frame_axes)], dtype=object))
    components = int(np.prod([sizes[n] for n in range(len(sizes)) if n not in (*spatial, *frame_axes)], dtype=object))
    return tuple(sizes[n] for n in spatial[:3]), components, frames


def _directions(name: str, fields: dict[str, str], dimension: int) -> list[np.ndarray | None] | None:
    if "space directions" not in fields:
        return None
    text = fields["space directions"]
    words = re.findall(r"none|\([^()]*\)", text)
    if len(words) != dimension or re.sub(r"none|\([^()]*\)|\s", "", text):
        raise damaged(name, f"has space directions '{text[:60]}'", f"one vector for each of {dimension} axes")
    found = [word for word in words if word != "none"]
    lengths = {word.count(",") + 1 for word in found}
    if len(lengths) > 1:
        raise damaged(name, f"has space directions '{text[:60]}'", "vectors of one length")
    return [
        None
        if word == "none"
        else real_numbers(name, "space directions", word[1:-1].replace(",", " "), word.count(",") + 1)
        for word in words
    ]


def _check_geometry(
    name: str, fields: dict[str, str], spatial: list[int], vectors: list[np.ndarray | None] | None
) -> None:
    if vectors is None:
        spacings = fields.get("spacings", "")
        values = (
            real_numbers(name, "spacings", spacings, len(fields["sizes"].split())) if spacings else np.ones(MOST_AXES)
        )
        usable = spans_volume(np.diag(values[spatial]))
    else:
        columns = np.array([vectors[n] for n in spatial], np.float64)
        origin = fields.get("space origin", "").strip("() ").replace(",", " ")
        place = real_numbers(name, "space origin", origin, columns.shape[1]) if origin else np.zeros(1)
        usable = spans_volume(columns) and in_range(place)
    if not usable:
        raise InvalidGeometry(
            f"'{name}' has directions '{fields.get('space directions', fields.get('spacings', ''))[:80]}' and origin "
            f"'{fields.get('space origin', '')[:40]}'",
            "finite, independent, non-zero axes",
            "repair the header, or export the image again",
        )


def _data_position(path: Path, fields: dict[str, str], offset: int, compression: str) -> tuple[Path, int, int]:
    (skip,) = whole_numbers(path.name, "byte skip", fields.get("byte skip", "0"), 1)
    if skip < -1 or (skip == -1 and compression != "raw"):
        raise damaged(path.name, f"skips {skip} bytes", "-1 or more, and 0 or more when compressed")
    named = fields.get("data file")
    if named is not None:
        if named.upper().startswith("LIST") or "%" in named:
            raise UnsupportedFile(f"'{path.name}' spreads its voxels over several files", "one data file", EXPORT_AGAIN)
        return _raw_skip(data_file(path, named), 0, skip, compression)
    if path.suffix.lower() == ".nhdr":
        raise damaged(path.name, "names no data file", "a 'data file' field")
    return _raw_skip(path, offset, skip, compression)


def _raw_skip(data_path: Path, offset: int, skip: int, compression: str) -> tuple[Path, int, int]:
    return (data_path, offset + skip, 0) if compression == "raw" and skip > 0 else (data_path, offset, skip)
