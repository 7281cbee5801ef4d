"""MONAI's preprocessing transforms in this library's terms. Import walk: monai bundle -> [transforms]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import UnsupportedFile
from ..files.model_spec import GridSpec
from ..preprocess import ClipStandardize, IntensityStep, NonzeroZScore, PercentileRange, ScaleRange, ZScore
from ..report import Finding
from .source_files import described

INPUT_OUTPUT = ("LoadImage", "EnsureChannelFirst", "EnsureType", "CastToType", "ToTensor", "Identity", "ToDevice")
AXES = {  # the first axis of MONAI's tensors becomes the slowest of the grid
    3: {"RAS": "sar", "": "kji"},
    2: {"RAS": "ars", "": "jik"},
}


def intensity_and_grid(
    transforms: Sequence[tuple[str, dict[str, Any]]], dimensions: int
) -> tuple[dict[str, Any], list[Finding]]:
    """``spacing_mm``, ``grid`` and ``intensity`` that these transforms amount to, and what is not followed.

    Args:
        transforms: name without ``d``, and settings, in their order.

    Raises:
        UnsupportedFile: an orientation that is not known here.
        UnsafeFile: a setting that is computed by Python.
    """
    content: dict[str, Any] = {}
    steps: list[IntensityStep] = []
    findings: list[Finding] = []
    orientation, crop, normalise_first = "", False, False
    for name, settings in transforms:
        step = _intensity(name, settings)
        if step is not None:
            steps += step
            normalise_first |= "spacing_mm" not in content
        elif name == "Orientation":
            orientation = str(settings.get("axcodes"))
        elif name == "Spacing":
            content["spacing_mm"] = _spacing(settings.get("pixdim"), dimensions)
        elif name == "CropForeground":
            crop = True
        elif name not in INPUT_OUTPUT:
            findings.append(
                Finding.warn(f"The bundle's step '{name[:60]}' is not done here", "compare the first results")
            )
    axes = AXES[dimensions].get(orientation)
    if axes is None:
        raise UnsupportedFile(f"The bundle turns images to '{orientation[:20]}'", "RAS, or their own orientation", "")
    grid = {"axes": axes, "crop_to_nonzero": crop, "normalise_first": bool(steps) and normalise_first}
    content["grid"] = described(GridSpec, grid, "the bundle's orientation")
    return {**content, "intensity": tuple(steps)}, findings


def _spacing(pixdim: Any, dimensions: int) -> tuple[float | None, ...]:
    sizes = pixdim if isinstance(pixdim, list) else [pixdim] * dimensions
    return (*(size if size and size > 0 else None for size in sizes[::-1]), None)[:3]


def _intensity(name: str, settings: dict[str, Any]) -> list[IntensityStep] | None:
    """None where the transform is not one of intensities."""
    if name == "ScaleIntensityRange":
        return [_range(settings)]
    if name == "ScaleIntensityRangePercentiles":
        step = PercentileRange(low=settings.get("lower"), high=settings.get("upper"))
        new = (settings.get("b_min"), settings.get("b_max"))
        return [step] if new == (0, 1) else [step, ScaleRange(low=0, high=1, new_low=new[0], new_high=new[1])]
    if name == "ScaleIntensity":
        low, high = settings.get("minv", 0.0), settings.get("maxv", 1.0)
        step = PercentileRange(low=0.0, high=100.0)
        return [step] if (low, high) == (0, 1) else [step, ScaleRange(low=0, high=1, new_low=low, new_high=high)]
    if name == "NormalizeIntensity":
        if settings.get("subtrahend") is not None or settings.get("divisor") is not None:
            return [ClipStandardize(mean=settings.get("subtrahend", 0.0), std=settings.get("divisor", 1.0))]
        return [NonzeroZScore() if settings.get("nonzero") else ZScore()]
    return None


def _range(settings: dict[str, Any]) -> ScaleRange:
    names = {"low": "a_min", "high": "a_max", "new_low": "b_min", "new_high": "b_max", "clip": "clip"}
    given = {ours: settings.get(theirs) for ours, theirs in names.items()}
    return described(ScaleRange, {key: v for key, v in given.items() if v is not None}, "ScaleIntensityRange")
