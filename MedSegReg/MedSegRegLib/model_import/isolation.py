"""Starting the process that reads a foreign file, and surviving it. Import walk: run -> [isolation] -> child.

A file that crashes, hangs or fills the memory of its reader ends that process and becomes an error here.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from .. import errors
from ..errors import MedSegRegError, UnsafeFile
from ..interpreter import own_environment, running_python
from ..progress import Progress

RESULT, TENSORS, GRAPH = "result.json", "tensors.safetensors", "graph.onnx"
SECONDS = 600.0
START = "import sys; sys.path[:] = sys.argv[1:]; from {package}.child import main; main()"
"""Neither the environment nor the working folder decide what is imported."""


def read_weights_of(path: Path, progress: Progress) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Tensors by name and plain facts of a PyTorch checkpoint, read in another process."""
    with _answer("checkpoint", path, {}, progress) as (result, folder):
        stored = load_file(folder / TENSORS)
    return {name: stored[kept] for name, kept in result["names"].items()}, result["facts"]


def read_graph_of(
    path: Path, job: str, progress: Progress, shape: tuple[int, ...] = ()
) -> tuple[bytes, dict[str, Any]]:
    """An ONNX graph and its facts, read from an ONNX (``onnx``) or a TorchScript (``torchscript``) file.

    Args:
        shape: of the network's input, for TorchScript.
    """
    with _answer(job, path, {"shape": shape}, progress) as (result, folder):
        return (folder / GRAPH).read_bytes(), result["facts"]


@contextmanager
def _answer(
    job: str, path: Path, arguments: dict[str, object], progress: Progress
) -> Iterator[tuple[dict[str, Any], Path]]:
    with tempfile.TemporaryDirectory(prefix="medsegreg-") as name:
        folder = Path(name)
        request = {"job": job, "path": str(path.resolve()), "folder": name, "arguments": arguments}
        status = _run_child(json.dumps(request), folder / "log.txt", progress)
        if not (folder / RESULT).is_file():
            log = (folder / "log.txt").read_text("utf-8", "replace").strip().splitlines() or [f"status {status}"]
            raise UnsafeFile(
                f"The process that read '{path.name}' ended without a result ({log[-1][:200]})",
                "a sound model file that fits into memory",
                "do not use this file; if it comes from a trusted source, download it again",
            )
        result = json.loads((folder / RESULT).read_text("utf-8"))
        if "error" in result:
            raise _error(*result["error"])
        yield result, folder


def _run_child(request: str, log: Path, progress: Progress) -> int | str:
    """Its exit status, or that it took too long."""
    places = [place for place in sys.path if place]
    command = [running_python(), "-c", START.format(package=__package__), *places]
    with log.open("wb") as output, tempfile.TemporaryFile("w+", encoding="utf-8") as question:
        question.write(request)
        question.seek(0)
        child = subprocess.Popen(command, stdin=question, stdout=output, stderr=output, env=own_environment())
        until = time.monotonic() + SECONDS
        try:
            while time.monotonic() < until:
                try:
                    return child.wait(0.1)
                except subprocess.TimeoutExpired:
                    progress.check_cancelled()
            return f"stopped after {SECONDS:g} s"
        finally:
            child.kill()
            child.wait()


def _error(kind: str, found: str, expected: str, fix: str) -> MedSegRegError:
    known = getattr(errors, kind, UnsafeFile)
    return known(found, expected, fix)
