"""What runs in a process of its own. Import walk: run -> isolation -> [child] -> tensors or a graph in a folder.

The process reads one request as JSON from its input and leaves its answer in the request's folder: ``result.json`` with
facts or with an error, and the tensors as safetensors or the graph as ONNX. Nothing else comes back.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from ..errors import MedSegRegError
from .checkpoint import read_checkpoint
from .graph import checked_graph, graph_of_torchscript
from .isolation import GRAPH, RESULT, TENSORS

SPARE_BYTES = 4 << 30  # for torch itself


def main() -> None:
    """Answer the request on standard input."""
    request = json.load(sys.stdin)
    path, folder = Path(request["path"]), Path(request["folder"])
    _limit_memory(SPARE_BYTES + 6 * path.stat().st_size)
    try:
        answer = JOBS[request["job"]](path, folder, request["arguments"])
    except MedSegRegError as error:
        answer = {"error": [type(error).__name__, error.found, error.expected, error.fix]}
    (folder / RESULT).write_text(json.dumps(answer), "utf-8")


def _checkpoint(path: Path, folder: Path, arguments: dict[str, Any]) -> dict[str, object]:
    tensors, facts = read_checkpoint(path)
    stored: dict[str, torch.Tensor] = {}
    first: dict[tuple[int, tuple[int, ...]], str] = {}
    names: dict[str, str] = {}  # one tensor may have several names; it is stored once
    for name, tensor in tensors.items():
        names[name] = first.setdefault((tensor.data_ptr(), tuple(tensor.shape)), name)
        if names[name] == name:
            stored[name] = tensor.clone(memory_format=torch.contiguous_format)
    save_file(stored, folder / TENSORS)
    return {"facts": facts, "names": names}


def _onnx(path: Path, folder: Path, arguments: dict[str, Any]) -> dict[str, object]:
    content, facts = checked_graph(path.read_bytes(), path.name)
    (folder / GRAPH).write_bytes(content)
    return {"facts": facts}


def _torchscript(path: Path, folder: Path, arguments: dict[str, Any]) -> dict[str, object]:
    content, facts = checked_graph(graph_of_torchscript(path, arguments["shape"]), path.name)
    (folder / GRAPH).write_bytes(content)
    return {"facts": facts}


def _limit_memory(limit: int) -> None:
    try:
        import resource  # noqa: PLC0415  (not on Windows)
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


JOBS = {"checkpoint": _checkpoint, "onnx": _onnx, "torchscript": _torchscript}
