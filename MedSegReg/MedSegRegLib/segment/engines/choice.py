"""Which engine runs the network: by name, or the fastest here. Engines walk: network -> [choice] -> engine.

``auto`` measures each engine once for a network, a tile, a device and a machine, checks its scores against torch's, and
remembers the result in the cache.
"""

from __future__ import annotations

import json
import platform
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from ... import __version__
from ...errors import MedSegRegError, MissingPackage, ModelMismatch
from ...progress import SILENT, Progress
from ...report import Finding
from .build import make_engine
from .cache import cache_folder, cache_key, read_cached, write_cached
from .engine import Engine, Source
from .packages import ONNXRUNTIME_PACKAGES, versions
from .trial import Trial, try_engine

TOLERANCE = {"cpu": 2e-3, "mps": 2e-2, "cuda": 2e-2}
"""Largest difference of scores from torch's, as a share of the largest score. On a CPU float32 engines stay below 4e-4
and bfloat16 is at about 1e-2 (measured); on a GPU half precision is compared with half precision."""


@dataclass(frozen=True, eq=False)
class Choice:
    """What :func:`choose_engine` gives.

    Attributes:
        engine: ready to run.
        seconds_per_tile: measured on this machine.
        findings: what was chosen and why, and engines that were left out.
    """

    engine: Engine
    seconds_per_tile: float
    findings: tuple[Finding, ...]


def choose_engine(source: Source, device: torch.device, name: str = "auto", progress: Progress = SILENT) -> Choice:
    """An engine, and how fast it is on this machine: measured at the first call, remembered for the next ones.

    Args:
        source: the network. Of an ensemble the first member is enough: make the others with :func:`make_engine`.
        device: where the network runs.
        name: ``auto``, or an engine.
        progress: told before each engine is measured; may cancel.

    Raises:
        as :func:`make_engine`; for ``auto`` only where no engine can run the network.
        torch.OutOfMemoryError: the tile does not fit on the GPU.
    """
    key = cache_key(source.fingerprint, source.tile, str(device), name, *_machine()) + ".json"
    remembered = _recall(key, source, device)
    if remembered is not None:
        return remembered
    names = _candidates(source, device) if name == "auto" else (name,)
    trials, left_out = _try_all(names, source, device, progress)
    best = min(trials, key=lambda trial: trial.seconds)
    slower = "".join(f"; {trial.description}: {trial.seconds:.3g} s" for trial in trials if trial is not best)
    why = f"Engine: {best.description}: {best.seconds:.3g} s a tile{slower}"
    kept = write_cached(key, json.dumps({"name": best.name, "seconds": best.seconds, "why": why}).encode())
    notes = [] if kept else [Finding.warn(f"'{cache_folder()}' cannot be written", "Engines are measured every time.")]
    return Choice(make_engine(best.name, source, device), best.seconds, (Finding.info(why), *left_out, *notes))


def _candidates(source: Source, device: torch.device) -> tuple[str, ...]:
    """What ``auto`` tries; the first one is the reference for the scores."""
    if isinstance(source.network, bytes):
        return ("openvino", "onnxruntime")
    if device.type == "cuda":
        return ("torch", "torch-channels-last")
    return ("torch",) if device.type == "mps" else ("torch", "openvino", "onnxruntime")


def _try_all(
    names: tuple[str, ...], source: Source, device: torch.device, progress: Progress
) -> tuple[list[Trial], list[Finding]]:
    """The engines whose scores are those of the first one, and why the others were left out."""
    trials: list[Trial] = []
    left_out: list[Finding] = []
    errors: list[MedSegRegError] = []
    for number, name in enumerate(names):
        progress.update(number / len(names), f"measuring the engine {name}")
        try:
            trial = try_engine(name, source, device, progress)
        except (MissingPackage, ModelMismatch) as error:
            errors.append(error)
            left_out.append(Finding.info(f"{name} was left out: {error.found}"))
            continue
        differs = _difference(trial, trials[0]) if trials else 0.0
        if differs <= TOLERANCE[device.type]:
            trials.append(trial)
        else:
            left_out.append(Finding.warn(f"{trial.description} was left out: its scores differ by {differs:.2g}"))
    if not trials:
        raise errors[0]
    return trials, left_out


def _difference(trial: Trial, reference: Trial) -> float:
    """Largest difference of two engines' scores, as a share of the largest score; NaN or infinite where scores are."""
    return float((trial.scores - reference.scores).abs().max() / reference.scores.abs().max().clamp(min=1e-6))


def _recall(key: str, source: Source, device: torch.device) -> Choice | None:
    """What an earlier call found, if it can still be used."""
    content = read_cached(key)
    if content is None:
        return None
    found = json.loads(content)
    try:
        engine = make_engine(found["name"], source, device)
    except MissingPackage:
        return None
    return Choice(engine, found["seconds"], (Finding.info(f"{found['why']} (measured before)"),))


def _machine() -> tuple[str, ...]:
    """All on this machine that the speed of an engine depends on."""
    processor = platform.processor() or platform.machine()
    if sys.platform == "linux":
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        processor = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), processor)
    cards = [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())]
    packages = versions("torch", "openvino", *ONNXRUNTIME_PACKAGES)
    return (processor, platform.node(), str(torch.get_num_threads()), *cards, packages, __version__)
