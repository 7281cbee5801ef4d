"""Models on the way between machines: one zip archive with any number of model packages, read with distrust.

An entry is ``<model>/<file of a package>`` and nothing else, and the bytes that come out are those whose sha256 is in
the model's description. Nothing is extracted by a name that the archive chose: names are compared with a list.
"""

from __future__ import annotations

import hashlib
import io
import re
import shutil
import stat
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..errors import DamagedFile, DamagedModel, InvalidSetting, UnsafeFile, UnsupportedFile
from .atomic import atomic_path, require_space
from .model_package import AGAIN, MAX_JSON_BYTES, read_package, read_spec
from .model_signature import MAX_SIGNATURE_BYTES, SIGNATURE_FILE
from .model_spec import ModelSpec

RESERVED = r"(?:con|prn|aux|nul|com\d|lpt\d)"  # Windows keeps these names for itself
FOLDER = rf"(?!{RESERVED}[./])[a-z0-9](?:[a-z0-9.-]{{0,62}}[a-z0-9-])?/"
WEIGHTS = r"weights(?:-\d{1,2})?\.safetensors|delta\.safetensors|network\.onnx"
FILE = rf"(?:model\.json|README\.md|{WEIGHTS}|int8(?:-\d{{1,2}})?\.(?:xml|bin))"
ENTRY = re.compile(rf"{FOLDER}(?:model\.json\.sig|(?:previous/)?{FILE})", re.ASCII)
EMPTY_FOLDER = re.compile(rf"{FOLDER}(?:previous/)?", re.ASCII)
MAX_DIRECTORY_BYTES = 1 << 22  # refused before the list of entries is parsed
MAX_ENTRIES = 10_000
MAX_ENTRY_BYTES = {"model.json": MAX_JSON_BYTES, "README.md": 1 << 22, SIGNATURE_FILE: MAX_SIGNATURE_BYTES}
MAX_WEIGHTS_BYTES = 1 << 33
MAX_TOTAL_BYTES = 1 << 36
MAX_RATIO = 50  # weights hardly compress: more is a bomb
CHUNK = 1 << 20
PLAIN_ENTRY = (stat.S_IFREG | 0o644) << 16
EARLIEST = (1980, 1, 1, 0, 0, 0)
OTHER_ARCHIVES = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"7z\xbc\xaf", b"Rar!")
EXPECTED = "an archive as 'medsegreg model export' writes it"
DISTRUST = "do not use this archive; get it again from its maker"


class _CautiousReader(io.BufferedReader):
    """A file that refuses to be read in larger pieces, and at other places, than any honest archive needs."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > MAX_DIRECTORY_BYTES:
            raise UnsafeFile(f"The archive claims a list of entries of {size} bytes", EXPECTED, DISTRUST)
        return super().read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        if whence == io.SEEK_SET and offset < 0:
            raise zipfile.BadZipFile("an entry lies before its beginning")
        return super().seek(offset, whence)


def package_files(folder: Path) -> tuple[str, ...]:
    """Names of the files that make up a model: its description, those that it lists, its signature, the previous stage.

    Raises:
        UnknownModel, DamagedModel: of the descriptions; a file is missing; a previous stage that itself has one.
    """
    spec = read_spec(folder)
    names = ["model.json", *spec.sha256, *([SIGNATURE_FILE] if (folder / SIGNATURE_FILE).is_file() else [])]
    if spec.previous_stage:
        previous = read_spec(folder / "previous")
        if previous.previous_stage:
            raise DamagedModel(f"The previous stage of '{spec.name}' has one itself", "two stages at most", AGAIN)
        names += ["previous/model.json", *(f"previous/{name}" for name in previous.sha256)]
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise DamagedModel(f"{missing[0]} is missing in '{folder.name}'", "every file that model.json lists", AGAIN)
    return tuple(dict.fromkeys(names))


def require_whole(folder: Path) -> ModelSpec:
    """The description of a package, after every file of it, and of its previous stage, was checked.

    Raises:
        UnknownModel, DamagedModel, MissingPackage: as of :func:`read_package`.
    """
    package_files(folder)
    spec = read_package(folder)[0]
    if spec.previous_stage:
        read_package(folder / "previous")
    return spec


def write_archive(folders: Sequence[Path], path: Path) -> str:
    """Write packages into one zip archive, each verified before. The same models give the same bytes.

    Nothing is compressed: weights hardly shrink, and other releases of zlib would give other bytes.

    Returns:
        The sha256 of the archive, in hexadecimal.

    Raises:
        UnknownModel, DamagedModel, MissingPackage: of a package that is not whole.
        InvalidSetting: two packages of one name.
        OutputNotWritable: no space, or no such folder.
    """
    packages = {require_whole(folder).name: folder for folder in folders}
    if len(packages) != len(folders):
        raise InvalidSetting("Two of the models have the same name", "a name of its own for each", "export them apart")
    for model in packages:
        if not ENTRY.fullmatch(f"{model}/model.json"):
            raise InvalidSetting(f"'{model}' cannot be a folder on every system", "another name", "rename the model")
    with atomic_path(path) as temporary:
        require_space(path, sum(package_bytes(folder) for folder in folders))
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
            for model, folder in sorted(packages.items()):
                for name in sorted(package_files(folder)):
                    entry = zipfile.ZipInfo(f"{model}/{name}", EARLIEST)
                    entry.external_attr, entry.create_system = PLAIN_ENTRY, 3  # as on Unix, wherever it is written
                    archive.writestr(entry, (folder / name).read_bytes())
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def package_bytes(folder: Path) -> int:
    """Size of a package on disk."""
    return sum((folder / name).stat().st_size for name in package_files(folder))


def is_model_archive(path: Path) -> bool:
    """Whether a file is a zip archive with a ``model.json`` where a package of ours has it.

    Raises:
        UnsupportedFile: an archive of another kind.
        UnsafeFile, DamagedFile: a zip archive whose list of entries cannot be trusted or read.
    """
    with open(path, "rb") as file:
        start = file.read(512)
    if start.startswith(OTHER_ARCHIVES) or start[257:262] == b"ustar":
        raise UnsupportedFile(f"'{path.name}' is a tar or another archive", "a zip archive", "unpack it, or zip it")
    if not zipfile.is_zipfile(path):
        return False
    with _open(path) as archive:
        return any(re.search(r"^([^/]*/)?model\.json$", name) for name in archive.namelist())


def extract_archive(path: Path, folder: Path) -> list[Path]:
    """Extract every model of an archive into an empty folder, and verify it there.

    Returns:
        The folder of each model.

    Raises:
        UnsafeFile: names, links, sizes or numbers of entries that no honest archive has; before anything is written.
        DamagedFile, DamagedModel: truncated, altered, or not what ``model.json`` lists.
        OutputNotWritable: no space.
    """
    with _open(path) as archive:
        entries = _require_honest(archive.infolist(), path)
        require_space(folder / path.name, sum(entry.file_size for entry in entries))
        for entry in entries:
            target = folder / entry.filename
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(entry) as source, open(target, "xb") as file:  # never gives more than the stated size
                shutil.copyfileobj(source, file, CHUNK)
    packages = sorted({folder / entry.filename.split("/")[0] for entry in entries})
    listed = {f"{package.name}/{name}" for package in packages for name in package_files(package)}
    unlisted = {entry.filename for entry in entries} - listed
    if unlisted:
        raise DamagedModel(f"No model.json lists '{min(unlisted)}' of '{path.name}'", EXPECTED, DISTRUST)
    for package in packages:
        spec = require_whole(package)
        if spec.name != package.name:
            raise DamagedModel(f"The folder '{package.name}' holds the model '{spec.name}'", EXPECTED, DISTRUST)
    return packages


@contextmanager
def _open(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with _CautiousReader(io.FileIO(path)) as file, zipfile.ZipFile(file) as archive:
            yield archive
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, UnicodeDecodeError) as error:
        raise DamagedFile(f"'{path.name}' is a damaged zip archive ({error})", EXPECTED, "get it again") from None


def _require_honest(entries: list[zipfile.ZipInfo], path: Path) -> list[zipfile.ZipInfo]:
    """The files among the entries, when all are as they must be."""
    if len(entries) > MAX_ENTRIES:
        raise UnsafeFile(f"'{path.name}' has {len(entries)} entries", f"at most {MAX_ENTRIES}", DISTRUST)
    files = [entry for entry in entries if not EMPTY_FOLDER.fullmatch(entry.filename)]
    for entry in files:
        _require_honest_entry(entry, path)
    if not files:
        raise DamagedFile(f"'{path.name}' is empty", EXPECTED, "get it again")
    name, times = Counter(entry.filename for entry in files).most_common(1)[0]
    if times > 1:
        raise UnsafeFile(f"'{name}' is in '{path.name}' {times} times", "once", DISTRUST)
    total = sum(entry.file_size for entry in files)
    if total > min(MAX_TOTAL_BYTES, MAX_RATIO * path.stat().st_size):
        raise UnsafeFile(
            f"'{path.name}' claims to hold {total} bytes in {path.stat().st_size}",
            f"at most {MAX_RATIO} times its size, and {MAX_TOTAL_BYTES} bytes",
            DISTRUST,
        )
    return files


def _require_honest_entry(entry: zipfile.ZipInfo, path: Path) -> None:
    if not ENTRY.fullmatch(entry.orig_filename) or entry.filename != entry.orig_filename:
        raise UnsafeFile(
            f"'{path.name}' has an entry {entry.orig_filename[:80]!r}", "<model>/<file of a model package>", DISTRUST
        )
    if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG):
        raise UnsafeFile(f"'{entry.filename}' of '{path.name}' is a link or a device", "a plain file", DISTRUST)
    if entry.flag_bits & 0x1 or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise UnsupportedFile(
            f"'{entry.filename}' of '{path.name}' is encrypted or compressed in an unusual way",
            "stored or deflated, without a password",
            "zip it again",
        )
    limit = MAX_ENTRY_BYTES.get(entry.filename.split("/")[-1], MAX_WEIGHTS_BYTES)
    if entry.file_size > limit:
        raise UnsafeFile(f"'{entry.filename}' claims {entry.file_size} bytes", f"at most {limit}", DISTRUST)
