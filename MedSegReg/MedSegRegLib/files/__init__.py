"""Images, label maps and transforms in files: checked before they are read, written completely or not at all."""

from .atomic import (
    LABEL_EXTENSIONS,
    TRANSFORM_EXTENSIONS,
    VOLUME_EXTENSIONS,
    atomic_path,
    require_space,
    require_writable,
)
from .images import read_image, write_image
from .labels import read_labels, write_labels
from .points import read_points, write_points
from .transforms import read_transform, write_transform

__all__ = [
    "LABEL_EXTENSIONS",
    "TRANSFORM_EXTENSIONS",
    "VOLUME_EXTENSIONS",
    "atomic_path",
    "read_image",
    "read_labels",
    "read_points",
    "read_transform",
    "require_space",
    "require_writable",
    "write_image",
    "write_labels",
    "write_points",
    "write_transform",
]
