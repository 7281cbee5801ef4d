"""What each method's own process shares: its task, how it is measured, the labels that it leaves.

A method is a script in this folder that does its imports, then calls :func:`main` with a function that loads the model
and returns a function from a volume to labels. Only the latter is measured: from the array to labels on its own grid.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measured import child_peak_mib, cpu_seconds, peak_mib, resident_mib

MIB = 2**20
Segmenter = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Task:
    """One run.

    Attributes:
        volume: [K, J, I] int16 HU, a file of numpy.
        spacing_kji: mm.
        models: folder of ``models.py``.
        variant: the method's own.
        overlap: of tiles; tile: voxels along each side; spacing_mm: of the network's grid.
        run: folder for results.
    """

    volume: Path
    spacing_kji: tuple[float, float, float]
    models: Path
    variant: str
    tile: int
    overlap: float
    spacing_mm: float
    threads: int
    device: str
    run: Path

    @classmethod
    def read(cls, path: Path) -> Task:
        """From ``task.json``."""
        values = json.loads(path.read_text())
        paths = {key: Path(values[key]) for key in ("volume", "models")}
        return cls(**{**values, **paths, "spacing_kji": tuple(values["spacing_kji"]), "run": path.parent})


@dataclass(frozen=True)
class Usage:
    """What a segmentation took.

    Attributes:
        cpu_s: user and system time of the process and its children; wall_s: elapsed. On a GPU after the middle of the
            volume was segmented once, so that everything is loaded and tuned.
        network_cpu_s: of that inside the network (None on a GPU, where calls return early).
        tiles: how often the network was called.
        peak_mib: largest resident memory of the process, with imports, model and volume; before_mib: before the
            volume was read.
        gpu_peak_mib: the most that torch had reserved on the GPU.
        version: of the method.
    """

    cpu_s: float
    wall_s: float
    network_cpu_s: float | None
    tiles: int
    peak_mib: float
    before_mib: float
    gpu_peak_mib: float | None
    version: str


class Clocked:
    """Calls through to a function and adds up its CPU time and its calls."""

    calls = 0
    cpu_s = 0.0

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        """Of the function."""
        began = time.process_time()
        result = self._function(*arguments)
        Clocked.cpu_s += time.process_time() - began
        Clocked.calls += 1
        return result

    @classmethod
    def reset(cls) -> None:
        """Forget all calls."""
        cls.calls, cls.cpu_s = 0, 0.0


def main(prepare: Callable[[Task], Segmenter], version: str) -> None:
    """Run, measure and write: ``labels.npy`` and ``usage.json``."""
    task = Task.read(Path(sys.argv[1]))
    torch.set_num_threads(task.threads)
    on_gpu = task.device == "cuda"
    segmenter = prepare(task)
    before = resident_mib()
    volume = np.load(task.volume)
    if on_gpu:
        segmenter(volume[tuple(slice(n // 3, 2 * n // 3) for n in volume.shape)])
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    Clocked.reset()
    cpu, wall = cpu_seconds(), time.perf_counter()
    labels = segmenter(volume)
    usage = Usage(
        cpu_s=cpu_seconds() - cpu,
        wall_s=time.perf_counter() - wall,
        network_cpu_s=None if on_gpu else Clocked.cpu_s,
        tiles=Clocked.calls,
        peak_mib=max(peak_mib(), child_peak_mib()),
        before_mib=before,
        gpu_peak_mib=torch.cuda.max_memory_reserved() / MIB if on_gpu else None,
        version=version,
    )
    np.save(task.run / "labels.npy", labels)
    (task.run / "usage.json").write_text(json.dumps(asdict(usage), indent=1))
