"""Task ``sequence``. Jobs walk: worker -> [sequencing] -> the workflow, which asks for one frame after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, overload

from ...device import describe_device, pick_device
from ...errors import InvalidSetting
from ...image import Image
from ...register.settings import RegistrationSettings
from ...report import findings_data
from ...workflows.frame_review import frame_columns
from ...workflows.sequence import SETTINGS, Frame, propagate
from ..values import JobResult
from ..work import Work
from .plain import settings_of


def sequence(
    work: Work,
    *,
    keys: Sequence[int],
    cyclic: bool = False,
    smooth: bool = True,
    preset: str = "same-contrast",
    settings: dict[str, Any] | None = None,
    device: str = "auto",
) -> JobResult:
    """See :mod:`MedSegRegLib.jobs`."""
    if settings is None and preset not in SETTINGS:
        raise InvalidSetting(f"The preset is '{preset}'", f"one of {', '.join(SETTINGS)}", "choose one of these")
    wanted = SETTINGS[preset] if settings is None else settings_of(RegistrationSettings, settings)
    chosen = pick_device(device)
    carried: dict[str, Any] = {}

    def keep(frame: Frame) -> None:
        carried[f"labels{frame.number}"] = frame.labels
        work.tell({"frame": frame.number, "confidence": frame.review and frame.review.confidence}, {})

    told = propagate(
        _Handed(work),
        {number: work.labels(f"key{place}") for place, number in enumerate(keys)},
        keep,
        settings=wanted,
        cyclic=cyclic,
        smooth=smooth,
        device=chosen,
        progress=work.progress,
    )
    data = {
        "sentence": told.sentence,
        "review": frame_columns(told.reviews),
        "key_dice": [asdict(check) for check in told.keys],
        "around_mm": told.around_mm,
        "stiffness": list(told.stiffness),
        "findings": findings_data(told.findings),
        "settings": wanted.model_dump(mode="json"),
        "preset": None if settings else preset,
        "cyclic": cyclic,
        "device": describe_device(chosen).message,
    }
    return JobResult(data, carried)


class _Handed(Sequence[Image]):
    """The values "frame0", "frame1", ...: mapped files, each read when it is asked for."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._count = sum(name.startswith("frame") for name in work.values)

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, number: int) -> Image: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[Image]: ...
    def __getitem__(self, number: int | slice) -> Image | Sequence[Image]:
        if isinstance(number, slice):
            return [self[n] for n in range(*number.indices(self._count))]
        if not 0 <= number < self._count:
            raise IndexError(number)
        return self._work.image(f"frame{number}")

    def __iter__(self) -> Iterator[Image]:
        return (self[number] for number in range(self._count))
