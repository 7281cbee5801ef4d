"""The header of a MetaImage (.mha, .mhd), checked without any reader: a bad one crashes ITK's."""

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

LONGEST_HEADER = 1 << 20
LONGEST_LINE = 4096
MOST_AXES = 4
TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
MATRICES = ("TransformMatrix", "Rotation", "Orientation")
POSITIONS = ("Offset", "Position", "Origin")
BYTE_ORDERS = ("BinaryDataByteOrderMSB", "ElementByteOrderMSB")
FIELDS = frozenset(
    (
        "ObjectType",
        "NDims",
        "DimSize",
        "ElementType",
        "ElementNumberOfChannels",
        "BinaryData",
        "CompressedData",
        "CompressedDataSize",
        "ElementSpacing",
        "ElementSize",
        "HeaderSize",
        "ElementDataFile",
        "CenterOfRotation",
        "ObjectSubType",
        *MATRICES,
        *POSITIONS,
        *BYTE_ORDERS,
    )
)


def read_metaimage_header(path: Path) -> Header:
    """Parse and check; raises the typed errors of the file and geometry kinds."""
    fields, offset = _fields(path)
    name = path.name
    (axes,) = whole_numbers(name, "NDims", fields["NDims"], 1)
    if not 1 <= axes <= MOST_AXES:
        raise damaged(name, f"has {axes} axes", f"1 to {MOST_AXES}")
    sizes = whole_numbers(name, "DimSize", fields["DimSize"], axes)
    if min(sizes) < 1:
        raise damaged(name, f"has size {sizes}", "at least one voxel on each axis")
    if axes == 1:
        raise DimensionError(f"'{name}' has one axis, size {sizes}", "a volume", "choose another file")
    (channels,) = whole_numbers(name, "ElementNumberOfChannels", fields.get("ElementNumberOfChannels", "1"), 1)
    if channels < 1:
        raise damaged(name, f"has {channels} values a voxel", "1 or more")
    _check_geometry(name, fields, axes)
    big = any(_flag(name, fields, key) for key in BYTE_ORDERS)
    zipped = _flag(name, fields, "CompressedData")
    if fields["ElementType"] not in TYPES or not _flag(name, fields, "BinaryData", "True"):
        raise UnsupportedFile(
            f"'{name}' has type '{fields['ElementType'][:30]}', binary: {fields.get('BinaryData', 'True')[:10]}",
            "binary numbers",
            "save it again in Slicer as .nrrd",
        )
    dtype = np.dtype(TYPES[fields["ElementType"]]).newbyteorder(">" if big else "<")
    data_path, offset = _data_position(path, fields, offset, zipped)
    (skip,) = whole_numbers(name, "HeaderSize", fields.get("HeaderSize", "0"), 1)
    header = Header(
        path,
        "MetaImageIO",
        sizes[:3],
        channels,
        int(np.prod(sizes[3:], dtype=object)),
        dtype,
        data_path,
        offset,
        0,
        "zlib" if zipped else "raw",
    )
    if skip < -1 or (skip != 0 and (zipped or data_path == path)):
        raise damaged(name, f"has HeaderSize {skip}", "-1 or more, and only with raw data in a file of its own")
    if skip:
        start = skip if skip > 0 else file_size(data_path) - header.data_bytes
        return Header(path, header.image_io, header.size, channels, header.frames, dtype, data_path, start)
    return header


def _fields(path: Path) -> tuple[dict[str, str], int]:
    fields: dict[str, str] = {}
    known = {key.lower() for key in FIELDS}
    with open(path, "rb") as file:
        while "ElementDataFile" not in fields:
            line = file.readline(LONGEST_LINE)
            text = line.decode("utf-8", "replace").strip()
            key, equals, value = (word.strip() for word in text.partition("="))
            if not fields and key not in FIELDS:
                raise UnsupportedFile(
                    f"'{path.name}' is {describe_content(path)}",
                    "a MetaImage as its name says",
                    "give the file its right name, or export it again as .nrrd",
                )
            twice = key.lower() in known and (key in fields or key not in FIELDS)
            if (
                not line.endswith(b"\n")
                or not equals
                or not re.fullmatch(r"[\w|.\[\]()-]+", key)
                or twice
                or "\0" in text
            ):
                raise damaged(path.name, f"has the header line '{text[:60]}'", "'Key = value', each key once")
            if file.tell() > LONGEST_HEADER:
                raise damaged(path.name, "has a header without end", "'ElementDataFile' as the last line")
            fields[key] = value
        offset = file.tell()
    missing = [key for key in ("NDims", "DimSize", "ElementType") if key not in fields]
    if missing or fields.get("ObjectType", "Image") != "Image":
        raise damaged(
            path.name, f"lacks {missing} or is a '{fields.get('ObjectType', 'Image')[:20]}'", "a complete image header"
        )
    return fields, offset


def _flag(name: str, fields: dict[str, str], key: str, default: str = "False") -> bool:
    value = fields.get(key, default)
    if value not in ("True", "False"):
        raise damaged(name, f"has '{key} = {value[:20]}'", "True or False")
    return value == "True"


def _check_geometry(name: str, fields: dict[str, str], axes: int) -> None:
    usable = True
    for key, count in (
        ("ElementSpacing", axes),
        ("ElementSize", axes),
        ("CenterOfRotation", axes),
        *((key, axes) for key in POSITIONS),
        *((key, axes * axes) for key in MATRICES),
    ):
        if key in fields:
            values = real_numbers(name, key, fields[key], count)
            usable = usable and in_range(values)
            if key == "ElementSpacing":
                usable = usable and spans_volume(np.diag(values))
            if key in MATRICES:
                usable = usable and spans_volume(values.reshape(axes, axes))
    if not usable:
        shown = {key: fields[key][:60] for key in ("ElementSpacing", *MATRICES, *POSITIONS) if key in fields}
        raise InvalidGeometry(
            f"'{name}' has {shown}",
            "finite numbers, non-zero spacing, independent axes",
            "repair the header, or export the image again",
        )


def _data_position(path: Path, fields: dict[str, str], offset: int, zipped: bool) -> tuple[Path, int]:
    named = fields["ElementDataFile"]
    if named.lower() == "local":
        data_path = path
    elif named.upper().startswith("LIST") or "%" in named or len(named.split()) != 1:
        raise UnsupportedFile(
            f"'{path.name}' takes its voxels from '{named[:60]}'",
            "one data file without spaces in its name",
            EXPORT_AGAIN,
        )
    else:
        data_path, offset = data_file(path, named), 0
    # ITK fills the image with garbage, without an error, when the compressed size is missing or wrong
    compressed = file_size(data_path) - offset if zipped else 0
    (promised,) = whole_numbers(path.name, "CompressedDataSize", fields.get("CompressedDataSize", "0"), 1)
    if promised != compressed:
        raise damaged(path.name, f"holds {compressed} compressed bytes", f"{promised} as its CompressedDataSize says")
    return data_path, offset
