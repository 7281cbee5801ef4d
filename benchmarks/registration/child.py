"""One method on one pair in processes of their own: run it, stop it when it takes too long, score what it left."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from pairs import Pair

sys.path.append(str(Path(__file__).parents[1]))
from isolated import Limits, python_of, run_isolated

HERE = Path(__file__).parent
OURS = "medsegreg"
FIELDS = ("field.mha", "inverse.mha")


@dataclass(frozen=True)
class Method:
    """How a row of the table is run.

    Attributes:
        script: in ``methods/``, without ``run_`` and extension.
        environment: whose interpreter; None for the one that runs this.
        variant: what the script may be told.
    """

    script: str
    environment: str | None = None
    variant: str = ""


METHODS = {
    "initial": Method("initial"),
    OURS: Method("medsegreg"),
    "ants-quick": Method("ants", "peers", "quick"),
    "ants-syn": Method("ants", "peers", "syn"),
    "greedy": Method("greedy", "peers"),
    "convexadam": Method("convexadam", "peers"),
    "elastix": Method("elastix"),
    "elastix-ncc": Method("elastix", variant="ncc"),
    "fireants": Method("fireants", "fireants"),
    "fireants-quick": Method("fireants", "fireants", "quick"),
}


@dataclass(frozen=True)
class Conditions:
    """The same for every method of a run."""

    work: Path
    threads: int
    device: str
    timeout_s: float
    keep_fields: bool


def method_named(name: str) -> Method:
    """A method of :data:`METHODS`, or ours with a preset: ``medsegreg:PRESET``.

    Raises:
        KeyError: there is none of that name.
    """
    stem, _, preset = name.partition(":")
    if preset and stem == OURS:
        return Method("medsegreg", variant=preset)
    return METHODS[name]


def run_once(pair: Pair, name: str, run: Path, conditions: Conditions) -> None:
    """Leave ``usage.json`` and ``score.json`` in the folder ``run``, or ``failure.txt`` with the reason."""
    shutil.rmtree(run, ignore_errors=True)
    run.mkdir(parents=True)
    method = method_named(name)
    python = Path(sys.executable) if method.environment is None else python_of(conditions.work, method.environment)
    if not python.exists():
        (run / "failure.txt").write_text(f"no environment '{method.environment}': run environment.py")
        return
    _write_task(pair, method, run, conditions)
    steps = (
        [str(python), str(HERE / "methods" / f"run_{method.script}.py"), str(run / "task.json")],
        [sys.executable, str(HERE / "score.py"), str(pair.folder), str(run)],
    )
    limits = Limits(conditions.threads, conditions.device != "cpu", conditions.timeout_s)
    for command in steps:
        reason = run_isolated(command, run / "log.txt", limits)
        if reason:
            (run / "failure.txt").write_text(reason)
            break
    _tidy(run, conditions.keep_fields)


def _write_task(pair: Pair, method: Method, run: Path, conditions: Conditions) -> None:
    masks = {name: str(pair.path(name)) if pair.has(name) else None for name in ("fixed_mask", "moving_mask")}
    task = {
        "fixed": str(pair.path("fixed")),
        "moving": str(pair.path("moving")),
        **masks,
        "contrast": pair.contrast,
        "motion": pair.motion,
        "variant": method.variant,
        "threads": conditions.threads,
        "device": conditions.device,
    }
    (run / "task.json").write_text(json.dumps(task, indent=1))


def _tidy(run: Path, keep_fields: bool) -> None:
    """Large files go; numbers, parameters and the log stay."""
    kept = {"task.json", "usage.json", "score.json", "failure.txt", "log.txt", *(FIELDS if keep_fields else ())}
    for path in run.iterdir():
        if path.name not in kept and path.suffix != ".txt":
            path.unlink()
