"""What the tests of engines share: small networks with random weights, as engines take them."""

from __future__ import annotations

import atexit
import functools
import importlib.util
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch

from MedSegRegLib.files.architectures import Architecture, UNetArchitecture
from MedSegRegLib.segment.engines import Source
from MedSegRegLib.segment.engines.onnx_graph import onnx_graph
from MedSegRegLib.segment.network import build_network

CPU = torch.device("cpu")
NETWORKS: dict[str, tuple[UNetArchitecture, int, int, tuple[int, int, int]]] = {
    "3D": (UNetArchitecture(features=(4, 8), blocks_per_stage=1), 1, 3, (8, 12, 8)),
    "3D, more classes than features": (UNetArchitecture(features=(4, 8), blocks_per_stage=1), 2, 7, (8, 8, 12)),
    "2D": (UNetArchitecture(dimensions=2, features=(4, 8), blocks_per_stage=1), 3, 2, (1, 16, 8)),
}


def installed(*packages: str) -> bool:
    """Asked without importing them."""
    return all(importlib.util.find_spec(package) for package in packages)


def source_of(
    architecture: Architecture, channels: int, classes: int, tile: tuple[int, int, int], seed: int = 0, **more: Any
) -> Source:
    """A network with random weights that half precision holds exactly, as packages store them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_network(architecture, channels, classes).half().float().eval()
    settings = architecture.model_dump_json()
    return Source(network, settings, channels, tile, architecture.multiple_kji, architecture.dimensions, **more)


def a_source(name: str = "3D", seed: int = 0) -> Source:
    return source_of(*NETWORKS[name], seed=seed)


def noise(source: Source, count: int = 1, seed: int = 1) -> torch.Tensor:
    """[count, C, K, J, I]"""
    return torch.randn((count, source.channels, *source.tile), generator=torch.Generator().manual_seed(seed))


def plain_scores(source: Source, tiles: torch.Tensor) -> torch.Tensor:
    """What the network itself gives."""
    assert isinstance(source.network, torch.nn.Module)
    with torch.no_grad():
        return source.network(tiles.squeeze(2)).unsqueeze(2) if source.dimensions == 2 else source.network(tiles)


def use_cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own, which holds the graphs already: writing one takes seconds."""
    shutil.copytree(_written_graphs(), folder)
    monkeypatch.setenv("MEDSEGREG_CACHE", str(folder))
    return folder


@functools.cache
def _written_graphs() -> Path:
    """A folder with the graphs of all networks of this file, written once in a test run."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    if installed("onnx", "onnxscript"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MEDSEGREG_CACHE", str(folder))
            for name in NETWORKS:
                onnx_graph(a_source(name))
    return folder
