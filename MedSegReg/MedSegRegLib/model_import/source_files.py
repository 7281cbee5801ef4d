"""A folder or a zip, read by name only. Import walk: what the user gave -> [source files] -> the reader of its kind.

Nothing is unpacked under a name of the archive: a wanted file is copied, up to a limit, to a name chosen here. An
archive with names that would lead elsewhere is refused as a whole.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from ..errors import DamagedModel, UnknownModel, UnsafeFile, UnsupportedFile

MAX_NAMES = 100_000
MAX_DEPTH = 6
MAX_TEXT_BYTES = 32 << 20
MAX_WEIGHTS_BYTES = 8 << 30
AGAIN = "download the file again"
Description = TypeVar("Description", bound=BaseModel)


class SourceFiles:
    """The files of a foreign model, in a folder or in a zip.

    Args:
        place: the folder or the zip.
        scratch: where wanted files of a zip are copied to.

    Raises:
        UnknownModel: no such place.
        UnsafeFile: an archive with too many entries, with links, or with names that lead out of it.
        DamagedModel: not a whole archive.
    """

    def __init__(self, place: Path, scratch: Path) -> None:
        self.place, self._scratch = place, scratch
        if not place.exists():
            raise UnknownModel(f"There is no '{place}'", "a model's folder or file", "check the path")

    @property
    def title(self) -> str:
        """A name for it."""
        return self.place.name if self.place.is_dir() else self.place.stem

    @cached_property
    def names(self) -> tuple[str, ...]:
        """All names, with '/' between folders, in order."""
        if self.place.is_dir():
            return tuple(sorted(_walk(self.place)))
        with self._archive() as archive:
            entries = archive.infolist()
        _require_plain_names(entries, self.place.name)
        return tuple(sorted(entry.filename for entry in entries if not entry.is_dir()))

    def text(self, name: str) -> str:
        """A small text file."""
        path = self.file(name, MAX_TEXT_BYTES)
        try:
            return path.read_text("utf-8")
        except UnicodeDecodeError:
            raise DamagedModel(f"'{name}' is not text", "UTF-8 text", AGAIN) from None

    def json(self, name: str) -> dict[str, Any]:
        """A JSON object; keys that occur twice and numbers that are not finite are refused."""
        return json_object(self.text(name), name)

    def file(self, name: str, limit: int = MAX_WEIGHTS_BYTES) -> Path:
        """A path to its content, which has at most ``limit`` bytes."""
        if self.place.is_dir():
            path = self.place / name
            _require_size(path.stat().st_size, limit, name)
            return path
        copy = self._scratch / f"{self.names.index(name)}{PurePosixPath(name).suffix}"
        if not copy.exists():
            with self._archive() as archive:
                _require_size(archive.getinfo(name).file_size, limit, name)
                try:
                    with archive.open(name) as packed, copy.open("wb") as unpacked:
                        shutil.copyfileobj(packed, unpacked)  # stops at the size that was just checked
                except (
                    zipfile.BadZipFile,
                    zlib.error,
                    EOFError,
                    NotImplementedError,
                    RuntimeError,
                    ValueError,
                ) as error:
                    raise DamagedModel(f"'{name}' in '{self.place.name}' is damaged ({error})", "", AGAIN) from None
        return copy

    @contextmanager
    def _archive(self) -> Iterator[zipfile.ZipFile]:
        try:
            archive = zipfile.ZipFile(self.place)
        except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
            raise DamagedModel(f"'{self.place.name}' is not a whole zip ({error})", "a whole zip", AGAIN) from None
        with archive:
            yield archive


def json_object(text: str, name: str) -> dict[str, Any]:
    """A JSON object of this text; ``name`` is for the message."""
    try:
        content = json.loads(text, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise DamagedModel(f"'{name}' cannot be read: {str(error)[:120]}", "JSON text", AGAIN) from None
    if not isinstance(content, dict):
        raise DamagedModel(f"'{name}' holds a {type(content).__name__}", "a JSON object", AGAIN)
    return content


def described(kind: type[Description], content: object, name: str) -> Description:
    """Foreign data in the form that this library understands; anything else is refused with its place.

    Raises:
        UnsupportedFile: a value that is missing, of another type, or not among those that are known.
    """
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UnsupportedFile(
            f"'{place}' of {name} is {str(first['input'])[:80]}: {first['msg']}",
            "a model of a kind that is known here",
            "models with parts of their own cannot be imported",
        ) from None


def _walk(folder: Path) -> Iterator[str]:
    count = 0
    for root, folders, files in os.walk(folder):
        inside = Path(root).relative_to(folder)
        if len(inside.parts) >= MAX_DEPTH:
            folders.clear()
        for file in files:
            count += 1
            if count > MAX_NAMES:
                raise UnsupportedFile(f"'{folder}' holds more than {MAX_NAMES} files", "a model's own folder")
            yield (inside / file).as_posix()


def _require_plain_names(entries: list[zipfile.ZipInfo], archive: str) -> None:
    if len(entries) > MAX_NAMES:
        raise UnsafeFile(f"'{archive}' has {len(entries)} entries", f"at most {MAX_NAMES}", "do not use this file")
    seen: set[str] = set()
    for entry in entries:
        name = entry.filename
        link = stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR)
        leads_out = name.startswith("/") or "\\" in name or ":" in name or ".." in PurePosixPath(name).parts
        if link or leads_out or name.casefold() in seen:
            raise UnsafeFile(
                f"'{archive}' has the entry '{name[:80]}'",
                "ordinary files with names inside the archive, each once",
                "do not use this file",
            )
        seen.add(name.casefold())


def _require_size(size: int, limit: int, name: str) -> None:
    if size > limit:
        raise UnsafeFile(f"'{name}' has {size} bytes", f"at most {limit}", "do not use this file")


def _no_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError("a key occurs twice")
    return dict(pairs)


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is not a number")
