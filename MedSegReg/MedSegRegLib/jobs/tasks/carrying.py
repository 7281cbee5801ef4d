"""Task ``carry``. Jobs walk: worker -> [carrying] -> the workflow, which needs both walks."""

from __future__ import annotations

from typing import Any

from ...device import describe_device, pick_device
from ...report import findings_data
from ...workflows.carry import carry as carry_over
from ...workflows.carry_review import review_columns
from ..values import JobResult
from ..work import Work
from .plain import points_of
from .registering import AUTO, optional_labels, settings_or_auto


def carry(
    work: Work,
    *,
    preset: str = AUTO,
    settings: dict[str, Any] | None = None,
    points: list[list[float]] | None = None,
    device: str = "auto",
) -> JobResult:
    """See :mod:`MedSegRegLib.jobs`."""
    wanted, chosen = settings_or_auto(preset, settings), pick_device(device)
    result = carry_over(
        work.image("source"),
        work.image("target"),
        labels=optional_labels(work, "labels"),
        points=points_of(points),
        settings=wanted,
        source_mask=optional_labels(work, "source_mask"),
        target_mask=optional_labels(work, "target_mask"),
        device=chosen,
        progress=work.progress,
    )
    moved = result.points
    data = {
        "sentence": result.sentence,
        "registration": result.registration.sentence,
        "review": review_columns(result.review),
        "points_ras": [] if moved is None else moved.ras.tolist(),
        "points_disagreement_mm": [] if moved is None else moved.disagreement_mm.tolist(),
        "points_inside": [] if moved is None else moved.inside.tolist(),
        "findings": findings_data(result.findings),
        "settings": result.registration.settings.model_dump(mode="json"),
        "preset": None if settings else preset,
        "device": describe_device(chosen).message,
    }
    values: dict[str, Any] = {"transform": result.transform, "inverse": result.inverse}
    if result.labels is not None:
        values["labels"] = result.labels
    return JobResult(data, values)
