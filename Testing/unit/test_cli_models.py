"""``medsegreg model ...`` as a user meets it: models come and go, and a damaged one is said to be."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from foreign_models import write_nnunet_result, zip_folder
from MedSegRegLib import cli
from MedSegRegLib.files.model_archive import require_whole
from MedSegRegLib.files.model_package import read_spec, write_model
from small_training import random_network, small_spec, write_random_model


@pytest.fixture
def a_store(an_empty_store):
    """Two models of the user."""
    for name in ("balls", "cubes"):
        write_random_model(an_empty_store / name, small_spec(name=name))
    return an_empty_store


def test_lists_models_and_damaged_ones_with_the_reason(run, a_store):
    (a_store / "cubes" / "model.json").write_text("{}")
    code, out, _ = run("model", "list", "--json")
    listed = json.loads(out)
    assert code == 0
    assert {"hippocampus-mr", "balls"} <= {model["name"] for model in listed["models"]}
    assert {model["signature"] for model in listed["models"]} == {"unsigned"}
    assert [model["shipped"] for model in listed["models"] if model["name"] == "balls"] == [False]
    assert [Path(model["folder"]).name for model in listed["damaged"]] == ["cubes"]
    code, out, _ = run("model", "list")
    assert code == 0
    assert "damaged: cubes: model.json of 'cubes' is not valid" in out
    assert "unsigned" in out


def test_shows_what_a_model_takes_and_gives(run, a_store):
    code, out, _ = run("model", "show", "balls")
    assert code == 0
    for said in ("balls 1.0.0: Balls", "any T1", "1: ball 1", "0.0 MiB in", "CC0-1.0", "unsigned", "# A card"):
        assert said in out
    facts = json.loads(run("model", "show", "balls", "--json")[1])
    assert facts["bytes"] == sum(path.stat().st_size for path in (a_store / "balls").iterdir())
    assert facts["card"] == "# A card\n"
    assert facts["channels"][0]["name"] == "T1"


def test_what_a_model_says_of_itself_never_reaches_the_terminal_as_a_command(run, a_store):
    hostile = "\x1b[2J\x1b]0;owned\x07[red]gone[/red] [/] \u202egnp\x9b31m"
    spec = small_spec(name="hostile", title=hostile, description=hostile, licence=hostile)
    write_model(a_store / "hostile", spec, [random_network(spec).state_dict()], hostile)
    for command in (("list",), ("show", "hostile")):
        code, out, err = run("model", *command)
        assert code == 0
        assert "hostile" in out
        assert not set("\x1b\x07\x9b\u202e") & set(out + err)
    assert "[2J]0;owned[red]gone[/red] [/] gnp31m" in out


def test_verifies_one_or_all_and_fails_for_a_damaged_one(run, a_store):
    assert "balls: whole, unsigned" in run("model", "verify", "balls")[1]
    assert run("model", "verify")[0] == 0
    weights = random_network(small_spec()).state_dict()
    poisoned = weights | {"decoder.seg_layers.0.bias": torch.tensor([0.0, float("nan")])}
    write_model(a_store / "poisoned", small_spec(name="poisoned"), [poisoned], "")
    write_model(a_store / "misfit", small_spec(3, name="misfit"), [weights], "")
    with open(a_store / "cubes" / "README.md", "a") as file:
        file.write("more")
    (a_store / "balls" / "model.json").write_text("{")
    code, out, _ = run("model", "verify", "--json")
    verdicts = {Path(model["folder"]).name: model for model in json.loads(out)["models"]}
    assert code == 3
    for shipped in ("brain-any-contrast", "brain-extraction", "hippocampus-mr"):
        assert verdicts.pop(shipped)["whole"]
    assert not any(model["whole"] for model in verdicts.values())
    for name, said in {"poisoned": "finite", "misfit": "fit", "cubes": "sha256", "balls": "cannot be read"}.items():
        assert said in verdicts[name]["error"]
    code, out, _ = run("model", "verify", "cubes")
    assert code == 3
    assert "refused: README.md of 'cubes' has sha256" in out


def test_models_travel_in_one_archive_to_a_machine_without_a_network(run, a_store, tmp_path, monkeypatch):
    code, out, _ = run("model", "export", "--all", "-o", tmp_path / "all.zip", "--json")
    assert code == 0
    assert json.loads(out)["models"] == ["balls", "cubes"]
    assert json.loads(run("model", "export", "balls", "-o", tmp_path / "balls.zip", "--json")[1])["models"] == ["balls"]
    monkeypatch.setenv("MEDSEGREG_MODELS", str(tmp_path / "other machine"))
    code, out, _ = run("model", "import", tmp_path / "all.zip", "--json")
    assert code == 0
    assert json.loads(out)["models"] == {"balls": "installed", "cubes": "installed"}
    for name in ("balls", "cubes"):
        require_whole(tmp_path / "other machine" / name)
    assert "balls: unchanged" in run("model", "import", tmp_path / "balls.zip")[1]
    assert run("model", "export", "--all", "-o", tmp_path / "again.zip")[0] == 0
    assert (tmp_path / "again.zip").read_bytes() == (tmp_path / "all.zip").read_bytes()


def test_another_model_of_the_same_name_needs_replace(run, a_store, tmp_path):
    other = write_random_model(tmp_path / "other", small_spec(), seed=1)
    code, _, err = run("model", "import", other)
    assert code == 3
    assert "other content" in err
    assert "--replace" in err
    assert "balls: replaced" in run("model", "import", other, "--replace")[1]


def test_a_model_of_nnunet_is_installed_under_the_name_it_is_given(run, an_empty_store, tmp_path):
    archive = zip_folder(write_nnunet_result(tmp_path / "source", "plain 3d"), tmp_path / "nnunet.zip")
    options = ("--name", "found-elsewhere", "--licence", "CC0-1.0", "--folds", "0")
    code, out, err = run("model", "import", archive, *options, "--json")
    assert code == 0, err
    assert json.loads(out)["models"] == {"found-elsewhere": "installed"}
    assert [path.name for path in an_empty_store.iterdir()] == ["found-elsewhere"]
    assert require_whole(an_empty_store / "found-elsewhere").licence == "CC0-1.0"


def test_a_model_that_would_not_run_is_not_installed(run, an_empty_store, tmp_path):
    write_model(tmp_path / "misfit", small_spec(3), [random_network(small_spec()).state_dict()], "")
    code, _, err = run("model", "import", tmp_path / "misfit")
    assert code == 3
    assert "do not fit its architecture" in err
    assert not list(an_empty_store.iterdir())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["export", "-o", "{folder}/x.zip"], "No model is named"),
        (["export", "balls", "-o", "{folder}/x.tar.gz"], ".zip"),
        (["export", "balls", "-o", "{folder}/taken.zip"], "exists already"),
        (["export", "no-such-model", "-o", "{folder}/x.zip"], "balls"),
        (["import", "{folder}/empty"], "imported"),
        (["import", "{folder}/empty", "--folds", "a,b"], "numbers with commas"),
        (["import", "{folder}/empty", "--folds", ""], "numbers with commas"),
        (["import", "{store}/balls", "--name", "mine"], "leave them out"),
        (["show", "no-such-model"], "balls"),
        (["remove", "hippocampus-mr", "--yes"], "shipped"),
        (["remove", "no-such-model", "--yes"], "no-such-model"),
    ],
)
def test_refuses_with_a_way_out_and_changes_nothing(arguments, says, run, a_store, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "taken.zip").write_bytes(b"precious")
    before = sorted(path for path in tmp_path.rglob("*"))
    code, out, err = run("model", *(text.format(folder=tmp_path, store=a_store) for text in arguments))
    assert code == 3
    assert says in err
    assert "To do:" in err
    assert "Traceback" not in out + err
    assert sorted(path for path in tmp_path.rglob("*")) == before
    assert (tmp_path / "taken.zip").read_bytes() == b"precious"


def test_removes_a_model_only_after_a_yes(run, a_store, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    assert run("model", "remove", "balls")[0] != 0
    assert (a_store / "balls").is_dir()
    code, out, _ = run("model", "remove", "balls", "--yes", "--json")
    assert code == 0
    assert json.loads(out) == {"removed": str(a_store / "balls"), "needed_by": []}
    assert [path.name for path in a_store.iterdir()] == ["cubes"]


def test_warns_before_a_model_goes_that_others_were_adapted_from(run, a_store, monkeypatch):
    parent = read_spec(a_store / "balls")
    content = {
        **parent.model_dump(),
        "name": "child",
        "weights": ("delta.safetensors",),
        "parent": {"name": "balls", "sha256": parent.sha256["weights.safetensors"]},
    }
    delta = {"decoder.seg_layers.0.bias": torch.ones(2)}
    write_model(a_store / "child", parent.model_validate(content), [delta], "")
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    code, _, err = run("model", "remove", "balls")
    assert code != 0
    assert "'balls' is needed by child, which was adapted from it" in err
    assert (a_store / "balls").is_dir()
    assert "needed" not in run("model", "remove", "child", "--yes")[2]
    write_model(a_store / "child", parent.model_validate(content), [delta], "")
    assert json.loads(run("model", "remove", "balls", "--yes", "--json")[1])["needed_by"] == ["child"]


def test_signs_a_model_and_says_who_did(run, a_store, tmp_path):
    cryptography = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ed25519")
    from cryptography.hazmat.primitives import serialization as pem  # noqa: PLC0415

    key = cryptography.Ed25519PrivateKey.generate()
    private = key.private_bytes(pem.Encoding.PEM, pem.PrivateFormat.PKCS8, pem.NoEncryption())
    public = key.public_key().public_bytes(pem.Encoding.PEM, pem.PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "private.pem").write_bytes(private)
    sign = ("model", "sign", "balls", "--key", tmp_path / "private.pem", "--signer", "Our hospital")
    code, out, _ = run(*sign, "--expires", "2999-01-01")
    assert code == 0
    assert "unknown key, which claims to be 'Our hospital'" in out
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "Our hospital.pem").write_bytes(public)
    assert "signed by Our hospital" in run("model", "show", "balls")[1]
    assert run("model", "export", "balls", "-o", tmp_path / "signed.zip")[0] == 0
    run("model", "remove", "balls", "--yes")
    assert run("model", "import", tmp_path / "signed.zip")[0] == 0
    assert "balls: whole, signed by Our hospital" in run("model", "verify", "balls")[1]
    path = a_store / "balls" / "model.json"
    path.write_text(path.read_text().replace("CC0-1.0", "CC0-2.0"))
    states = {model["name"]: model["signature"] for model in json.loads(run("model", "list", "--json")[1])["models"]}
    assert states["balls"] == "signature wrong"
    assert run("model", "verify", "balls")[0] == 3
    code, _, err = run(*sign, "--expires", "2001-01-01")
    assert code == 3
    assert "signature wrong" in err


def test_the_store_is_used_from_a_process_of_its_own(a_store, tmp_path):
    path = os.pathsep.join([str(Path(cli.__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", "from MedSegRegLib import cli; cli.main()", "model", "list", "--json"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert {"balls", "cubes"} <= {model["name"] for model in json.loads(done.stdout)["models"]}
