"""Signatures of models, with keys as OpenSSL makes them."""

from __future__ import annotations

import builtins
import json
import shutil
import subprocess
from datetime import datetime, timedelta, timezone

import pytest

from MedSegRegLib.errors import DamagedModel, InvalidSetting, MissingPackage
from MedSegRegLib.files.model_package import read_model
from MedSegRegLib.files.model_signature import (
    SIGNATURE_FILE,
    keys_folder,
    require_sound_signature,
    sign_model,
    signature_state,
)
from MedSegRegLib.report import Level
from small_training import small_spec, write_random_model

NOW = datetime(2025, 6, 1, tzinfo=timezone.utc)
DAY = timedelta(days=1)
cryptography = pytest.importorskip("cryptography", reason="signatures need the extra 'sign'")


@pytest.fixture
def trusted(tmp_path, monkeypatch):
    """The folder of trusted keys."""
    monkeypatch.setenv("MEDSEGREG_KEYS", str(tmp_path / "keys"))
    (tmp_path / "keys").mkdir()
    return tmp_path / "keys"


@pytest.fixture
def a_key(tmp_path):
    return make_key(tmp_path / "private.pem")


def make_key(path):
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415
        Encoding,
        NoEncryption,
        PrivateFormat,
        PublicFormat,
    )

    key = Ed25519PrivateKey.generate()
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    path.with_suffix(".pub").write_bytes(public)
    return path


def change(folder, **changes):
    path = folder / SIGNATURE_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.fixture
def without_cryptography(monkeypatch):
    real = builtins.__import__

    def refuse(name, *arguments, **options):
        if name.startswith("cryptography"):
            raise ImportError(name)
        return real(name, *arguments, **options)

    return lambda: monkeypatch.setattr(builtins, "__import__", refuse)


def test_a_model_without_signature_is_unsigned_and_says_so(a_model_folder, trusted):
    state = require_sound_signature(a_model_folder)
    assert str(state) == "unsigned"
    assert (state.finding.level, state.finding.message) == (Level.INFO, "The model is unsigned")


def test_a_trusted_signer_is_shown_by_the_name_of_the_key_that_the_user_gave(a_model_folder, trusted, a_key):
    shutil.copy(a_key.with_suffix(".pub"), trusted / "Hospital A.pem")
    state = sign_model(a_model_folder, a_key, "Somebody Else")
    assert str(state) == "signed by Hospital A"
    assert read_model(a_model_folder)


def test_an_unknown_key_is_shown_as_a_claim_and_loads(a_model_folder, trusted, a_key):
    state = sign_model(a_model_folder, a_key, "Hospital A")
    assert str(state) == "signed by an unknown key, which claims to be 'Hospital A'"
    assert read_model(a_model_folder)


@pytest.mark.parametrize("known", [True, False])
def test_a_signature_of_another_description_is_refused_whoever_signed(known, a_model_folder, trusted, a_key):
    """Row 70: the attacker changes the weights and all hashes, and keeps the signature."""
    if known:
        shutil.copy(a_key.with_suffix(".pub"), trusted / "Hospital A.pem")
    sign_model(a_model_folder, a_key, "Hospital A")
    signature = (a_model_folder / SIGNATURE_FILE).read_bytes()
    write_random_model(a_model_folder, small_spec(), seed=1)
    assert str(signature_state(a_model_folder)) == "unsigned"  # writing a model takes an old signature away
    (a_model_folder / SIGNATURE_FILE).write_bytes(signature)
    assert str(signature_state(a_model_folder)) == "signature wrong"
    with pytest.raises(DamagedModel, match="signature wrong"):
        read_model(a_model_folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"signer": "Hospital B"},
        {"signed_at": "2020-01-01T00:00:00Z"},
        {"expires": "2099-01-01T00:00:00Z"},
        {"signature": "0" * 128},
        {"signature": "short"},
        {"public_key": "0" * 64},
        {"public_key": "f" * 64},
        {"public_key": None},
        {"format": 2},
        {"extra": 1},
        {"signed_at": "2020-01-01T00:00:00"},
        {"signer": "x" * 20_000},
    ],
)
def test_no_part_of_a_signature_can_be_changed(changes, a_model_folder, trusted, a_key):
    sign_model(a_model_folder, a_key, "Hospital A", expires=NOW + DAY, now=NOW)
    assert signature_state(a_model_folder, NOW).kind == "unknown"
    change(a_model_folder, **changes)
    assert signature_state(a_model_folder, NOW).kind == "wrong"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"null", b"{" * 10_000, b" " * 100_000])
def test_a_file_that_is_no_signature_is_a_wrong_one(content, a_model_folder, trusted):
    (a_model_folder / SIGNATURE_FILE).write_bytes(content)
    with pytest.raises(DamagedModel, match="signature wrong"):
        read_model(a_model_folder)


def test_a_signature_holds_until_it_expires(a_model_folder, trusted, a_key):
    shutil.copy(a_key.with_suffix(".pub"), trusted / "Hospital A.pem")
    sign_model(a_model_folder, a_key, "x", expires=NOW + DAY, now=NOW)
    assert signature_state(a_model_folder, NOW + DAY * 0.999).kind == "trusted"
    assert str(signature_state(a_model_folder, NOW + DAY)) == "signature of Hospital A expired on 2025-06-02"
    with pytest.raises(DamagedModel, match="expired on 2025-06-02"):
        read_model(a_model_folder)
    with pytest.raises(InvalidSetting, match="day to come"):
        sign_model(a_model_folder, a_key, "x", expires=NOW, now=NOW)


def test_without_cryptography_a_signature_is_unchecked_and_refused_only_where_keys_are_trusted(
    a_model_folder, trusted, a_key, without_cryptography
):
    sign_model(a_model_folder, a_key, "Hospital A")
    without_cryptography()
    assert "not checked" in str(require_sound_signature(a_model_folder))
    shutil.copy(a_key.with_suffix(".pub"), trusted / "Hospital A.pem")
    with pytest.raises(MissingPackage, match="medsegreg\\[sign\\]"):
        read_model(a_model_folder)
    with pytest.raises(MissingPackage):
        sign_model(a_model_folder, a_key, "Hospital A")


def test_a_file_among_the_trusted_keys_that_is_no_key_is_named(a_model_folder, trusted, a_key):
    sign_model(a_model_folder, a_key, "Hospital A")
    (trusted / "not a key.pem").write_text("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")
    with pytest.raises(InvalidSetting, match="not a key"):
        read_model(a_model_folder)


@pytest.mark.parametrize("content", [b"", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_what_is_no_private_key_does_not_sign(content, a_model_folder, tmp_path):
    (tmp_path / "bad.pem").write_bytes(content)
    with pytest.raises(InvalidSetting, match=r"bad\.pem"):
        sign_model(a_model_folder, tmp_path / "bad.pem", "x")
    with pytest.raises(InvalidSetting, match="cannot be read"):
        sign_model(a_model_folder, tmp_path / "absent.pem", "x")
    assert not (a_model_folder / SIGNATURE_FILE).exists()


def test_a_name_without_letters_does_not_sign(a_model_folder, a_key):
    with pytest.raises(InvalidSetting, match="0 characters"):
        sign_model(a_model_folder, a_key, "")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_keys_of_openssl_work_as_documented_also_encrypted(a_model_folder, trusted, tmp_path):
    private = tmp_path / "private.pem"
    commands = (
        ["genpkey", "-algorithm", "ed25519", "-aes256", "-pass", "pass:secret", "-out", private],
        ["pkey", "-in", private, "-passin", "pass:secret", "-pubout", "-out", trusted / "Our hospital.pem"],
    )
    for command in commands:
        subprocess.run(["openssl", *map(str, command)], check=True, capture_output=True, timeout=30)
    with pytest.raises(InvalidSetting, match="is encrypted"):
        sign_model(a_model_folder, private, "x")
    with pytest.raises(InvalidSetting, match="password"):
        sign_model(a_model_folder, private, "x", password=b"guess")
    assert str(sign_model(a_model_folder, private, "x", password=b"secret")) == "signed by Our hospital"


def test_the_users_folder_of_keys(monkeypatch, tmp_path):
    monkeypatch.delenv("MEDSEGREG_KEYS", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert keys_folder() == tmp_path / ".medsegreg" / "keys"
