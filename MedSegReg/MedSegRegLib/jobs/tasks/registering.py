"""Tasks ``register`` and ``correct``. Jobs walk: worker -> [registering] -> registration walk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from ...device import describe_device, pick_device
from ...errors import InvalidSetting
from ...evaluate.deformation import jacobian_determinant
from ...evaluate.overlap import count_overlaps, number_labels
from ...image import Image, Labels
from ...register.correct import correct as correct_registration
from ...register.deformable import STOPPED, LevelReport
from ...register.guidance import Guidance
from ...register.presets import PRESETS
from ...register.run import Registration
from ...register.run import register as register_images
from ...register.settings import RegistrationSettings
from ...report import findings_data
from ...resample import resample_image, resample_labels
from ...transform import Transform
from ..values import JobResult, Voxels
from ..work import Work
from .plain import points_of, settings_of

REGISTERING_SHARE = 0.95
OUTPUTS = ("resampled", "resampled_labels", "jacobian")
AUTO = "auto"


def register(
    work: Work,
    *,
    preset: str = "deformable",
    settings: dict[str, Any] | None = None,
    fixed_points: list[list[float]] | None = None,
    moving_points: list[list[float]] | None = None,
    measure_only: Sequence[str] = (),
    outputs: Sequence[str] = (),
    device: str = "auto",
) -> JobResult:
    """See :mod:`MedSegRegLib.jobs`."""
    fixed, moving = work.image("fixed"), work.image("moving")
    given = _guidance(work, fixed_points, moving_points)
    initial = work.transform("initial") if "initial" in work.values else None
    _require_outputs(outputs, given)
    chosen = pick_device(device)
    result = register_images(
        fixed,
        moving,
        registration_settings(preset, settings),
        fixed_mask=optional_labels(work, "fixed_mask"),
        moving_mask=optional_labels(work, "moving_mask"),
        initial=initial,
        guidance=_without(given, measure_only),
        device=chosen,
        progress=work.progress.part(0.0, REGISTERING_SHARE),
        on_level=_teller(work),
    )
    facts = {"preset": None if settings else preset, "device": describe_device(chosen).message}
    return _answer(work, result, (fixed, moving), given, initial or Transform(), outputs, facts)


def correct(
    work: Work,
    *,
    preset: str = "deformable",
    settings: dict[str, Any] | None = None,
    fixed_points: list[list[float]] | None = None,
    moving_points: list[list[float]] | None = None,
    outputs: Sequence[str] = (),
    device: str = "auto",
) -> JobResult:
    """See :mod:`MedSegRegLib.jobs`."""
    fixed, moving, found = work.image("fixed"), work.image("moving"), work.transform("transform")
    given = _guidance(work, fixed_points, moving_points)
    _require_outputs(outputs, given)
    chosen = pick_device(device)
    result = correct_registration(
        fixed,
        moving,
        found,
        given,
        registration_settings(preset, settings),
        fixed_mask=optional_labels(work, "fixed_mask"),
        moving_mask=optional_labels(work, "moving_mask"),
        device=chosen,
        progress=work.progress.part(0.0, REGISTERING_SHARE),
        on_level=_teller(work),
    )
    facts = {"preset": None if settings else preset, "device": describe_device(chosen).message}
    return _answer(work, result, (fixed, moving), given, found, outputs, facts)


def registration_settings(preset: str, settings: dict[str, Any] | None) -> RegistrationSettings:
    """The given settings, else those of the preset. Raises InvalidSetting."""
    if settings is not None:
        return settings_of(RegistrationSettings, settings)
    if preset not in PRESETS:
        raise InvalidSetting(f"The preset is '{preset}'", f"one of {', '.join(PRESETS)}", "choose one of these")
    return PRESETS[preset]


def settings_or_auto(preset: str, settings: dict[str, Any] | None) -> RegistrationSettings | None:
    """As :func:`registration_settings`; None for the preset ``auto``, where the images choose."""
    return None if preset == AUTO and settings is None else registration_settings(preset, settings)


def _require_outputs(outputs: Sequence[str], given: Guidance) -> None:
    unknown = set(outputs) - set(OUTPUTS)
    if unknown or ("resampled_labels" in outputs and given.moving_labels is None):
        raise InvalidSetting(
            f"The outputs are {list(outputs)}",
            f"some of {', '.join(OUTPUTS)}; resampled_labels only with moving labels",
            "correct them",
        )


def optional_labels(work: Work, name: str) -> Labels | None:
    """Labels that need not be given."""
    return work.labels(name) if name in work.values else None


def _guidance(work: Work, fixed_points: list[list[float]] | None, moving_points: list[list[float]] | None) -> Guidance:
    names = ("fixed_labels", "moving_labels", "rigid", "ignore")
    labels = {name: optional_labels(work, name) for name in names}
    return Guidance(fixed_points=points_of(fixed_points), moving_points=points_of(moving_points), **labels)  # type: ignore[arg-type]


def _without(given: Guidance, measure_only: Sequence[str]) -> Guidance:
    """What guides the registration, of all that was given."""
    left_out = {f"{side}_{what}": None for what in measure_only for side in ("fixed", "moving")}
    if not set(measure_only) <= {"points", "labels"}:
        raise InvalidSetting(f"To be measured only: {list(measure_only)}", "points, labels or both", "correct it")
    return Guidance(**{**vars(given), **left_out})  # type: ignore[arg-type]


def _teller(work: Work) -> Any:
    def tell(transform: Transform, level: LevelReport) -> None:
        work.tell(asdict(level), {"transform": transform})

    return tell


def _answer(
    work: Work,
    result: Registration,
    images: tuple[Image, Image],
    given: Guidance,
    before: Transform,
    outputs: Sequence[str],
    facts: dict[str, Any],
) -> JobResult:
    """A registration as data and values, with what else was asked for."""
    work.progress.update(REGISTERING_SHARE, "preparing the results")
    fixed, moving = images
    transforms = {"before": before, "after": result.transform}
    quality = asdict(result.quality)
    del quality["dice"], quality["landmarks_mm"]  # told below, by name, for all that was given
    data = {
        **facts,
        "sentence": result.sentence,
        "quality": quality,
        "dice": _dice(given, transforms),
        "landmarks_mm": _landmarks_mm(given, transforms),
        "findings": findings_data(result.findings),
        "settings": result.settings.model_dump(mode="json"),
        "seconds": round(result.seconds, 2),
        "stopped": STOPPED in result.findings,
    }
    values: dict[str, Any] = {"transform": result.transform, "inverse": result.inverse}
    if "resampled" in outputs:
        values["resampled"] = resample_image(moving, fixed.geometry, result.transform)
    if "resampled_labels" in outputs and given.moving_labels is not None:
        values["resampled_labels"] = resample_labels(given.moving_labels, fixed.geometry, result.transform)
    if "jacobian" in outputs:
        jacobian = jacobian_determinant(result.transform.to_displacement(fixed.geometry))
        values["jacobian"] = Voxels(jacobian.numpy(), fixed.geometry, "jacobian")
    return JobResult(data, values)


def _landmarks_mm(given: Guidance, transforms: dict[str, Transform]) -> dict[str, float] | None:
    """Mean distance of the points that belong together."""
    if given.points is None:
        return None
    fixed, moving = given.points
    return {
        when: float(np.linalg.norm(transform.map_points(fixed) - moving, axis=1).mean())
        for when, transform in transforms.items()
    }


def _dice(given: Guidance, transforms: dict[str, Transform]) -> dict[str, dict[str, float | None]]:
    """Of each structure that both have, by its name in the fixed labels."""
    fixed, moving = given.fixed_labels, given.moving_labels
    if fixed is None or moving is None:
        return {}
    values = np.array(given.shared_values, np.int64)
    names = {structure.value: structure.name for structure in fixed.structures}
    truth, volume_mm3 = number_labels(fixed.numpy(), values), fixed.geometry.voxel_volume_mm3
    dice: dict[str, dict[str, float | None]] = {}
    for when, transform in transforms.items():
        carried = number_labels(resample_labels(moving, fixed.geometry, transform).numpy(), values)
        overlaps = count_overlaps(truth, carried, len(values), volume_mm3)
        for value, overlap in zip(values.tolist(), overlaps, strict=True):
            dice.setdefault(names.get(value, f"label {value}"), {})[when] = overlap.dice
    return dice
