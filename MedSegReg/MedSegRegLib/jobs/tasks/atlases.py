"""Task ``atlas``. Jobs walk: worker -> [atlases] -> the workflow, which needs both walks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, get_args

from ...device import describe_device, pick_device
from ...errors import InvalidSetting
from ...image import Labels
from ...report import findings_data
from ...workflows.atlas import Atlas, Fusion, segment_by_atlases
from ..values import JobResult
from ..work import Work
from .evaluating import renumbered_by_name
from .registering import AUTO, optional_labels, settings_or_auto


def atlas(
    work: Work,
    *,
    fusion: Fusion = "local",
    preset: str = AUTO,
    settings: dict[str, Any] | None = None,
    device: str = "auto",
) -> JobResult:
    """See :mod:`MedSegRegLib.jobs`."""
    if fusion not in get_args(Fusion):
        raise InvalidSetting(f"The fusion is '{fusion}'", " or ".join(get_args(Fusion)), "choose one of these")
    wanted, chosen = settings_or_auto(preset, settings), pick_device(device)
    count = sum(name.startswith("atlas") for name in work.values)
    labels = named_alike([work.labels(f"labels{number}") for number in range(count)])
    result = segment_by_atlases(
        work.image("image"),
        [Atlas(work.image(f"atlas{number}"), drawn) for number, drawn in enumerate(labels)],
        fusion=fusion,
        settings=wanted,
        mask=optional_labels(work, "mask"),
        device=chosen,
        progress=work.progress,
    )
    data = {
        "registrations": [found.sentence for found in result.registrations],
        "findings": findings_data(result.findings),
        "fusion": fusion,
        "preset": None if settings else preset,
        "device": describe_device(chosen).message,
    }
    values: dict[str, Any] = {"labels": result.labels, "agreement": result.agreement}
    return JobResult(data, values)


def named_alike(every: Sequence[Labels]) -> list[Labels]:
    """Label maps in which one name, in any case, has one value and one spelling: those of the first that has it."""
    if not every:
        return []
    alike, known = [every[0]], every[0]
    for labels in every[1:]:
        numbered = renumbered_by_name(labels, known)
        named = {structure.value: structure for structure in known.structures}
        structures = tuple(named.get(structure.value, structure) for structure in numbered.structures)
        alike.append(replace(numbered, structures=structures))
        known = replace(known, structures=tuple({**{s.value: s for s in structures}, **named}.values()))
    return alike
