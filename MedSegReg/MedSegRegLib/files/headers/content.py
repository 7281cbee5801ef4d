"""What a file really is, from its first bytes: for messages about files with a wrong name."""

from __future__ import annotations

from pathlib import Path

SIGNATURES = (
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"NRRD000", "an NRRD file"),
    (0, b"\x89PNG", "a PNG picture"),
    (0, b"\xff\xd8\xff", "a JPEG picture"),
    (0, b"GIF8", "a GIF picture"),
    (0, b"BM", "a BMP picture"),
    (0, b"II*\0", "a TIFF picture"),
    (0, b"MM\0*", "a TIFF picture"),
    (0, b"%PDF", "a PDF document"),
    (0, b"PK\x03\x04", "a zip archive"),
    (0, b"\x89HDF", "an HDF5 file"),
    (0, b"\x7fELF", "a program"),
    (0, b"MZ", "a program"),
    (128, b"DICM", "a DICOM file"),
    (344, b"n+1\0", "a NIfTI file"),
    (344, b"ni1\0", "the header of a NIfTI pair"),
    (4, b"n+2\0", "a NIfTI-2 file"),
    (0, b"ObjectType", "a MetaImage file"),
    (0, b"NDims", "a MetaImage file"),
    (0, b"#Insight Transform", "an ITK transform"),
)


def describe_content(path: Path) -> str:
    """For example ``a PNG picture``, ``a text file``, ``an empty file``. Never opens what it finds."""
    with open(path, "rb") as file:
        start = file.read(512)
    if not start:
        return "an empty file"
    for offset, signature, words in SIGNATURES:
        if start[offset : offset + len(signature)] == signature:
            return words
    if all(byte >= 32 or byte in b"\t\r\n\f" for byte in start):
        return "a text file"
    return "a file of unknown type"
