"""The store of models: they are found by name, and come and go as a whole."""

from __future__ import annotations

import os
import shutil
import time
from types import SimpleNamespace

import pytest

from MedSegRegLib.errors import DamagedModel, InvalidSetting, OutputNotWritable, UnknownModel
from MedSegRegLib.files import model_store
from MedSegRegLib.files.model_archive import require_whole, write_archive
from MedSegRegLib.files.model_package import read_spec
from MedSegRegLib.files.model_store import (
    install,
    is_package,
    list_models,
    model_folder,
    remove_model,
    stage,
    staging_folder,
    user_store,
)
from small_training import small_spec, write_random_model


@pytest.fixture
def a_shipped_model(tmp_path, monkeypatch):
    monkeypatch.setattr(model_store, "SHIPPED", tmp_path / "shipped")
    return write_random_model(tmp_path / "shipped" / "cubes", small_spec(name="cubes"))


def add(source, replace=False):
    with staging_folder() as staging:
        return install(stage(source, staging), replace)


def everything_in(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_user_has_a_store_of_models(an_empty_store, monkeypatch, tmp_path):
    assert user_store() == an_empty_store
    monkeypatch.delenv("MEDSEGREG_MODELS")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert user_store() == tmp_path / ".medsegreg" / "models"


def test_models_of_the_store_are_listed_by_their_folders(an_empty_store):
    write_random_model(an_empty_store / "b", small_spec(name="b-model"))
    write_random_model(an_empty_store / "a", small_spec(name="a-model"))
    (an_empty_store / "not a model").mkdir()
    specs, faults = list_models()
    assert [(folder.name, spec.name) for folder, spec in specs.items()][-2:] == [("a", "a-model"), ("b", "b-model")]
    assert not faults


def test_of_two_models_with_one_name_the_users_is_listed(an_empty_store, a_shipped_model):
    assert list(list_models()[0]) == [a_shipped_model]
    own = write_random_model(an_empty_store / "mine", small_spec(name="cubes"), seed=1)
    assert list(list_models()[0]) == [own]


def test_a_model_is_found_by_folder_by_folder_name_and_by_its_own_name(an_empty_store):
    folder = write_random_model(an_empty_store / "my-copy", small_spec(name="balls"))
    for name in (folder, str(folder), "my-copy", "balls"):
        assert model_folder(name) == folder


def test_a_damaged_model_is_listed_apart_and_hides_no_other(an_empty_store):
    folder = write_random_model(an_empty_store / "copy", small_spec(name="balls"))
    incomplete = write_random_model(an_empty_store / "incomplete", small_spec())
    (incomplete / "README.md").unlink()
    (an_empty_store / "a-broken-one").mkdir()
    (an_empty_store / "a-broken-one" / "model.json").write_text("{")
    specs, faults = list_models()
    assert folder in specs
    assert [path.name for path in faults] == ["a-broken-one", "incomplete"]
    assert "README.md is missing" in faults[incomplete].found
    assert model_folder("balls") == folder


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_description_that_may_not_be_read_is_listed_as_damaged(an_empty_store):
    folder = write_random_model(an_empty_store / "balls", small_spec())
    (folder / "model.json").chmod(0)
    assert folder in list_models()[1]


def test_an_unknown_model_is_refused_with_the_known_names(an_empty_store):
    write_random_model(an_empty_store / "balls", small_spec())
    with pytest.raises(UnknownModel, match="balls"):
        model_folder("bals")


def test_the_shipped_models_are_whole():
    specs, faults = list_models()
    assert not faults
    for folder in specs:
        require_whole(folder)


def test_installs_a_folder_under_the_models_own_name_and_nothing_else(an_empty_store, a_model_folder):
    (a_model_folder / "notes.txt").write_text("not listed in model.json")
    shutil.move(a_model_folder, a_model_folder.with_name("some folder"))
    assert add(a_model_folder.with_name("some folder")) == {"balls": "installed"}
    assert [path.name for path in an_empty_store.iterdir()] == ["balls"]
    assert sorted(path.name for path in (an_empty_store / "balls").iterdir()) == [
        "README.md",
        "model.json",
        "weights.safetensors",
    ]


def test_tells_its_own_models_from_other_things(a_model_folder, tmp_path):
    write_archive([a_model_folder], tmp_path / "balls.zip")
    (tmp_path / "checkpoint.pt").write_bytes(b"not a zip")
    assert is_package(a_model_folder)
    assert is_package(tmp_path / "balls.zip")
    assert not is_package(tmp_path)
    assert not is_package(tmp_path / "checkpoint.pt")


def test_the_same_content_again_changes_nothing(an_empty_store, a_model_folder):
    add(a_model_folder)
    before = (an_empty_store / "balls" / "model.json").stat().st_ino
    assert add(a_model_folder) == {"balls": "unchanged"}
    assert (an_empty_store / "balls" / "model.json").stat().st_ino == before


def test_other_content_under_the_same_name_is_refused_unless_it_may_replace(an_empty_store, a_model_folder, tmp_path):
    """Row 71."""
    add(a_model_folder)
    other = write_random_model(tmp_path / "other", small_spec(), seed=1)
    before = everything_in(an_empty_store)
    with pytest.raises(OutputNotWritable, match="other content"):
        add(other)
    assert everything_in(an_empty_store) == before
    assert add(other, replace=True) == {"balls": "replaced"}
    assert read_spec(an_empty_store / "balls") == read_spec(other)
    assert [path.name for path in an_empty_store.iterdir()] == ["balls"]


def test_a_copy_under_another_folder_name_is_replaced_too(an_empty_store, a_model_folder):
    write_random_model(an_empty_store / "my-copy", small_spec(), seed=1)
    assert add(a_model_folder, replace=True) == {"balls": "replaced"}
    assert [path.name for path in an_empty_store.iterdir()] == ["balls"]


def test_a_damaged_model_is_repaired_by_installing_it_again(an_empty_store, a_model_folder):
    add(a_model_folder)
    (an_empty_store / "balls" / "weights.safetensors").write_bytes(b"damaged")
    assert add(a_model_folder) == {"balls": "repaired"}
    require_whole(an_empty_store / "balls")


def test_a_folder_with_something_else_is_never_replaced(an_empty_store, a_model_folder):
    (an_empty_store / "balls").mkdir(parents=True)
    (an_empty_store / "balls" / "precious").write_text("data")
    with pytest.raises(OutputNotWritable, match="no model 'balls'"):
        add(a_model_folder, replace=True)
    assert (an_empty_store / "balls" / "precious").read_text() == "data"
    write_random_model(an_empty_store / "balls", small_spec(name="cubes"))
    with pytest.raises(OutputNotWritable, match="no model 'balls'"):
        add(a_model_folder, replace=True)


def test_a_shipped_model_is_not_copied_and_may_be_overruled(an_empty_store, a_shipped_model, tmp_path):
    assert add(a_shipped_model) == {"cubes": "unchanged"}
    assert not list(an_empty_store.iterdir())
    other = write_random_model(tmp_path / "other", small_spec(name="cubes"), seed=1)
    with pytest.raises(OutputNotWritable, match="other content"):
        add(other)
    assert add(other, replace=True) == {"cubes": "replaced"}
    assert model_folder("cubes") == an_empty_store / "cubes"
    assert read_spec(a_shipped_model) != read_spec(other)


def test_many_models_are_installed_all_or_none(an_empty_store, tmp_path, monkeypatch):
    """The third move fails: the first two are undone, also where a model had given way."""
    names = ("a", "b", "c", "d")
    folders = [write_random_model(tmp_path / name, small_spec(name=name)) for name in names]
    write_random_model(an_empty_store / "b", small_spec(name="b"), seed=1)
    before = everything_in(an_empty_store)
    write_archive(folders, tmp_path / "all.zip")
    real, moves = os.replace, []

    def fail_at_c(source, target):
        moves.append(target)
        if target == an_empty_store / "c":
            raise OSError(28, "No space left on device")
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail_at_c)
        with pytest.raises(OutputNotWritable, match="No space"):
            add(tmp_path / "all.zip", replace=True)
    assert an_empty_store / "a" in moves
    assert everything_in(an_empty_store) == before
    assert [path.name for path in an_empty_store.iterdir()] == ["b"]
    assert set(add(tmp_path / "all.zip", replace=True)) == set(names)


def test_a_damaged_folder_is_not_installed(an_empty_store, a_model_folder):
    (a_model_folder / "README.md").write_text("another card")
    with pytest.raises(DamagedModel, match=r"README\.md"):
        add(a_model_folder)
    assert not list(an_empty_store.iterdir())


def test_a_model_is_removed_by_either_name_also_when_damaged(an_empty_store):
    for folder in ("balls", "copy"):
        write_random_model(an_empty_store / folder, small_spec(name=f"{folder}-model"))
    (an_empty_store / "balls" / "model.json").write_text("{")
    assert remove_model("balls") == an_empty_store / "balls"
    assert remove_model("copy-model") == an_empty_store / "copy"
    assert not list(an_empty_store.iterdir())


def test_only_models_of_the_store_are_removed(an_empty_store, a_shipped_model, a_model_folder):
    with pytest.raises(InvalidSetting, match="shipped"):
        remove_model("cubes")
    for name in ("../balls", str(a_model_folder), "", ".", "no-such-model"):
        with pytest.raises(UnknownModel):
            remove_model(name)
    assert a_shipped_model.is_dir()
    assert a_model_folder.is_dir()


def test_removing_a_linked_model_keeps_what_it_links_to(an_empty_store, a_model_folder):
    an_empty_store.mkdir()
    (an_empty_store / "linked").symlink_to(a_model_folder, target_is_directory=True)
    assert model_folder("linked") == an_empty_store / "linked"
    remove_model("linked")
    assert not list(an_empty_store.iterdir())
    require_whole(a_model_folder)


def test_a_store_that_cannot_be_written_is_refused(tmp_path, monkeypatch, a_model_folder):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MEDSEGREG_MODELS", str(tmp_path / "file" / "store"))
    with pytest.raises(OutputNotWritable, match="MEDSEGREG_MODELS"):
        add(a_model_folder)


@pytest.mark.parametrize("kind", ["folder", "archive"])
def test_a_full_disk_leaves_the_store_as_it_was(kind, an_empty_store, a_model_folder, tmp_path, monkeypatch):
    write_archive([a_model_folder], tmp_path / "balls.zip")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile" if kind == "folder" else "copyfileobj", full)
    with pytest.raises(OutputNotWritable, match="No space left"):
        add(a_model_folder if kind == "folder" else tmp_path / "balls.zip")
    assert not list(an_empty_store.iterdir())


def test_an_archive_larger_than_the_free_space_is_refused_before_it_is_extracted(
    an_empty_store, a_model_folder, tmp_path, monkeypatch
):
    write_archive([a_model_folder], tmp_path / "balls.zip")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(OutputNotWritable, match="free"):
        add(tmp_path / "balls.zip")


def test_what_a_killed_process_left_is_removed_the_next_day(an_empty_store, a_model_folder):
    for name, age in ((".staging-old", 2 * 24 * 3600), (".staging-of another process", 60)):
        write_random_model(an_empty_store / name / "balls", small_spec())
        then = time.time() - age
        os.utime(an_empty_store / name, (then, then))
    assert not [folder for folder in list_models()[0] if folder.is_relative_to(an_empty_store)]
    add(a_model_folder)
    assert sorted(path.name for path in an_empty_store.iterdir()) == [".staging-of another process", "balls"]
