"""Task ``joint``. Jobs walk: worker -> [joining] -> the workflow, which needs both walks."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from ...device import describe_device, pick_device
from ...errors import InvalidSetting
from ...progress import Progress
from ...report import findings_data
from ...workflows.drawn import Drawn, draw_by_model
from ...workflows.joint import refine_jointly
from ...workflows.joint_labels import agreement_columns
from ..values import JobResult
from ..work import Work
from .atlases import named_alike
from .registering import AUTO, optional_labels, settings_or_auto

STUDIES = ("fixed", "moving")
DRAWN_SHARE = 0.3


def joint(
    work: Work,
    *,
    model: str | None = None,
    preset: str = AUTO,
    settings: dict[str, Any] | None = None,
    rounds: int = 2,
    device: str = "auto",
) -> JobResult:
    """See :mod:`MedSegRegLib.jobs`."""
    wanted, chosen = settings_or_auto(preset, settings), pick_device(device)
    fixed, moving = _draw(work, model, device, work.progress.part(0.0, DRAWN_SHARE))
    result = refine_jointly(
        fixed,
        moving,
        settings=wanted,
        rounds=rounds,
        device=chosen,
        progress=work.progress if model is None else work.progress.part(DRAWN_SHARE, 1.0),
    )
    data: dict[str, Any] = {
        "sentence": result.sentence,
        "registration": result.registration.sentence,
        "rounds": [asdict(one) for one in result.rounds],
        "kept": result.kept,
        "findings": findings_data(result.findings),
        "settings": result.registration.settings.model_dump(mode="json"),
        "preset": None if settings else preset,
        "device": describe_device(chosen).message,
    }
    values: dict[str, Any] = {"transform": result.transform, "inverse": result.inverse}
    for name, study in zip(STUDIES, (result.fixed, result.moving), strict=True):
        data[f"{name}_structures"] = agreement_columns(study.structures)
        labels = {"own": study.own, "carried": study.carried, "fused": study.fused}
        values |= {f"{name}_{what}": found for what, found in labels.items()}
        values[f"{name}_disagreement"] = study.disagreement
    return JobResult(data, values)


def _draw(work: Work, model: str | None, device: str, progress: Progress) -> tuple[Drawn, Drawn]:
    """Both studies with the labels that were given, else with what the model finds in them."""
    given = [name for name in STUDIES if f"{name}_labels" in work.values]
    if len(given) != (2 if model is None else 0):
        raise InvalidSetting(
            f"There are {len(given)} label maps and {'a' if model else 'no'} model",
            "labels of both studies, or a model",
            "give one of these",
        )
    if model is not None:
        drawn = [
            draw_by_model(work.image(name), model, device=device, progress=progress.part(share, share + 0.5))
            for name, share in zip(STUDIES, (0.0, 0.5), strict=True)
        ]
    else:
        labels = named_alike([work.labels(f"{name}_labels") for name in STUDIES])
        drawn = [Drawn(work.image(name), one) for name, one in zip(STUDIES, labels, strict=True)]
    fixed, moving = (
        replace(one, mask=optional_labels(work, f"{name}_mask")) for name, one in zip(STUDIES, drawn, strict=True)
    )
    return fixed, moving
