"""Writing files so that a name is either absent, the previous file, or the complete new one."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import FileError, OutputNotWritable, UnsafeFile

VOLUME_EXTENSIONS = (".nii.gz", ".nii", ".nrrd", ".mha")
LABEL_EXTENSIONS = (".seg.nrrd", *VOLUME_EXTENSIONS)
TRANSFORM_EXTENSIONS = (".tfm", ".txt", ".h5", ".mat", *VOLUME_EXTENSIONS)
WRITABLE_EXTENSIONS = tuple(dict.fromkeys((*LABEL_EXTENSIONS, *TRANSFORM_EXTENSIONS)))


def extension_of(path: Path, extensions: tuple[str, ...] = WRITABLE_EXTENSIONS) -> str:
    """The longest of ``extensions`` that the name ends in, lower case; empty when none."""
    name = path.name.lower()
    return max((e for e in extensions if name.endswith(e) and len(name) > len(e)), key=len, default="")


def require_writable(
    path: str | Path, overwrite: bool = False, extensions: tuple[str, ...] = WRITABLE_EXTENSIONS
) -> None:
    """Ask before computing whether a result can be written there.

    Raises:
        OutputNotWritable: unknown extension, missing or read-only folder, a folder of that name, or the name is taken.
        UnsafeFile: the name is a link to a place outside its folder.
    """
    path = Path(path)
    if not extension_of(path, extensions):
        raise OutputNotWritable(
            f"The output is named '{path.name}'", f"a name ending in {', '.join(extensions)}", "rename it"
        )
    try:
        if path.is_symlink() and path.resolve().parent != path.parent.resolve():
            raise UnsafeFile(
                f"'{path.name}' is a link to a place outside its folder",
                "an ordinary file or a free name",
                "choose another name",
            )
        if path.is_dir() or (path.exists() and not overwrite):
            raise OutputNotWritable(
                f"'{path.name}' exists already", "a free name", "choose another name, or allow overwriting"
            )
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except (OSError, ValueError) as error:
        raise OutputNotWritable(
            f"The folder of '{path.name}' is missing or cannot be written",
            "a writable folder",
            "create it or choose another folder",
        ) from error


def require_space(path: Path, size_bytes: int) -> None:
    """Refuse with OutputNotWritable when the disk has no room for this many bytes."""
    free = shutil.disk_usage(path.parent).free
    if free < size_bytes:
        raise OutputNotWritable(
            f"The disk has {free / 2**20:.0f} MiB free",
            f"{size_bytes / 2**20:.0f} MiB for '{path.name}'",
            "free some space, or choose another folder",
        )


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary name in the same folder with the same extension; give it the real name when the block succeeds.

    The temporary file is flushed to the disk first. On any exception it is removed and a previous file stays as it was.

    Raises:
        OutputNotWritable: the block failed to write a complete file (a FileError or OSError in it).
    """
    path = Path(path)
    temporary = path.with_name(f".writing-{secrets.token_hex(8)}{extension_of(path) or path.suffix}")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, FileError) as error:
        reason = error.found if isinstance(error, FileError) else error.strerror
        raise OutputNotWritable(
            f"'{path.name}' could not be written completely ({reason})",
            "space on the disk",
            "free some space or choose another folder; nothing was changed",
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
