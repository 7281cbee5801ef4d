"""Task ``adapt``. Jobs walk: worker -> [adapting] -> adaptation walk."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from ...errors import OutputNotWritable
from ...files.model_package import read_spec
from ...files.model_store import install, list_models, model_folder, stage, staging_folder
from ...train.adapt import adapt_model
from ...train.corrections import Correction
from ...train.fine_tune import FineTuning
from ..values import JobResult
from ..work import Work
from .plain import settings_of


def adapt(
    work: Work,
    *,
    model: str,
    cases: list[dict[str, str]],
    name: str | None = None,
    output: str | None = None,
    replace: bool = False,
    settings: dict[str, Any] | None = None,
    device: str = "auto",
) -> JobResult:
    """See :mod:`MedSegRegLib.jobs`."""
    if output is None:
        name = name or f"{read_spec(model_folder(model)).name}-adapted"[:64]
        _require_free(name, replace)
    corrections = [
        Correction(
            case.get("name", f"case {n}"), work.image(f"image{n}"), work.labels(f"labels{n}"), case.get("patient", "")
        )
        for n, case in enumerate(cases)
    ]
    folder = work.folder / "adapted" if output is None else Path(output)
    tuning = settings_of(FineTuning, settings or {})
    result = adapt_model(model, corrections, folder, tuning, name=name, device=device, progress=work.progress)
    data: dict[str, Any] = {
        "parent": result.parent,
        "model": result.spec.name if result.spec else None,
        "measured": result.measured,
        "scores": [asdict(score) for score in result.scores],
        "dice_before": result.before,
        "dice_after": result.after,
        "verdict": result.verdict,
        "seconds": round(result.seconds, 1),
        "installed": None,
    }
    if result.spec and output is None:
        with staging_folder() as staging:
            data["installed"] = install(stage(folder / "model", staging), replace)[result.spec.name]
    return JobResult(data, {})


def _require_free(name: str, replace: bool) -> None:
    """Refuse a name that is taken now, and not when the model is ready."""
    if not replace and name in {spec.name for spec in list_models()[0].values()}:
        raise OutputNotWritable(
            f"There is a model '{name}' already", "a free name", "choose another name, or remove that model first"
        )
