"""Models that are stored as differences from a parent's weights."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from MedSegRegLib.cli import app
from MedSegRegLib.errors import DamagedModel, ModelMismatch, UnknownModel
from MedSegRegLib.files.model_archive import extract_archive
from MedSegRegLib.files.model_delta import LEFT, RIGHT, add_delta, join_deltas, missing_parents
from MedSegRegLib.files.model_package import read_spec, write_model
from MedSegRegLib.files.model_spec import ModelSpec, ParentSpec
from MedSegRegLib.files.model_store import model_folder
from MedSegRegLib.segment import load_model
from small_training import small_spec, write_random_model

HEAD = "decoder.seg_layers.0.bias"


def write_child(folder: Path, parent: Path, delta: dict[str, torch.Tensor] | None = None) -> Path:
    """A package that adds one to the bias of the last layer of its parent."""
    spec = read_spec(parent)
    child = ModelSpec.model_validate(
        {
            **spec.model_dump(),
            "name": folder.name,
            "weights": ("delta.safetensors",),
            "parent": {"name": spec.name, "sha256": spec.sha256["weights.safetensors"]},
        }
    )
    write_model(folder, child, [{HEAD: torch.ones(2)} if delta is None else delta], "# Card\n")
    return folder


@pytest.fixture
def a_store(an_empty_store):
    """With the model ``balls`` and one that was adapted from it."""
    an_empty_store.mkdir()
    write_child(an_empty_store / "adapted", write_random_model(an_empty_store / "balls", small_spec()))
    return an_empty_store


def weights_of(folder: Path | str) -> dict[str, torch.Tensor]:
    return load_model(folder).sources[0].module.state_dict()


def test_an_adapted_model_is_its_parent_and_the_differences(a_store):
    parent, adapted = weights_of("balls"), weights_of("adapted")
    assert [key for key in parent if not torch.equal(parent[key], adapted[key])] == [HEAD]
    assert torch.equal(adapted[HEAD], parent[HEAD] + 1)


def test_the_parent_is_found_in_the_store_for_a_model_that_lies_elsewhere(a_store, tmp_path):
    elsewhere = Path(shutil.move(a_store / "adapted", tmp_path / "elsewhere"))
    assert torch.equal(weights_of(elsewhere)[HEAD], weights_of("balls")[HEAD] + 1)


def test_the_parent_is_found_by_its_hash_under_another_name(a_store):
    parent = read_spec(a_store / "balls").model_copy(update={"name": "renamed"})
    weights = weights_of("balls")
    shutil.rmtree(a_store / "balls")
    write_model(a_store / "renamed", parent, [weights], "")
    assert torch.equal(weights_of("adapted")[HEAD], weights[HEAD] + 1)


def test_a_missing_parent_is_named(a_store):
    shutil.rmtree(a_store / "balls")
    with pytest.raises(UnknownModel, match=r"adapted from 'balls', which is not here.*install the parent"):
        load_model("adapted")


def test_a_parent_with_other_weights_is_refused(a_store):
    write_random_model(a_store / "balls", small_spec(), seed=5)
    with pytest.raises(ModelMismatch, match="the 'balls' here has others"):
        load_model("adapted")


def test_a_damaged_parent_is_refused(a_store):
    path = a_store / "balls" / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(DamagedModel):
        load_model("adapted")


@pytest.mark.parametrize(
    "delta",
    [
        {"nothing.weight": torch.ones(2)},
        {HEAD: torch.ones(3)},
        {HEAD + LEFT: torch.ones(2, 1), HEAD + RIGHT: torch.ones(1, 5)},
        {HEAD + LEFT: torch.ones(2)},
        {HEAD + RIGHT: torch.ones(2)},
    ],
)
def test_differences_that_do_not_fit_the_parent_are_refused(a_store, delta):
    write_child(a_store / "adapted", a_store / "balls", delta)
    with pytest.raises(ModelMismatch, match="which its parent does not have"):
        load_model("adapted")


def test_thin_matrices_are_multiplied_and_joined():
    parent = {"a.weight": torch.zeros(3, 2, 1, 2)}
    first, second = (
        {"a.weight" + LEFT: torch.randn(3, rank), "a.weight" + RIGHT: torch.randn(rank, 4)} for rank in (1, 2)
    )
    expected = sum((one["a.weight" + LEFT] @ one["a.weight" + RIGHT]).reshape(3, 2, 1, 2) for one in (first, second))
    torch.testing.assert_close(add_delta(parent, join_deltas(first, second), "x")["a.weight"], expected)
    plain = {"b.bias": torch.ones(2)}
    assert torch.equal(join_deltas(plain, plain)["b.bias"], torch.full((2,), 2.0))
    assert join_deltas(plain, first) == plain | first


def test_differences_alone_are_no_model_and_a_parent_needs_differences():
    parent = ParentSpec(name="balls", sha256="0" * 64)
    for changes in (
        {"weights": ("delta.safetensors",)},
        {"parent": parent},
        {"weights": ("weights.safetensors", "delta.safetensors"), "parent": parent},
    ):
        with pytest.raises(ValueError, match=r"delta\.safetensors, alone"):
            small_spec(**changes)


def test_an_export_takes_the_parent_along(a_store, tmp_path):
    result = CliRunner().invoke(app, ["model", "export", "adapted", "--output", str(tmp_path / "a.zip")])
    assert result.exit_code == 0, result.output
    (tmp_path / "out").mkdir()
    assert [package.name for package in extract_archive(tmp_path / "a.zip", tmp_path / "out")] == ["adapted", "balls"]


def test_an_exported_pair_is_installed_on_another_machine(a_store, tmp_path, monkeypatch):
    before = weights_of("adapted")[HEAD]
    CliRunner().invoke(app, ["model", "export", "adapted", "--output", str(tmp_path / "a.zip")])
    monkeypatch.setenv("MEDSEGREG_MODELS", str(tmp_path / "other store"))
    result = CliRunner().invoke(app, ["model", "import", str(tmp_path / "a.zip")])
    assert result.exit_code == 0, result.output
    assert torch.equal(weights_of("adapted")[HEAD], before)


def test_an_adapted_model_without_its_parent_is_not_installed(a_store, tmp_path, monkeypatch):
    monkeypatch.setenv("MEDSEGREG_MODELS", str(tmp_path / "other store"))
    result = CliRunner().invoke(app, ["model", "import", str(a_store / "adapted")])
    assert isinstance(result.exception, UnknownModel)
    assert not list((tmp_path / "other store").glob("adapted"))


def test_a_shipped_parent_is_not_exported(an_empty_store):
    child = write_child(an_empty_store / "adapted", model_folder("hippocampus-mr"), {})
    assert missing_parents([child]) == []


def test_show_says_what_a_model_was_adapted_from(a_store):
    result = CliRunner().invoke(app, ["model", "show", "adapted"])
    assert "parent: balls (weights " in result.output
    assert '"parent": {"name": "balls"' in CliRunner().invoke(app, ["model", "show", "adapted", "--json"]).output
