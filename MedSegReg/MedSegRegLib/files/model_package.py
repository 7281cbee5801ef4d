"""A model on disk: a folder with weights, ``model.json`` and a card ``README.md``.

Opening a model never runs anything: weights are plain tensors, ``model.json`` is data checked against the schema of
``model_spec``, and the architecture comes from the fixed registry of ``architectures``. Every file is checked against
its sha256 whenever it is read.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors

from ..errors import DamagedModel, ModelMismatch, UnknownModel
from .atomic import atomic_path
from .model_signature import SIGNATURE_FILE, require_sound_signature
from .model_spec import ModelSpec

MAX_HEADER_BYTES = 1 << 20
MAX_TENSORS = 4096  # parsing the header stays below 0.1 s
MAX_JSON_BYTES = 1 << 20
MAX_JSON_DEPTH = 6  # the settings of a MONAI network may need as much
AGAIN = "install the model again"


def read_model(folder: Path) -> tuple[ModelSpec, tuple[dict[str, torch.Tensor], ...]]:
    """Read and verify a model package whose weights are tensors.

    Returns:
        The checked description and the weights (float32, on the CPU), one dictionary for each member of an ensemble.

    Raises:
        UnknownModel: no such folder or no ``model.json`` in it.
        DamagedModel: schema, sha256, truncation, header limits, NaN.
    """
    spec, files = read_package(folder)
    return spec, tuple(read_weights(files[name], spec.name) for name in spec.weights)


def read_package(folder: Path) -> tuple[ModelSpec, dict[str, bytes]]:
    """The description of a model and the content of every file that it lists, each checked against its sha256.

    Raises:
        UnknownModel, DamagedModel: as :func:`read_model`, and a signature that does not hold.
        MissingPackage: it is signed, this machine has trusted keys, and the package ``cryptography`` is missing.
    """
    spec = read_spec(folder)
    require_sound_signature(folder)
    needed = {*spec.weights, *(["previous/model.json"] if spec.previous_stage else [])}
    unlisted = needed - spec.sha256.keys()
    if unlisted:
        raise DamagedModel(f"model.json of '{spec.name}' has no sha256 of {min(unlisted)}", "one for every file", AGAIN)
    files = {}
    for name, wanted in spec.sha256.items():
        path = folder / name
        if not path.is_file():
            raise DamagedModel(f"{name} is missing in '{folder.name}'", "every file that model.json lists", AGAIN)
        _require_inside(path, folder)
        files[name] = path.read_bytes()
        digest = hashlib.sha256(files[name]).hexdigest()
        if digest != wanted:
            raise DamagedModel(
                f"{name} of '{spec.name}' has sha256 {digest[:12]}", f"{wanted[:12]}, of model.json", AGAIN
            )
    return spec, files


def read_spec(folder: Path) -> ModelSpec:
    """Only the description of a model package, checked against the schema."""
    path = folder / "model.json"
    if not path.is_file():
        raise UnknownModel(
            f"There is no model in '{folder}'",
            "a folder with model.json and weights.safetensors",
            "list the models with 'medsegreg model list'",
        )
    _require_inside(path, folder)
    what = f"model.json of '{folder.name}'"
    if path.stat().st_size > MAX_JSON_BYTES:
        raise DamagedModel(f"{what} has {path.stat().st_size} bytes", f"at most {MAX_JSON_BYTES}", AGAIN)
    try:
        return ModelSpec.model_validate(_parse(path.read_bytes().decode()))
    except ValidationError as error:
        first = error.errors()[0]
        raise DamagedModel(
            f"{what} is not valid: {'.'.join(map(str, first['loc']))}: {first['msg']}",
            "a description in the format of MedSegReg models",
            f"{AGAIN}, or correct the file",
        ) from None
    except (ValueError, RecursionError) as error:
        raise DamagedModel(f"{what} cannot be read: {error}", "JSON text", AGAIN) from None


def read_weights(content: bytes, name: str) -> dict[str, torch.Tensor]:
    """Tensors of a safetensors file given as bytes, as float32; the header's length is checked before it is parsed."""
    header = struct.unpack("<Q", content[:8])[0] if len(content) >= 8 else -1
    if not 0 < header <= min(MAX_HEADER_BYTES, len(content) - 8):
        raise DamagedModel(
            f"The weights of '{name}' claim a header of {header} bytes in a file of {len(content)}",
            f"a whole file with a header of at most {MAX_HEADER_BYTES} bytes",
            AGAIN,
        )
    tensors = content.count(b"{", 8, 8 + header) - 1
    if tensors > MAX_TENSORS:
        raise DamagedModel(f"The weights of '{name}' have {tensors} tensors", f"at most {MAX_TENSORS}", AGAIN)
    try:
        stored = load_safetensors(content)
    except (SafetensorError, KeyError) as error:  # KeyError: a type that torch has not
        raise DamagedModel(
            f"The weights of '{name}' are damaged ({error})", "a whole safetensors file", AGAIN
        ) from None
    whole = [key for key, tensor in stored.items() if not tensor.is_floating_point()]
    weights = {key: tensor.float() for key, tensor in stored.items() if key not in whole}
    bad = whole + [key for key, tensor in weights.items() if not torch.isfinite(tensor).all()]
    if bad:
        raise DamagedModel(f"The weights '{bad[0]}' of '{name}' are not finite real numbers", "finite weights", AGAIN)
    return weights


def write_model(folder: Path, spec: ModelSpec, weights: Sequence[dict[str, torch.Tensor]], card: str) -> ModelSpec:
    """Write a model package: weights as float16, one file for each member of an ensemble.

    Args:
        spec: its ``weights`` name the files, as many as there are weights.
        card: text of ``README.md``.

    Returns:
        The description with the sha256 of every file.
    """
    contents = {
        name: save_safetensors({key: tensor.detach().cpu().half().contiguous() for key, tensor in sorted(one.items())})
        for name, one in zip(spec.weights, weights, strict=True)
    }
    return write_package(folder, spec, contents, card)


def write_package(folder: Path, spec: ModelSpec, files: Mapping[str, bytes], card: str) -> ModelSpec:
    """Write the files of a package, its card, and last ``model.json`` with the sha256 of them all; unsigned.

    Returns:
        The description as written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    contents = {**files, "README.md": card.encode()}
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    spec = ModelSpec.model_validate({**spec.model_dump(), "sha256": digests})
    text = json.dumps(spec.model_dump(mode="json", exclude_none=True), indent=2) + "\n"
    (folder / SIGNATURE_FILE).unlink(missing_ok=True)  # it was of another description
    for name, content in {**contents, "model.json": text.encode()}.items():
        with atomic_path(folder / name) as temporary:
            temporary.write_bytes(content)
    return spec


def require_weights_fit(network: torch.nn.Module, weights: dict[str, torch.Tensor], name: str) -> None:
    """Raise ModelMismatch, listing the first differences, unless names and shapes are the network's."""
    wanted = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    given = {key: tuple(tensor.shape) for key, tensor in weights.items()}
    if wanted != given:
        differing = sorted(key for key in wanted.keys() | given.keys() if wanted.get(key) != given.get(key))
        listed = "; ".join(
            f"{key}: {given.get(key, 'missing')} for {wanted.get(key, 'nothing')}" for key in differing[:5]
        )
        raise ModelMismatch(
            f"{len(differing)} tensors of '{name}' do not fit its architecture ({listed})",
            "the names and shapes of the architecture in model.json",
            AGAIN,
        )


def _require_inside(path: Path, folder: Path) -> None:
    if not path.resolve().is_relative_to(folder.resolve()):
        raise DamagedModel(f"{path.name} of '{folder.name}' is a link that leaves the folder", "a file in it", AGAIN)


def _parse(text: str) -> object:
    """JSON without duplicate keys, whose depth is known before it is parsed."""
    brackets = re.findall(r"[\[\]{}]", re.sub(r'"[^"\\]*(?:\\[\s\S][^"\\]*)*"?', "", text))
    depth = max(itertools.accumulate(1 if bracket in "[{" else -1 for bracket in brackets), default=0)
    if depth > MAX_JSON_DEPTH:
        raise ValueError(f"it is nested {depth} deep, and at most {MAX_JSON_DEPTH} is allowed")
    return json.loads(text, object_pairs_hook=_no_duplicates)


def _no_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError("a key occurs twice")
    return dict(pairs)
