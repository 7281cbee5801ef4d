"""One method on one volume in a process of its own, several times: what it is given, what it leaves."""

from __future__ import annotations

import json
import shutil
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from designs import Design
from volumes import Phantom, make_volume

sys.path.append(str(Path(__file__).parents[1]))
from environment import NAME
from isolated import Limits, python_of, run_isolated

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Case:
    """A volume and a network."""

    phantom: Phantom
    design: Design


@dataclass(frozen=True)
class Conditions:
    """The same for every method.

    Attributes:
        work: folder of volumes, models, environments and runs.
        device: cpu or cuda.
        repeats: runs of each, for medians.
    """

    work: Path
    limits: Limits
    device: str
    repeats: int

    @property
    def python(self) -> str:
        """The interpreter that knows every method."""
        return str(python_of(self.work, NAME))


@dataclass(frozen=True)
class Row:
    """A method's medians over its runs.

    Attributes:
        values: of ``usage.json``; empty where it failed.
        failure: why.
        labels: file of the last run.
    """

    method: str
    values: dict[str, float]
    failure: str
    labels: Path

    def ratio(self, key: str, other: Row) -> float | None:
        """This one's share of another one's."""
        return self.values[key] / other.values[key] if key in self.values and other.values.get(key) else None


def measure(case: Case, methods: list[str], conditions: Conditions, out: Path) -> dict[str, Row]:
    """Every method, one run after the other and round by round, so that a busy minute hits all of them."""
    volume = make_volume(conditions.work / "volumes" / case.phantom.name, case.phantom)
    models = _models(case.design, conditions)
    failures: dict[str, str] = {}
    for method in methods:
        shutil.rmtree(_folder(out, method), ignore_errors=True)
    for number in range(conditions.repeats):
        for method in methods:
            if method not in failures:
                reason = _run(method, case, volume, models, conditions, _folder(out, method) / str(number))
                if reason:
                    failures[method] = reason
    return {method: _row(method, failures.get(method, ""), out) for method in methods}


def label_agreement(one: Path, other: Path) -> tuple[float, float]:
    """Mean Dice over the classes of either but the background, and the share of equal voxels."""
    a, b = (np.load(path, mmap_mode="r") for path in (one, other))
    sizes = [np.bincount(x.ravel(), minlength=256) for x in (a, b)]
    equal = np.concatenate([plane[plane == twin] for plane, twin in zip(a, b, strict=True)])
    both = np.bincount(equal, minlength=256)
    found = (sizes[0] + sizes[1])[1:] > 0
    dice = 2 * both[1:][found] / (sizes[0] + sizes[1])[1:][found]
    return float(dice.mean()), len(equal) / a.size


def _models(design: Design, conditions: Conditions) -> Path:
    folder = conditions.work / "models" / design.name
    if not (folder / "as-monai" / "model.json").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        design.write(folder / "design.json")
        command = [conditions.python, str(HERE / "models.py"), str(folder / "design.json"), str(folder)]
        reason = run_isolated(command, folder / "log.txt", Limits())
        if reason:
            raise RuntimeError(f"models.py: {reason}; see {folder / 'log.txt'}")
    return folder


def _run(method: str, case: Case, volume: Path, models: Path, conditions: Conditions, run: Path) -> str:
    run.mkdir(parents=True)
    script, _, variant = method.partition(":")
    task: dict[str, Any] = {
        "volume": str(volume),
        "spacing_kji": case.phantom.spacing_kji,
        "models": str(models),
        "variant": variant,
        "tile": case.design.tile,
        "overlap": case.design.overlap,
        "spacing_mm": case.design.spacing_mm,
        "threads": conditions.limits.threads,
        "device": conditions.device,
    }
    (run / "task.json").write_text(json.dumps(task))
    command = [conditions.python, str(HERE / "methods" / f"run_{script}.py"), str(run / "task.json")]
    variables = {"MEDSEGREG_CACHE": str(conditions.work / "cache"), "ORT_DISABLE_TELEMETRY": "1"}
    return run_isolated(command, run / "log.txt", conditions.limits, variables)


def _row(method: str, failure: str, out: Path) -> Row:
    folder = _folder(out, method)
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("*/usage.json"))]
    keys = [key for key, value in found[0].items() if isinstance(value, (int, float))] if found else []
    medians = {key: statistics.median(one[key] for one in found) for key in keys}
    if "network_cpu_s" in medians:
        medians["rest_cpu_s"] = statistics.median(one["cpu_s"] - one["network_cpu_s"] for one in found)
    return Row(method, medians, failure, folder / "0" / "labels.npy")


def _folder(out: Path, method: str) -> Path:
    return out / method.replace(":", "-")
