"""Task ``followup``. Jobs walk: worker -> [following] -> the workflow that compares visits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...device import describe_device, pick_device
from ...report import findings_data
from ...workflows.followup import follow_up
from ...workflows.followup_midway import Visit
from ...workflows.followup_report import change_columns, volume_columns, write_html
from ..values import JobResult, as_value
from ..work import Work
from .registering import optional_labels, registration_settings


def followup(
    work: Work,
    *,
    preset: str = "followup",
    settings: dict[str, Any] | None = None,
    lesions: Sequence[str] | None = None,
    border_mm: float | None = None,
    spacing_mm: float | None = None,
    device: str = "auto",
) -> JobResult:
    """See :mod:`MedSegRegLib.jobs`."""
    wanted, chosen = registration_settings(preset, settings), pick_device(device)
    result = follow_up(
        _visits(work),
        wanted,
        lesions=lesions,
        border_mm=border_mm,
        spacing_mm=spacing_mm,
        device=chosen,
        progress=work.progress,
    )
    report = work.folder / "report.html"
    write_html(result, report)
    data = {
        "sentence": result.sentence,
        "visits": list(result.names),
        "to_visit": [matrix.tolist() for matrix in result.midway.to_visit],
        "rigid_error_mm": list(result.midway.rigid_error_mm),
        "volumes": volume_columns(result),
        "changes": [change_columns(interval) for interval in result.intervals],
        "places_ras": [[list(change.centre_ras) for change in interval.changes] for interval in result.intervals],
        "report": report.read_text(encoding="utf-8"),
        "findings": findings_data(result.findings),
        "settings": wanted.model_dump(mode="json"),
        "preset": None if settings else preset,
        "device": describe_device(chosen).message,
    }
    values = {f"midway{number}": as_value(image) for number, image in enumerate(result.images)}
    for number, interval in enumerate(result.intervals):
        values |= {
            f"transform{number}": as_value(interval.transform),
            f"inverse{number}": as_value(interval.inverse),
            f"change{number}": as_value(interval.subtraction),
            f"jacobian{number}": as_value(interval.jacobian),
        }
    return JobResult(data, values)


def _visits(work: Work) -> list[Visit]:
    visits: list[Visit] = []
    while f"image{len(visits)}" in work.values:
        number = len(visits)
        image = work.image(f"image{number}")
        visits.append(
            Visit(image, optional_labels(work, f"labels{number}"), optional_labels(work, f"reference{number}"))
        )
    return visits
