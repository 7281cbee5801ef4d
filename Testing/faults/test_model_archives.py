"""Row 69 of the catalogue of faults: hostile and damaged archives of models, made as an attacker would make them.

And rows 59 to 62 where a model comes in: ``medsegreg model import`` runs nothing.
"""

from __future__ import annotations

import builtins
import io
import logging
import os
import pickle
import re
import stat
import struct
import tarfile
import time
import zipfile
import zlib
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from MedSegRegLib import cli
from MedSegRegLib.errors import DamagedFile, DamagedModel, MedSegRegError, UnsafeFile, UnsupportedFile
from MedSegRegLib.files import model_archive
from MedSegRegLib.files.model_archive import ENTRY, MAX_RATIO, write_archive
from MedSegRegLib.files.model_store import install, is_package, stage, staging_folder
from small_training import small_spec, write_random_model

SHARED_FOLDER = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def files(a_model_folder):
    """An honest archive's entries."""
    return {f"balls/{path.name}": path.read_bytes() for path in a_model_folder.iterdir()}


def archive_of(path: Path, files: dict[str, bytes], *more: tuple[zipfile.ZipInfo | str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (*files.items(), *more):
            entry = name if isinstance(name, zipfile.ZipInfo) else zipfile.ZipInfo("entry")
            if isinstance(name, str):
                entry.filename = name  # as it is: the constructor would mend it
            archive.writestr(entry, content)
    return path


def import_archive(path: Path) -> dict[str, str]:
    assert is_package(path)
    with staging_folder() as staging:
        return dict(install(stage(path, staging)))


def require_nothing_left(tmp_path: Path, *allowed: str) -> None:
    """No file anywhere but the archive and the model it was made of, and the store is empty."""
    assert {path.name for path in tmp_path.iterdir()} <= {"balls", "store", "hostile.zip", *allowed}
    assert not (tmp_path / "store").exists() or not list((tmp_path / "store").iterdir())


def test_the_honest_archive_is_installed(files, an_empty_store, tmp_path):
    assert import_archive(archive_of(tmp_path / "hostile.zip", files)) == {"balls": "installed"}
    assert [path.name for path in an_empty_store.iterdir()] == ["balls"]


@pytest.mark.parametrize(
    "name",
    [
        "../escaped",
        "../../escaped",
        "balls/../../escaped",
        "balls/../balls/README.md",
        "/absolute",
        "//balls/README.md",
        "C:/windows",
        "C:\\windows",
        "..\\escaped",
        "balls\\README.md",
        "./balls/README.md",
        "balls//README.md",
        "balls/readme.md",
        "balls/Model.json",
        "Balls/model.json",
        "BALLS/README.md",
        "balls/README.md ",
        "balls/README.md.",
        "balls/README.md\n",
        "balls/README.md\x00.txt",
        "balls/weights.pt",
        "balls/model.py",
        "balls/previous/previous/model.json",
        "balls/previous/model.json.sig",
        "balls/other/README.md",
        "balls/weights-٣.safetensors",
        "con/README.md",
        "nul.x/README.md",
        "balls./README.md",
        ".hidden/README.md",
        "",
        "README.md",
        "../",
        "/",
        "con/",
        "other/previous/previous/",
        "balls/README.md/",
        "a" * 65 + "/README.md",
        "x" * 60_000,
    ],
)
def test_a_name_that_no_package_has_is_refused_before_anything_is_written(name, files, an_empty_store, tmp_path):
    path = archive_of(tmp_path / "hostile.zip", files, (name, b"hostile"))
    with pytest.raises(UnsafeFile):
        import_archive(path)
    require_nothing_left(tmp_path)


@SHARED_FOLDER
@given(name=st.text(st.sampled_from("./\\:ab-\x00 ~$CON"), min_size=1, max_size=12) | st.text(max_size=30))
def test_whatever_an_entry_is_called_nothing_is_written_elsewhere(name, files, an_empty_store, tmp_path):
    archive_of(tmp_path / "hostile.zip", files, (name, b"hostile"))
    with pytest.raises((UnsafeFile, DamagedFile)):
        import_archive(tmp_path / "hostile.zip")
    require_nothing_left(tmp_path)


@given(name=st.from_regex(ENTRY, fullmatch=True))
def test_every_allowed_name_is_a_place_inside_also_on_windows(name):
    parts = name.split("/")
    assert len(parts) in (2, 3)
    assert name.isascii()
    assert not re.search(r'[<>:"\\|?*\x00-\x1f]', name)
    assert all(part not in ("", ".", "..") and part[-1] not in ". " for part in parts)
    assert parts[0] == parts[0].lower()


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFDIR])
@pytest.mark.parametrize("system", [0, 3])
def test_links_and_devices_are_refused(kind, system, files, an_empty_store, tmp_path):
    entry = zipfile.ZipInfo("balls/README.md")
    entry.external_attr, entry.create_system = (kind | 0o777) << 16, system
    del files["balls/README.md"]
    with pytest.raises(UnsafeFile, match="link or a device"):
        import_archive(archive_of(tmp_path / "hostile.zip", files, (entry, b"/etc/passwd")))
    require_nothing_left(tmp_path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_entry_that_occurs_twice_is_refused(files, an_empty_store, tmp_path):
    path = archive_of(tmp_path / "hostile.zip", files, ("balls/README.md", b"another"))
    with pytest.raises(UnsafeFile, match="2 times"):
        import_archive(path)
    require_nothing_left(tmp_path)


def test_more_entries_than_any_store_has_are_refused(files, an_empty_store, tmp_path, monkeypatch):
    monkeypatch.setattr(model_archive, "MAX_ENTRIES", 2)
    with pytest.raises(UnsafeFile, match="3 entries"):
        import_archive(archive_of(tmp_path / "hostile.zip", files))
    require_nothing_left(tmp_path)


def test_a_million_entries_are_refused_before_they_are_listed(an_empty_store, tmp_path):
    """The end of a zip file says how long the list is: a list of a million is never read."""
    entry = struct.pack("<4s6H3L5H2L", b"PK\1\2", 20, 20, 0, 0, 0, 33, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"x"
    directory = entry * 1_000_000
    counts = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, len(directory), 0, 0)
    (tmp_path / "hostile.zip").write_bytes(directory + counts)
    start = time.perf_counter()
    with pytest.raises(UnsafeFile, match=f"{len(directory)} bytes"):
        import_archive(tmp_path / "hostile.zip")
    assert time.perf_counter() - start < 0.5
    require_nothing_left(tmp_path)


def test_a_bomb_is_refused_by_what_it_claims(files, an_empty_store, tmp_path):
    """10 MB of zeros in 10 kB."""
    with zipfile.ZipFile(tmp_path / "hostile.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("balls/model.json", files["balls/model.json"])
        archive.writestr("balls/weights.safetensors", bytes(10_000_000))
    with pytest.raises(UnsafeFile, match=f"at most {MAX_RATIO} times"):
        import_archive(tmp_path / "hostile.zip")
    require_nothing_left(tmp_path)


@pytest.mark.parametrize("name", ["model.json", "README.md", "model.json.sig"])
def test_a_text_of_many_megabytes_is_refused(name, files, an_empty_store, tmp_path):
    files[f"balls/{name}"] = os.urandom(1 << 23)
    with pytest.raises(UnsafeFile, match=f"balls/{name}' claims 8388608 bytes"):
        import_archive(archive_of(tmp_path / "hostile.zip", files))
    require_nothing_left(tmp_path)


@pytest.mark.parametrize("stated", [100, 1 << 30])
def test_an_entry_of_another_length_than_stated_is_refused(stated, files, an_empty_store, tmp_path):
    """The list states 100 bytes where 5 MB come out, or 1 GiB where nothing like it comes."""
    bomb = bytes(5_000_000)
    with zipfile.ZipFile(tmp_path / "hostile.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, bomb if name.endswith("README.md") else content)
    content = (tmp_path / "hostile.zip").read_bytes()
    lied = content.replace(struct.pack("<L", len(bomb)), struct.pack("<L", stated))
    assert lied != content
    (tmp_path / "hostile.zip").write_bytes(lied)
    with pytest.raises((DamagedFile, UnsafeFile)):
        import_archive(tmp_path / "hostile.zip")
    require_nothing_left(tmp_path)


def test_an_entry_of_which_only_a_part_is_stated_never_gives_more(files, an_empty_store, tmp_path):
    """As above, with the checksum of the part: what comes out is the part, and it is not what model.json lists."""
    bomb = bytes(5_000_000)
    with zipfile.ZipFile(tmp_path / "hostile.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, bomb if name.endswith("README.md") else content)
    content = (tmp_path / "hostile.zip").read_bytes()
    content = content.replace(struct.pack("<L", len(bomb)), struct.pack("<L", 100))
    content = content.replace(struct.pack("<L", zlib.crc32(bomb)), struct.pack("<L", zlib.crc32(bytes(100))))
    (tmp_path / "hostile.zip").write_bytes(content)
    with pytest.raises(MedSegRegError):
        import_archive(tmp_path / "hostile.zip")
    require_nothing_left(tmp_path)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_unusual_compression_is_refused(method, files, an_empty_store, tmp_path):
    with zipfile.ZipFile(tmp_path / "hostile.zip", "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    with pytest.raises(UnsupportedFile, match="unusual"):
        import_archive(tmp_path / "hostile.zip")
    require_nothing_left(tmp_path)


def test_an_encrypted_archive_is_refused(files, an_empty_store, tmp_path):
    content = archive_of(tmp_path / "hostile.zip", files).read_bytes()
    marked = re.sub(rb"(PK\x01\x02....)\x00\x00", b"\\1\x01\x00", content, flags=re.DOTALL)
    (tmp_path / "hostile.zip").write_bytes(marked)
    with pytest.raises(UnsupportedFile, match="encrypted"):
        import_archive(tmp_path / "hostile.zip")


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_tar_archive_is_refused_with_the_way_out(mode, files, an_empty_store, tmp_path):
    with tarfile.open(tmp_path / "hostile.zip", mode) as archive:
        member = tarfile.TarInfo("../../escaped")
        member.size = 4
        archive.addfile(member, io.BytesIO(b"evil"))
    with pytest.raises(UnsupportedFile, match="zip") as caught:
        import_archive(tmp_path / "hostile.zip")
    assert "zip it" in caught.value.fix
    require_nothing_left(tmp_path)


@pytest.mark.parametrize("missing", ["balls/model.json", "balls/README.md", "balls/weights.safetensors"])
def test_an_archive_without_one_of_the_files_is_refused(missing, files, an_empty_store, tmp_path):
    del files[missing]
    path = archive_of(tmp_path / "hostile.zip", files, ("cubes/model.json", b"{}"))
    with pytest.raises(MedSegRegError):
        import_archive(path)
    require_nothing_left(tmp_path)


def test_a_file_that_no_description_lists_is_refused(files, an_empty_store, tmp_path):
    path = archive_of(tmp_path / "hostile.zip", files, ("balls/network.onnx", b"unlisted"))
    with pytest.raises(DamagedModel, match=r"lists 'balls/network\.onnx'"):
        import_archive(path)
    require_nothing_left(tmp_path)


def test_a_folder_of_another_name_than_the_model_is_refused(files, an_empty_store, tmp_path):
    renamed = {name.replace("balls", "cubes"): content for name, content in files.items()}
    with pytest.raises(DamagedModel, match="'cubes' holds the model 'balls'"):
        import_archive(archive_of(tmp_path / "hostile.zip", renamed))
    require_nothing_left(tmp_path)


def test_one_bad_model_among_good_ones_and_none_is_installed(files, an_empty_store, tmp_path):
    """Row 70, in an archive."""
    cubes = write_random_model(tmp_path / "cubes", small_spec(name="cubes"))
    files |= {f"cubes/{path.name}": path.read_bytes() for path in cubes.iterdir()}
    files["cubes/weights.safetensors"] = files["balls/weights.safetensors"][::-1]
    with pytest.raises(DamagedModel, match="sha256"):
        import_archive(archive_of(tmp_path / "hostile.zip", files))
    require_nothing_left(tmp_path, "cubes")


@pytest.mark.parametrize("length", [0, 10, "half", -5])
def test_a_truncated_archive_is_refused(length, a_model_folder, an_empty_store, tmp_path):
    """Row 63, in an archive."""
    write_archive([a_model_folder], tmp_path / "hostile.zip")
    content = (tmp_path / "hostile.zip").read_bytes()
    (tmp_path / "hostile.zip").write_bytes(content[: len(content) // 2 if length == "half" else length])
    done = CliRunner().invoke(cli.app, ["model", "import", str(tmp_path / "hostile.zip")])
    assert isinstance(done.exception, MedSegRegError)
    require_nothing_left(tmp_path)


@SHARED_FOLDER
@given(data=st.data())
def test_an_archive_with_changed_bytes_is_refused_or_the_same_model(data, a_model_folder, an_empty_store, tmp_path):
    if not (tmp_path / "whole.zip").exists():
        write_archive([a_model_folder], tmp_path / "whole.zip")
    content = bytearray((tmp_path / "whole.zip").read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(-600, -1))] = data.draw(st.integers(0, 255))
    (tmp_path / "hostile.zip").write_bytes(bytes(content))
    try:
        with staging_folder() as staging:
            (package,) = stage(tmp_path / "hostile.zip", staging)
            for path in a_model_folder.iterdir():
                assert (package / path.name).read_bytes() == path.read_bytes()
    except MedSegRegError:
        pass
    require_nothing_left(tmp_path, "whole.zip")


class Payload:
    """Unpickling it makes a file. ``FileHandler`` is not on the lists of bad names that scanners go by."""

    def __init__(self, marker: Path, function: object) -> None:
        self.marker, self.function = marker, function

    def __reduce__(self) -> tuple:
        return self.function, (str(self.marker), "w")


@pytest.mark.parametrize(
    ("kind", "function"),
    [("torch", builtins.open), ("torch", logging.FileHandler), ("legacy", builtins.open), ("pickle", builtins.open)],
)
def test_importing_a_malicious_checkpoint_runs_nothing(kind, function, an_empty_store, tmp_path):
    """Rows 59 and 60."""
    marker, path = tmp_path / "marker", tmp_path / "model.pt"
    content = {"state_dict": {"weight": torch.zeros(3)}, "payload": Payload(marker, function)}
    if kind == "pickle":
        path.write_bytes(pickle.dumps(content["payload"]))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "torch")
    done = CliRunner().invoke(cli.app, ["model", "import", str(path)])
    assert isinstance(done.exception, MedSegRegError)
    assert not marker.exists()
    assert not list(an_empty_store.iterdir())


def test_a_checkpoint_whose_tensors_are_longer_than_their_data_is_refused(an_empty_store, tmp_path):
    """Row 61, as in CVE-2026-24747: read in a child process by a PyTorch in which this is mended."""
    torch.save({"weight": torch.zeros(1000)}, tmp_path / "whole.pt")
    with zipfile.ZipFile(tmp_path / "whole.pt") as whole, zipfile.ZipFile(tmp_path / "short.pt", "w") as short:
        for name in whole.namelist():
            short.writestr(name, whole.read(name)[:8] if name.endswith("data/0") else whole.read(name))
    done = CliRunner().invoke(cli.app, ["model", "import", str(tmp_path / "short.pt")])
    assert isinstance(done.exception, MedSegRegError)
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert '"torch>=2.10"' in project
    assert tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 10)


@pytest.mark.parametrize("name", ["evil.pt", "evil.zip", "evil.safetensors"])
def test_segment_opens_no_file_as_a_model(name, an_empty_store, tmp_path):
    """Row 59."""
    (tmp_path / name).write_bytes(pickle.dumps(Payload(tmp_path / "marker", builtins.open)))
    done = CliRunner().invoke(cli.app, ["model", "verify", str(tmp_path / name)])
    assert "There is no model" in str(done.exception)
    assert not (tmp_path / "marker").exists()
