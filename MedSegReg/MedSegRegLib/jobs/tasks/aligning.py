"""Task ``align``. Jobs walk: worker -> [aligning] -> the workflow, which needs both walks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from ...device import describe_device, pick_device
from ...errors import InvalidSetting
from ...files.model_package import read_spec
from ...files.model_store import model_folder
from ...register.settings import RegistrationSettings
from ...report import findings_data
from ...workflows.align import SETTINGS, Aligned, align_series, channels_for, segment_aligned
from ..values import JobResult
from ..work import Work
from .segmenting import load_warm

ALIGNED_SHARE, LOADED_SHARE = 0.6, 0.7


def align(
    work: Work,
    *,
    reference: str,
    preset: str = "rigid",
    model: str | None = None,
    engine: str = "auto",
    native: Sequence[str] = (),
    device: str = "auto",
) -> JobResult:
    """See :mod:`MedSegRegLib.jobs`."""
    settings, chosen = _settings(preset), pick_device(device)
    _require_known(native, work)
    if model is not None:
        channels_for(read_spec(model_folder(model)), work.values, reference)  # before anything is aligned
    aligned = align_series(
        {name: work.image(name) for name in work.values},
        reference,
        settings=settings,
        device=chosen,
        progress=work.progress.part(0.0, 1.0 if model is None else ALIGNED_SHARE),
    )
    data = {**_describe(aligned), "preset": preset, "device": describe_device(chosen).message}
    values: dict[str, Any] = {}
    for name in aligned.checks:
        values |= {f"transform {name}": aligned.series[name].transform, f"resampled {name}": aligned.resampled(name)}
    if model is not None:
        loaded = load_warm([model], device, engine, work.progress.part(ALIGNED_SHARE, LOADED_SHARE))
        wanted, part = tuple(native) or (reference,), work.progress.part(LOADED_SHARE, 1.0)
        result, labels = segment_aligned(aligned, loaded, native=wanted, progress=part)
        data["provenance"] = result.provenance
        data["findings"] += findings_data(result.findings)
        values |= {f"labels {name}": one for name, one in labels.items()}
    return JobResult(data, values)


def _describe(aligned: Aligned) -> dict[str, Any]:
    return {
        "sentence": aligned.sentence,
        "reference": aligned.reference,
        "series": {name: asdict(check) for name, check in aligned.checks.items()},
        "settings": aligned.settings.model_dump(mode="json"),
        "findings": findings_data(aligned.findings),
    }


def _settings(preset: str) -> RegistrationSettings:
    if preset not in SETTINGS:
        raise InvalidSetting(f"The preset is '{preset}'", f"one of {', '.join(SETTINGS)}", "choose one of these")
    return SETTINGS[preset]


def _require_known(names: Sequence[str], work: Work) -> None:
    unknown = [name for name in names if name not in work.values]
    if unknown:
        raise InvalidSetting(
            f"The labels are wanted on {', '.join(unknown)}", f"some of {', '.join(work.values)}", "choose one of these"
        )
