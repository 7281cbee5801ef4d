"""Archives of models: what goes in comes out, byte for byte, and the same models give the same archive."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import zipfile

import pytest

from MedSegRegLib.errors import DamagedModel, InvalidSetting
from MedSegRegLib.files.model_archive import extract_archive, package_files, require_whole, write_archive
from MedSegRegLib.files.model_package import read_spec, write_model
from small_training import random_network, small_spec, write_random_model


def write_cascade(folder):
    """A model with a previous stage, as an import of an nnU-Net cascade leaves it."""
    previous = write_random_model(folder / "previous", small_spec(name="cascade-lowres"))
    weights = random_network(small_spec(), seed=1).state_dict()
    spec = small_spec(name="cascade", previous_stage=True)
    spec = write_model(folder, spec, [weights], "card")
    digest = hashlib.sha256((previous / "model.json").read_bytes()).hexdigest()
    spec = spec.model_copy(update={"sha256": {**spec.sha256, "previous/model.json": digest}})
    (folder / "model.json").write_text(spec.model_dump_json(exclude_none=True))
    return folder


def bytes_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_models_come_out_as_they_went_in(tmp_path, a_model_folder):
    cascade = write_cascade(tmp_path / "cascade")
    (a_model_folder / "model.json.sig").write_text("{}")
    with pytest.raises(DamagedModel, match="signature"):
        write_archive([a_model_folder], tmp_path / "all.zip")
    assert not (tmp_path / "all.zip").exists()
    (a_model_folder / "model.json.sig").unlink()
    write_archive([a_model_folder, cascade], tmp_path / "all.zip")
    out = tmp_path / "out"
    out.mkdir()
    assert extract_archive(tmp_path / "all.zip", out) == [out / "balls", out / "cascade"]
    assert bytes_of(out / "balls") == bytes_of(a_model_folder)
    assert bytes_of(out / "cascade") == bytes_of(cascade)


def test_the_same_models_give_the_same_archive_whenever_and_in_whatever_order(tmp_path):
    folders = [write_random_model(tmp_path / name, small_spec(name=name)) for name in ("a", "b")]
    first = write_archive(folders, tmp_path / "first.zip")
    for path in tmp_path.rglob("*.json"):
        os.utime(path, (1e9, 1e9))
        path.chmod(0o600)
    shutil.copytree(tmp_path / "b", tmp_path / "elsewhere" / "copy of b")
    second = write_archive([tmp_path / "elsewhere" / "copy of b", folders[0]], tmp_path / "second.zip")
    assert first == second == hashlib.sha256((tmp_path / "first.zip").read_bytes()).hexdigest()
    assert (tmp_path / "first.zip").read_bytes() == (tmp_path / "second.zip").read_bytes()


@pytest.mark.skipif(shutil.which("unzip") is None, reason="unzip is not installed")
def test_other_tools_find_the_archive_sound(tmp_path, a_model_folder):
    write_archive([a_model_folder], tmp_path / "balls.zip")
    subprocess.run(["unzip", "-tq", str(tmp_path / "balls.zip")], check=True, capture_output=True, timeout=30)


def test_an_archive_that_was_zipped_by_hand_is_read_too(tmp_path, a_model_folder):
    """Deflated, with entries for folders, as most tools write it."""
    path = shutil.make_archive(str(tmp_path / "by hand"), "zip", a_model_folder.parent, a_model_folder.name)
    assert any(name.endswith("/") for name in zipfile.ZipFile(path).namelist())
    (tmp_path / "out").mkdir()
    (package,) = extract_archive(tmp_path / "by hand.zip", tmp_path / "out")
    assert require_whole(package) == read_spec(a_model_folder)


def test_two_models_of_one_name_do_not_go_into_one_archive(tmp_path, a_model_folder):
    other = write_random_model(tmp_path / "other", small_spec(), seed=1)
    with pytest.raises(InvalidSetting, match="same name"):
        write_archive([a_model_folder, other], tmp_path / "two.zip")


def test_a_name_that_windows_keeps_for_itself_is_not_exported(tmp_path):
    for name in ("con", "nul.model", "com1"):
        folder = write_random_model(tmp_path / "model", small_spec(name=name))
        with pytest.raises(InvalidSetting, match=name):
            write_archive([folder], tmp_path / "model.zip")


def test_the_files_of_a_cascade_are_those_of_both_stages(tmp_path):
    cascade = write_cascade(tmp_path / "cascade")
    assert set(package_files(cascade)) == {
        f"{prefix}{name}" for prefix in ("", "previous/") for name in ("model.json", "README.md", "weights.safetensors")
    }
    (cascade / "previous" / "weights.safetensors").write_bytes(b"damaged")
    with pytest.raises(DamagedModel, match=r"weights\.safetensors of 'cascade-lowres'"):
        require_whole(cascade)


def test_three_stages_are_refused(tmp_path):
    cascade = write_cascade(tmp_path / "cascade")
    shutil.copytree(cascade, tmp_path / "outer" / "previous")
    shutil.copyfile(cascade / "model.json", tmp_path / "outer" / "model.json")
    with pytest.raises(DamagedModel, match="two stages"):
        package_files(tmp_path / "outer")


def test_a_previous_stage_without_a_hash_is_refused(tmp_path):
    cascade = write_cascade(tmp_path / "cascade")
    spec = read_spec(cascade)
    digests = {name: digest for name, digest in spec.sha256.items() if not name.startswith("previous")}
    (cascade / "model.json").write_text(spec.model_copy(update={"sha256": digests}).model_dump_json(exclude_none=True))
    with pytest.raises(DamagedModel, match=r"no sha256 of previous/model\.json"):
        require_whole(cascade)
