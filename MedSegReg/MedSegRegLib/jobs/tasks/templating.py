"""Task ``template``. Jobs walk: worker -> [templating] -> the workflow, which needs both walks."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ...device import describe_device, pick_device
from ...report import findings_data
from ...workflows.template import build_template
from ..values import JobResult
from ..work import Work
from .atlases import named_alike
from .registering import registration_settings


def template(
    work: Work,
    *,
    preset: str = "deformable",
    settings: dict[str, Any] | None = None,
    rounds: int = 4,
    device: str = "auto",
) -> JobResult:
    """See :mod:`MedSegRegLib.jobs`."""
    chosen, wanted = pick_device(device), registration_settings(preset, settings)
    count = sum(name.startswith("study") for name in work.values)
    drawn = [work.labels(f"labels{number}") for number in range(count) if f"labels{number}" in work.values]
    result = build_template(
        [work.image(f"study{number}") for number in range(count)],
        named_alike(drawn),
        settings=wanted,
        rounds=rounds,
        device=chosen,
        progress=work.progress,
    )
    data = {
        "rounds": [asdict(one) for one in result.rounds],
        "findings": findings_data(result.findings),
        "preset": None if settings else preset,
        "device": describe_device(chosen).message,
    }
    values: dict[str, Any] = {"template": result.image, "mask": result.mask}
    if result.labels is not None and result.probabilities is not None:
        values |= {"labels": result.labels, "probabilities": result.probabilities}
    for number, (way, back) in enumerate(zip(result.transforms, result.inverses, strict=True)):
        values |= {f"transform{number}": way, f"inverse{number}": back}
    return JobResult(data, values)
