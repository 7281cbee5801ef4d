"""Our GPU kernels: against their twins in plain torch, and that nobody without a GPU ever meets them."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from MedSegRegLib.register import dispatch
from MedSegRegLib.register.dispatch import use_kernels

ROOT = Path(__file__).parents[2]
INTERPRETED = Path(__file__).parent / "interpreted_kernels.py"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "MedSegReg"), "OMP_NUM_THREADS": "1"}


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess:
    """Python in a process of its own."""
    environment = {**ENVIRONMENT, **variables}
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)


class OnCuda:
    """What the decision looks at, of a tensor on a GPU."""

    is_cuda, dtype = True, torch.float32


@pytest.mark.skipif(
    importlib.util.find_spec("triton") is None,
    reason="triton is not installed: it comes with torch's CUDA wheels for Linux, or by `pip install triton`",
)
def test_the_kernels_answer_as_torch_does():
    interpreter = {} if torch.cuda.is_available() else {"TRITON_INTERPRET": "1"}
    done = run("-m", "pytest", "-p", "no:cacheprovider", str(INTERPRETED), **interpreter)
    assert done.returncode == 0, done.stdout[-4000:]


def test_the_cpu_uses_torch_and_never_imports_triton():
    code = """
import sys, torch
from MedSegRegLib.register.displacement import compose, grid_coordinates
from MedSegRegLib.register.pyramid import everywhere
from MedSegRegLib.register.similarity import prepare_similarity
image = torch.rand(1, 5, 5, 5)
prepare_similarity("lncc", image, everywhere(image), None, 1).match(image)
field = torch.zeros(3, 5, 5, 5)
compose(field, field, grid_coordinates(field))
sys.exit("triton" in sys.modules)
"""
    assert run("-c", code).returncode == 0


def test_kernels_serve_single_precision_on_cuda_where_triton_is(monkeypatch):
    monkeypatch.setattr(dispatch, "_has_triton", lambda: True)
    assert use_kernels(OnCuda())
    monkeypatch.setattr(OnCuda, "dtype", torch.float64)
    assert not use_kernels(OnCuda())
    assert not use_kernels(torch.zeros(1))


def test_without_triton_cuda_gets_torch(monkeypatch):
    monkeypatch.setattr(dispatch, "_has_triton", lambda: False)
    assert not use_kernels(OnCuda())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_the_gpu_benchmark_says_why_it_skips(tmp_path):
    done = run(str(ROOT / "benchmarks" / "registration" / "gpu.py"), "--output", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Skipped: ")
    assert done.stdout.count("\n") == 1
