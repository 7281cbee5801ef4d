"""The one place that opens a PyTorch file. Import walk: foreign file -> [checkpoint, in the child] -> tensors.

A checkpoint is a pickle, so three things stand between it and this computer: only the types listed here may occur in it
(``weights_only``), the file's size is checked against what it claims before and after, and all of it happens in a
process that may die (``child``).
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import DamagedModel, MissingPackage, UnsafeFile, UnsupportedFile

LEGACY_START = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19"  # files of PyTorch before 1.6
OLDEST_TORCH = (2, 10)  # earlier ones write beyond a storage whose size the file misstates (CVE-2026-24747)
MAX_ENTRIES = 50_000
TABLES = ("network_weights", "state_dict", "model_state_dict", "model")
AGAIN = "download the file again"

_ARRAY_FUNCTIONS = {"scalar": np.float64(0).__reduce__()[0], "_reconstruct": np.zeros(1).__reduce__()[0]}
ALLOWED_TYPES: list[Any] = [  # nnU-Net's training log holds NumPy numbers; the module has had two names
    np.dtype,
    np.ndarray,
    *(type(np.dtype(kind)) for kind in ("bool", "int32", "int64", "float16", "float32", "float64")),
    *((f, f"numpy.{core}.multiarray.{name}") for core in ("core", "_core") for name, f in _ARRAY_FUNCTIONS.items()),
]


def read_checkpoint(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, object]]:
    """Tensors of a checkpoint by name, and the plain values (text, numbers, short lists of them) beside them.

    Raises:
        MissingPackage: a torch in which reading such files is not safe.
        UnsafeFile: anything in it that is not a tensor, a number, text or a list or dictionary of these.
        DamagedModel: truncated, or weights that are not finite.
        UnsupportedFile: another kind of file, or no table of tensors in it.
    """
    require_safe_torch()
    _require_checkpoint_file(path)
    try:
        with torch.serialization.safe_globals(ALLOWED_TYPES):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _refused(path, str(error)) from None
    except (
        RuntimeError,
        EOFError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        OSError,
        OverflowError,
    ) as error:
        raise DamagedModel(
            f"'{path.name}' cannot be read ({_first_line(error)})", "a whole checkpoint", AGAIN
        ) from None
    if not isinstance(content, Mapping):
        raise _no_tensors(path, type(content).__name__)
    tensors = _table_of_tensors(content, path)
    _require_sound(tensors, path)
    inner = content.get("init_args")
    facts = {**_plain_values(inner if isinstance(inner, Mapping) else {}), **_plain_values(content)}
    return tensors, facts


def require_safe_torch() -> None:
    """Raise MissingPackage if the installed torch is too old to open foreign files with."""
    found = re.match(r"(\d+)\.(\d+)", torch.__version__)
    if found is None or tuple(map(int, found.groups())) < OLDEST_TORCH:
        raise MissingPackage(
            f"torch {torch.__version__} is installed, in which reading foreign weights is not safe",
            f"torch {'.'.join(map(str, OLDEST_TORCH))} or newer",
            "update torch",
        )


def _require_checkpoint_file(path: Path) -> None:
    """Before anything is unpickled: the container is whole, not compressed, and holds a checkpoint."""
    with path.open("rb") as file:
        start = file.read(len(LEGACY_START))
    if start == LEGACY_START:
        return
    if not start.startswith(b"PK"):
        raise DamagedModel(f"'{path.name}' does not start as a PyTorch file does", "a PyTorch checkpoint", AGAIN)
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
        raise DamagedModel(f"'{path.name}' is not a whole file ({error})", "a whole checkpoint", AGAIN) from None
    names = {entry.filename.partition("/")[2] for entry in entries}
    if "constants.pkl" in names:
        raise UnsupportedFile(f"'{path.name}' is TorchScript", "weights", "import it with a description")
    if "data.pkl" not in names:
        raise UnsupportedFile(f"'{path.name}' holds no checkpoint", "a PyTorch checkpoint", "choose the model's file")
    claimed = sum(entry.file_size for entry in entries)
    if len(entries) > MAX_ENTRIES or claimed > path.stat().st_size or any(entry.compress_type for entry in entries):
        raise UnsafeFile(
            f"'{path.name}' claims {claimed} bytes in {len(entries)} parts but has {path.stat().st_size}",
            f"an uncompressed checkpoint of at most {MAX_ENTRIES} parts",
            "do not use this file",
        )


def _refused(path: Path, message: str) -> UnsafeFile | DamagedModel:
    """What the restricted unpickler's message says: a forbidden name, or a damaged pickle."""
    reason = message.partition("WeightsUnpickler error:")[2].strip() or message
    named = re.search(r"GLOBAL ([\w.]+)", reason) or re.search(r"got (<class .+?>)", reason)
    if named or "nsupported" in reason:
        return UnsafeFile(
            f"'{path.name}' would run code when opened ({named.group(1) if named else _first_line(reason)})",
            "a file of weights only",
            "do not use this file; ask its author for weights as safetensors",
        )
    return DamagedModel(f"'{path.name}' cannot be read ({_first_line(reason)})", "a whole checkpoint", AGAIN)


def _table_of_tensors(content: Mapping[object, object], path: Path) -> dict[str, torch.Tensor]:
    for table in (*(content.get(name) for name in TABLES), content):
        if isinstance(table, Mapping):
            tensors = {key: value for key, value in table.items() if isinstance(value, torch.Tensor)}
            if tensors and all(isinstance(key, str) for key in tensors) and len(tensors) == len(table):
                return {key.removeprefix("module.").removeprefix("_orig_mod."): t for key, t in tensors.items()}
    raise _no_tensors(path, ", ".join(str(key)[:40] for key in list(content)[:5]))


def _require_sound(tensors: dict[str, torch.Tensor], path: Path) -> None:
    """Ordinary finite tensors that together are no larger than the file."""
    strange = [key for key, t in tensors.items() if t.layout != torch.strided or t.is_quantized or t.is_complex()]
    if strange:
        raise UnsupportedFile(f"The weights '{strange[0]}' are of type {tensors[strange[0]].dtype}", "real numbers")
    distinct = {(t.data_ptr(), tuple(t.shape)): t.numel() * t.element_size() for t in tensors.values()}
    if sum(distinct.values()) > path.stat().st_size:
        raise UnsafeFile(
            f"'{path.name}' claims {sum(distinct.values())} bytes of weights but has {path.stat().st_size}",
            "weights as large as the file",
            "do not use this file",
        )
    for key, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise DamagedModel(f"The weights '{key}' of '{path.name}' are not finite", "finite weights", AGAIN)


def _plain_values(content: Mapping[object, object]) -> dict[str, object]:
    plain = (str, int, float, bool, type(None))
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in content.items()
        if isinstance(key, str)
        and (
            isinstance(value, plain)
            or (isinstance(value, list | tuple) and len(value) < 10 and all(isinstance(v, plain) for v in value))
        )
    }


def _first_line(error: object) -> str:
    return str(error).partition("\n")[0][:120]


def _no_tensors(path: Path, found: str) -> UnsupportedFile:
    return UnsupportedFile(
        f"'{path.name}' holds no table of weights ({found})",
        "a dictionary of tensors by name",
        "choose the file that holds the network's weights",
    )
