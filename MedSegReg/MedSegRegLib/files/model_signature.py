"""Who vouches for a model: a signature in ``model.json.sig``, beside the description whose sha256 cover every file.

The hashes of ``model.json`` show damage; only a signature shows exchange by somebody who can also change the hashes.
Ed25519 (RFC 8032) by the optional package ``cryptography``. Keys are made and kept by the user::

    openssl genpkey -algorithm ed25519 -out private.pem
    openssl pkey -in private.pem -pubout -out "Radiology Hospital A.pem"

The second file goes into the folder of trusted keys of every machine; its name is the name that is shown.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AwareDatetime, Field, ValidationError

from ..errors import DamagedModel, InvalidSetting, MissingPackage
from ..report import Finding
from .architectures import Strict
from .atomic import atomic_path

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SIGNATURE_FILE = "model.json.sig"
MAX_SIGNATURE_BYTES = 1 << 14
MAX_KEY_BYTES = 1 << 14


class SignatureClaim(Strict):
    """What a signer says.

    Attributes:
        signer: a name that anyone can claim: a trusted key is shown by the name of its file instead.
        public_key: 32 bytes.
        expires: from then on the model is refused; None never.
    """

    format: Literal[1] = 1
    signer: str = Field(min_length=1, max_length=200)
    public_key: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    signed_at: AwareDatetime
    expires: AwareDatetime | None = None

    def message(self, description: bytes) -> bytes:
        """What is signed: all of this and the sha256 of ``model.json``, as one JSON list."""
        digest = hashlib.sha256(description).hexdigest()
        times = self.signed_at.isoformat(), self.expires and self.expires.isoformat()
        return json.dumps(["medsegreg model", self.format, digest, self.signer, self.public_key, *times]).encode()


class SignatureSpec(SignatureClaim):
    """The content of ``model.json.sig``."""

    signature: Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]


@dataclass(frozen=True)
class SignatureState:
    """What is known of a model's signature.

    Attributes:
        kind: ``unchecked`` is a signature on a machine without the package ``cryptography``.
        signer: the name of the trusted key, or what an unknown signer claims to be.
        expires: when it is signed for a limited time.
    """

    kind: Literal["unsigned", "trusted", "unknown", "wrong", "expired", "unchecked"]
    signer: str = ""
    expires: datetime | None = None

    def __str__(self) -> str:
        return {
            "unsigned": "unsigned",
            "trusted": f"signed by {self.signer}",
            "unknown": f"signed by an unknown key, which claims to be '{self.signer}'",
            "wrong": "signature wrong",
            "expired": f"signature of {self.signer} expired on {self.expires:%Y-%m-%d}" if self.expires else "",
            "unchecked": "signed, but not checked: the package 'cryptography' is not installed",
        }[self.kind]

    @property
    def finding(self) -> Finding:
        """For the findings of a run."""
        return Finding.info(f"The model is {self}")


def signature_state(folder: Path, now: datetime | None = None) -> SignatureState:
    """Whether the model in a folder is signed, by whom, and whether that holds at ``now`` (default: at once).

    Raises:
        InvalidSetting: a file among the trusted keys that is no Ed25519 public key.
    """
    if not (folder / SIGNATURE_FILE).is_file():
        return SignatureState("unsigned")
    spec = _read_signature(folder / SIGNATURE_FILE)
    if spec is None:
        return SignatureState("wrong")
    try:
        from cryptography.exceptions import InvalidSignature  # noqa: PLC0415  (optional)
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415
    except ImportError:
        return SignatureState("unchecked", spec.signer, spec.expires)
    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(spec.public_key))
    try:
        key.verify(bytes.fromhex(spec.signature), spec.message((folder / "model.json").read_bytes()))
    except InvalidSignature:
        return SignatureState("wrong")
    trusted = trusted_keys().get(spec.public_key)
    if spec.expires and spec.expires <= (now or datetime.now(timezone.utc)):
        return SignatureState("expired", trusted or spec.signer, spec.expires)
    return SignatureState("trusted" if trusted else "unknown", trusted or spec.signer, spec.expires)


def require_sound_signature(folder: Path) -> SignatureState:
    """Refuse a model whose signature does not hold. No signature, and one by an unknown key, are states, not errors.

    Raises:
        DamagedModel: the signature is not of this ``model.json``, or it has expired.
        MissingPackage: this machine has trusted keys, the model has a signature, and nothing can check it.
    """
    state = signature_state(folder)
    if state.kind in ("wrong", "expired"):
        raise DamagedModel(
            f"'{folder.name}' is refused: {state}",
            "a signature that is of this model.json and valid today",
            f"get the model again from its signer; without {SIGNATURE_FILE} it counts as unsigned",
        )
    if state.kind == "unchecked" and any(_key_files()):
        raise _missing_cryptography(f"'{folder.name}' is signed and this machine has trusted keys")
    return state


def sign_model(
    folder: Path,
    private_key: Path,
    signer: str,
    expires: datetime | None = None,
    password: bytes | None = None,
    now: datetime | None = None,
) -> SignatureState:
    """Sign the model in a folder. Verify its files before: the signature vouches for their sha256.

    Args:
        private_key: Ed25519 in PEM, as of ``openssl genpkey -algorithm ed25519``.
        password: of an encrypted private key.

    Raises:
        InvalidSetting: no such key, not Ed25519, wrong password, a name too long, or an end before the beginning.
        MissingPackage: ``cryptography`` is not installed.
    """
    key, now = _read_private_key(private_key, password), now or datetime.now(timezone.utc)
    if expires and expires <= now:
        raise InvalidSetting(f"The signature would expire on {expires:%Y-%m-%d}", "a day to come", "choose another day")
    public = key.public_key().public_bytes_raw().hex()
    try:
        claim = SignatureClaim(signer=signer, public_key=public, signed_at=now, expires=expires)
    except ValidationError as error:
        raise InvalidSetting(
            f"The signer's name has {len(signer)} characters", "1 to 200", "choose another name"
        ) from error
    signature = key.sign(claim.message((folder / "model.json").read_bytes())).hex()
    spec = SignatureSpec(**claim.model_dump(), signature=signature)
    with atomic_path(folder / SIGNATURE_FILE) as temporary:
        temporary.write_text(spec.model_dump_json(indent=2, exclude_none=True) + "\n", encoding="utf-8")
    return signature_state(folder, now)


def keys_folder() -> Path:
    """The folder of trusted public keys: ``$MEDSEGREG_KEYS``, else ``~/.medsegreg/keys``. It need not exist."""
    return Path(os.environ.get("MEDSEGREG_KEYS") or Path.home() / ".medsegreg" / "keys")


def trusted_keys() -> Mapping[str, str]:
    """Names of the trusted keys by their 32 bytes in hexadecimal.

    Raises:
        InvalidSetting: a ``.pem`` file that is no Ed25519 public key.
        MissingPackage: ``cryptography`` is not installed.
    """
    try:
        from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415  (optional)
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415
        from cryptography.hazmat.primitives.serialization import load_pem_public_key  # noqa: PLC0415
    except ImportError:
        raise _missing_cryptography("Trusted keys are to be read") from None
    keys = {}
    for path in _key_files():
        try:
            key = load_pem_public_key(_read_key(path))
        except (ValueError, UnsupportedAlgorithm):
            key = None
        if not isinstance(key, Ed25519PublicKey):
            raise _no_key(path, "public", "openssl pkey -in private.pem -pubout -out NAME.pem")
        keys[key.public_bytes_raw().hex()] = path.stem
    return keys


def _read_signature(path: Path) -> SignatureSpec | None:
    """None for a file that is no signature."""
    with open(path, "rb") as file:
        content = file.read(MAX_SIGNATURE_BYTES + 1)
    try:
        return SignatureSpec.model_validate_json(content) if len(content) <= MAX_SIGNATURE_BYTES else None
    except ValidationError:
        return None


def _key_files() -> list[Path]:
    return sorted(keys_folder().glob("*.pem"))


def _read_private_key(path: Path, password: bytes | None) -> Ed25519PrivateKey:
    try:
        from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415  (optional)
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415
        from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415
    except ImportError:
        raise _missing_cryptography("A model is to be signed") from None
    try:
        key = load_pem_private_key(_read_key(path), password)
    except TypeError:  # cryptography's way to say so
        needs = "is encrypted" if password is None else "is not encrypted"
        raise InvalidSetting(
            f"The private key '{path.name}' {needs}",
            "a password for an encrypted key, and none for another",
            "give the password (--encrypted), or leave it out",
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise _no_key(path, "private", "openssl genpkey -algorithm ed25519 -out private.pem; check the password")
    return key


def _read_key(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(MAX_KEY_BYTES)
    except OSError as error:
        raise InvalidSetting(
            f"The key '{path}' cannot be read ({error.strerror})", "a PEM file", "check the path"
        ) from None


def _no_key(path: Path, kind: str, command: str) -> InvalidSetting:
    return InvalidSetting(f"'{path.name}' is no {kind} key of Ed25519 in PEM", f"one as of: {command}", "replace it")


def _missing_cryptography(why: str) -> MissingPackage:
    return MissingPackage(why, "the package 'cryptography'", "install it: pip install 'medsegreg[sign]'")
