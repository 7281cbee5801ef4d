"""No file that is imported runs anything, however it was made (faults 59-63)."""

from __future__ import annotations

import io
import json
import pickle
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from foreign_models import Bomb, nnunet_checkpoint, write_nnunet_result
from MedSegRegLib.errors import (
    Cancelled,
    DamagedModel,
    MedSegRegError,
    MissingPackage,
    UnknownModel,
    UnsafeFile,
    UnsupportedFile,
)
from MedSegRegLib.model_import import isolation
from MedSegRegLib.model_import.checkpoint import read_checkpoint
from MedSegRegLib.model_import.isolation import read_weights_of
from MedSegRegLib.model_import.run import import_model
from MedSegRegLib.model_import.source_files import SourceFiles, json_object
from MedSegRegLib.progress import SILENT, Progress


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.save(nnunet_checkpoint("plain 3d", "3d_fullres"), tmp_path / "checkpoint_final.pth")
    return tmp_path / "checkpoint_final.pth"


def test_reads_tensors_and_plain_facts_of_nnunets_checkpoint(checkpoint: Path) -> None:
    tensors, facts = read_checkpoint(checkpoint)
    assert len(tensors) == 136
    assert facts["trainer_name"] == "nnUNetTrainer"
    assert facts["configuration"] == "3d_fullres"
    assert facts["inference_allowed_mirroring_axes"] == [0, 1, 2]


def test_reads_checkpoints_that_name_numpys_old_module(checkpoint: Path) -> None:
    content = torch.load(checkpoint, weights_only=False)  # written here
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with zipfile.ZipFile(buffer) as source, zipfile.ZipFile(checkpoint, "w") as target:
        for entry in source.infolist():
            data = source.read(entry)
            target.writestr(entry.filename, data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert b"numpy.core.multiarray" in checkpoint.read_bytes()
    assert len(read_checkpoint(checkpoint)[0]) == 136


def plain_pickle(bomb: Bomb, path: Path) -> None:
    path.write_bytes(pickle.dumps({"state_dict": bomb}))


def inside_checkpoint(bomb: Bomb, path: Path) -> None:
    torch.save({**nnunet_checkpoint("plain 3d", "3d_fullres"), "logging": bomb}, path)


def old_format(bomb: Bomb, path: Path) -> None:
    torch.save({"a": torch.zeros(2), "b": bomb}, path, _use_new_zipfile_serialization=False)


def behind_an_allowed_name(bomb: Bomb, path: Path) -> None:
    """NumPy's own reconstruction with a payload in its arguments, which scanners of names let pass."""
    array = np.empty(1, dtype=object)
    array[0] = bomb
    torch.save({"network_weights": {"a": torch.zeros(2)}, "logging": array}, path)


MALICIOUS = [plain_pickle, inside_checkpoint, old_format, behind_an_allowed_name]


@pytest.mark.parametrize("write", MALICIOUS)
def test_refuses_a_malicious_pickle_and_runs_nothing(tmp_path: Path, write: Callable[[Bomb, Path], None]) -> None:
    marker, path = tmp_path / "marker", tmp_path / "checkpoint_final.pth"
    write(Bomb(marker), path)
    with pytest.raises((UnsafeFile, DamagedModel)):
        read_checkpoint(path)
    with pytest.raises((UnsafeFile, UnsupportedFile)):
        import_model(path, tmp_path / "imported")
    assert not marker.exists()


def test_the_bomb_of_these_tests_does_go_off(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Bomb(tmp_path / "marker")))  # noqa: S301
    assert (tmp_path / "marker").exists()


def test_names_the_code_that_a_checkpoint_would_run(tmp_path: Path) -> None:
    write_nnunet_result(tmp_path, change=lambda content: content.update(logging=Bomb(tmp_path / "marker")))
    with pytest.raises(UnsafeFile, match=r"would run code.*exec"):
        import_model(tmp_path, tmp_path / "imported")
    assert not (tmp_path / "marker").exists()
    assert not (tmp_path / "imported").exists()


@pytest.mark.parametrize("keep", [0, 10, 0.5, -5])
@pytest.mark.parametrize("zipped", [True, False])
def test_says_damaged_when_a_checkpoint_is_truncated(tmp_path: Path, keep: float, zipped: bool) -> None:
    path = tmp_path / "0.model"
    torch.save({"a": torch.zeros(1000)}, path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep) if keep == 0.5 else int(keep)])
    with pytest.raises(DamagedModel, match="download"):
        read_checkpoint(path)


def test_refuses_storages_that_claim_more_than_the_file_holds(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1).expand(10**12)}, tmp_path / "a.pt")
    with pytest.raises(UnsafeFile, match="claims"):
        read_checkpoint(tmp_path / "a.pt")


def test_refuses_a_compressed_checkpoint(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(10**6)}, buffer)
    with zipfile.ZipFile(buffer) as source, zipfile.ZipFile(tmp_path / "a.pt", "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry))
    with pytest.raises(UnsafeFile, match="claims 40"):
        read_checkpoint(tmp_path / "a.pt")


def test_refuses_a_storage_whose_size_is_misstated(tmp_path: Path) -> None:
    """The pickle speaks of 1000 numbers, the file holds 10 (CVE-2026-24747)."""
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(1000)}, buffer)
    with zipfile.ZipFile(buffer) as source, zipfile.ZipFile(tmp_path / "a.pt", "w") as target:
        for entry in source.infolist():
            data = source.read(entry)
            target.writestr(entry.filename, data[:40] if "/data/" in entry.filename else data)
    with pytest.raises(MedSegRegError):
        read_checkpoint(tmp_path / "a.pt")


@pytest.mark.parametrize("version", ["2.9.1", "1.13.0+cu117", "unknown"])
def test_refuses_to_read_with_an_old_torch(checkpoint: Path, version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", version)
    with pytest.raises(MissingPackage, match=r"2\.10"):
        read_checkpoint(checkpoint)


def test_another_process_reads_and_gives_shared_tensors_once(checkpoint: Path) -> None:
    tensors, facts = read_weights_of(checkpoint, SILENT)
    first, second = (tensors[f"{side}encoder.stages.0.0.convs.0.conv.weight"] for side in ("", "decoder."))
    assert first.data_ptr() == second.data_ptr()
    assert facts["trainer_name"] == "nnUNetTrainer"


def test_survives_the_death_of_the_reading_process(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "START", "import os; os.abort()  # {package}")
    with pytest.raises(UnsafeFile, match="ended without a result"):
        read_weights_of(checkpoint, SILENT)


@pytest.mark.skipif(sys.platform == "win32", reason="uses shell scripts")
@pytest.mark.parametrize("running", ["python-real", "SlicerApp-real"])
def test_reads_with_the_python_of_slicer(checkpoint: Path, tmp_path: Path, monkeypatch, running: str) -> None:
    """As Slicer lies on the disk: its Python needs to be told its home, which the launcher beside it does."""
    home, python = sys.base_prefix, tmp_path / "bin" / "python-real"
    scripts = {
        "python-real": f'[ "$PYTHONHOME" = "{home}" ] || exit 9\n[ -z "$PYTHONPATH" ] || exit 8\n'
        f'exec "{sys.executable}" "$@"',
        "PythonSlicer": f'PYTHONHOME="{home}" exec "{python}" "$@"',
        "SlicerApp-real": "exit 7",
    }
    python.parent.mkdir()
    for name, text in scripts.items():
        path = python.with_name(name)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o700)
    if running == "python-real":  # a child that PythonSlicer has started
        monkeypatch.setenv("PYTHONHOME", home)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "json.py").write_text("raise SystemExit('imported from the environment or the working folder')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(python.with_name(running)))
    assert read_weights_of(checkpoint, SILENT)[1]["trainer_name"] == "nnUNetTrainer"


def test_stops_a_reading_process_that_hangs(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "START", "import time; time.sleep(60)  # {package}")
    monkeypatch.setattr(isolation, "SECONDS", 0.3)
    with pytest.raises(UnsafeFile, match=r"stopped after 0\.3 s"):
        read_weights_of(checkpoint, SILENT)


def test_can_be_cancelled_while_another_process_reads(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "START", "import time; time.sleep(60)  # {package}")
    with pytest.raises(Cancelled):
        read_weights_of(checkpoint, Progress(should_cancel=lambda: True))


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "a/../../b", "..\\evil", "C:/evil"])
def test_refuses_archives_with_names_that_lead_out(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("model/plans.json", "{}")
        archive.writestr(name, "x")
    with pytest.raises(UnsafeFile, match="entry"):
        import_model(tmp_path / "a.zip", tmp_path / "imported")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip"]


def test_refuses_archives_with_links_and_with_names_twice(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("plans.json")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with zipfile.ZipFile(tmp_path / "twice.zip", "w") as archive:
        archive.writestr("Plans.json", "{}")
        archive.writestr("plans.json", "{}")
    for name in ("link.zip", "twice.zip"):
        with pytest.raises(UnsafeFile):
            import_model(tmp_path / name, tmp_path / "imported")


def test_reads_no_more_of_an_archive_than_is_allowed(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("plans.json", b" " * (40 << 20))
    with pytest.raises(UnsafeFile, match="bytes"):
        SourceFiles(tmp_path / "a.zip", tmp_path).json("plans.json")


@pytest.mark.parametrize(
    "text", ['{"a": 1, "a": 2}', '{"a": NaN}', "[" * 100_000, "[1]", '{"a": ', '{"a": Infinity}'], ids=range(6)
)
def test_refuses_json_that_is_not_plain(text: str) -> None:
    with pytest.raises(DamagedModel):
        json_object(text, "plans.json")


def test_refuses_other_kinds_of_files(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", a=np.array([{}], dtype=object))
    (tmp_path / "a.nemo").write_bytes(b"./model_config.yaml" + bytes(512))
    (tmp_path / "a.txt").write_text("text")
    for name in ("a.npz", "a.nemo", "a.txt"):
        with pytest.raises(UnsupportedFile, match="not a model"):
            import_model(tmp_path / name, tmp_path / "imported")
    with pytest.raises(UnknownModel):
        import_model(tmp_path / "absent", tmp_path / "imported")


def test_says_what_to_give_when_weights_come_alone(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedFile, match=r"plans\.json"):
        import_model(checkpoint, tmp_path / "imported")


def test_refuses_a_damaged_checkpoint_inside_a_result(tmp_path: Path) -> None:
    result = write_nnunet_result(tmp_path)
    path = result / "fold_0" / "checkpoint_final.pth"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DamagedModel, match="download"):
        import_model(result, tmp_path / "imported")
    (result / "plans.json").write_text(json.dumps({"configurations": {"3d_fullres": {}}}))
    with pytest.raises(MedSegRegError):
        import_model(result, tmp_path / "imported")


def test_refuses_a_zip_whose_content_is_altered(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("plans.json", json.dumps({str(n): n for n in range(500)}))
    content = bytearray((tmp_path / "a.zip").read_bytes())
    content[200:260] = bytes(60)
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(DamagedModel, match="download"):
        SourceFiles(tmp_path / "a.zip", tmp_path).json("plans.json")
