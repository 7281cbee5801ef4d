"""Header checks in plain Python: they run before SimpleITK, which hides truncation and crashes on some headers."""

from __future__ import annotations

from pathlib import Path

from ...errors import FileError, UnsupportedFile
from .content import describe_content
from .header import Header, file_size, require_possible
from .metaimage import read_metaimage_header
from .nifti import read_nifti_header
from .nrrd import read_nrrd_header
from .voxel_stream import count_non_finite, restore_non_finite

PARSERS = {
    ".nii": read_nifti_header,
    ".nii.gz": read_nifti_header,
    ".nrrd": read_nrrd_header,
    ".nhdr": read_nrrd_header,
    ".mha": read_metaimage_header,
    ".mhd": read_metaimage_header,
}

__all__ = [
    "PARSERS",
    "Header",
    "count_non_finite",
    "describe_content",
    "file_size",
    "read_header",
    "restore_non_finite",
]


def read_header(path: Path) -> Header:
    """Parse and check the header by the file's extension.

    Raises:
        FileError: and its kinds, for files that are missing, damaged, unsupported or unsafe.
        InputError: and its kinds, for images that cannot be worked on.
    """
    file_size(path)
    parser = next(
        (PARSERS[end] for end in sorted(PARSERS, key=len, reverse=True) if path.name.lower().endswith(end)), None
    )
    try:
        if parser is None:
            raise UnsupportedFile(
                f"'{path.name}' is {describe_content(path)}",
                f"a file ending in {', '.join(PARSERS)}",
                "convert it; for DICOM give the folder of one series",
            )
        header = parser(path)
        require_possible(header)
    except OSError as error:
        raise FileError(
            f"'{path.name}' cannot be read: {error.strerror}", "a readable file", "check its permissions"
        ) from error
    return header
