"""The segmentation benchmark's own parts give known answers; no peer is needed."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

HERE = Path(__file__).parents[2] / "benchmarks" / "segmentation"


@pytest.fixture(scope="module")
def benchmark():
    """Its modules by name; other benchmarks have modules of the same names."""
    names = ("designs", "environment", "volumes", "runs", "table")
    known = {name: sys.modules.pop(name, None) for name in names}
    sys.path.insert(0, str(HERE))
    try:
        yield {name: importlib.import_module(name) for name in names}
    finally:
        sys.path.remove(str(HERE))
        for name, module in known.items():
            sys.modules.pop(name, None)
            if module is not None:
                sys.modules[name] = module


def test_agreement_of_labels_counts_classes_of_either(benchmark, tmp_path):
    one, other = np.zeros((2, 4, 4), np.uint8), np.zeros((2, 4, 4), np.uint8)
    one[0, 0], other[0, 0] = 1, 1  # the same four voxels
    one[1, 0] = 2  # missed by the other
    for name, labels in (("one", one), ("other", other)):
        np.save(tmp_path / f"{name}.npy", labels)
    dice, equal = benchmark["runs"].label_agreement(tmp_path / "one.npy", tmp_path / "other.npy")
    assert dice == pytest.approx(0.5)
    assert equal == pytest.approx(28 / 32)


def test_the_phantom_holds_air_and_every_level(benchmark):
    volumes = benchmark["volumes"]
    phantom = volumes.Phantom((48, 40, 44), (1.5, 1.5, 1.5), classes=12)
    volume = volumes.make_voxels(phantom)
    nearest = np.abs(volume[..., None] - np.array(volumes.LEVELS_HU)).argmin(-1)
    counts = np.bincount(nearest.ravel(), minlength=4)
    assert volume.dtype == np.int16
    assert volume.shape == phantom.size_kji
    assert counts.min() > 20
    assert 0.4 < counts[0] / volume.size < 0.8


@pytest.mark.parametrize(
    ("value", "at_least", "says"), [(0.4, False, ": met"), (0.6, False, "NOT met"), (0.6, True, ": met")]
)
def test_says_whether_a_limit_is_met(benchmark, value, at_least, says):
    assert says in str(benchmark["table"].Asked("share", value, 0.5, at_least))


def test_a_table_shows_what_failed_and_what_was_not_measured(benchmark, tmp_path):
    runs, table = benchmark["runs"], benchmark["table"]
    rows = {
        "ours": runs.Row("ours", {"cpu_s": 2.0}, "", tmp_path),
        "peer": runs.Row("peer", {}, "no memory", tmp_path),
    }
    text = table.as_markdown("both", rows, [table.Asked("share", rows["ours"].ratio("cpu_s", rows["peer"]), 0.5)])
    assert "| ours | 2.0 |" in text
    assert "- peer: no memory" in text
    assert "not measured" in text


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_the_gpu_benchmark_says_why_it_skips(tmp_path):
    command = [sys.executable, str(HERE / "run.py"), "gpu", "--work", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "Skipped" in done.stdout
