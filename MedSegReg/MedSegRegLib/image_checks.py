"""The single checks of the battery, in the order in which they are asked.

Each looks at one thing and returns one :class:`Finding`, or None. Intensities are read once, on whatever device they
are, without a copy of the image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from .device import free_host_bytes
from .errors import ComponentCount, InputError, NoContrast, NonFiniteVoxels, SpacingOutOfRange, TooFewVoxels, TooLarge
from .geometry import Geometry
from .image import Image
from .report import Finding

SPACING_RANGE_MM = (0.01, 50.0)
ANISOTROPY_LIMIT = 10.0
LARGEST_FLOAT16 = 65504.0
LARGEST_INTENSITY = 1e15  # its square, summed over 10^9 voxels, would overflow float32
ZERO_SHARE_LIMIT = 0.9
LABEL_COUNT_LIMIT = 32
SAMPLED_VOXELS = 1 << 16


@dataclass(frozen=True)
class Need:
    """What the coming work needs of an image.

    Attributes:
        purpose: "segment" or "register", used in messages.
        channels: how many, or None for any.
        contrast: False makes a constant image a warning only (CT window).
        minimum_size: voxels along each of the two longest axes.
        allow_single_slice: True where one slice can be worked on (padded).
        training_range: lowest and highest intensity that the model was trained on, or None where it does not matter.
        bytes_needed: host memory that the work will take, or None when unknown.
    """

    purpose: str
    channels: int | None = 1
    contrast: bool = True
    minimum_size: int = 2
    allow_single_slice: bool = False
    training_range: tuple[float, float] | None = None
    bytes_needed: int | None = None


@dataclass(frozen=True)
class Intensities:
    """What one reading of the voxels saw: finite minimum and maximum of each channel (inf, -inf: none is finite)."""

    lowest: tuple[float, ...]
    highest: tuple[float, ...]
    nonfinite: int
    zeros: int
    total: int


def measure_intensities(tensor: torch.Tensor) -> Intensities:
    """Read [C, K, J, I] voxels once; only a channel with NaN or infinite voxels is read again, plane by plane."""
    lowest, highest, nonfinite = [], [], 0
    for channel in tensor:
        low, high = (float(value) for value in channel.aminmax())
        if not np.isfinite((low, high)).all():
            low, high = np.inf, -np.inf
            for plane in channel:
                finite = plane[torch.isfinite(plane)]
                nonfinite += plane.numel() - finite.numel()
                if finite.numel():
                    low, high = min(low, float(finite.min())), max(high, float(finite.max()))
        lowest.append(low)
        highest.append(high)
    zeros = tensor.numel() - int(torch.count_nonzero(tensor))
    return Intensities(tuple(lowest), tuple(highest), nonfinite, zeros, tensor.numel())


def _check_channels(image: Image, need: Need, seen: Intensities) -> Finding | None:
    count = image.tensor.shape[0]
    if count == need.channels or (need.channels is None and count > 0):
        return None
    return Finding.refuse(
        ComponentCount(
            f"The image has {count} channels",
            "at least 1" if need.channels is None else str(need.channels),
            "choose one frame or one component, or combine the images that the model was trained on",
        )
    )


def _check_size(image: Image, need: Need, seen: Intensities) -> Finding | None:
    size = image.geometry.size_ijk
    if sorted(size)[1] >= need.minimum_size:
        return None
    return Finding.refuse(
        TooFewVoxels(
            f"The image has {join_numbers(size)} voxels, too few to {need.purpose}",
            f"{need.minimum_size} or more along two axes",
            "choose the whole image rather than this crop",
        )
    )


def _check_slices(image: Image, need: Need, seen: Intensities) -> Finding | None:
    size = image.geometry.size_ijk
    if need.allow_single_slice or min(size) > 1:
        return None
    return Finding.refuse(
        TooFewVoxels(
            f"The image has {join_numbers(size)} voxels: one slice, and a volume is needed to {need.purpose}",
            "2 or more slices",
            "choose a volume, or a 2D method",
        )
    )


def _check_memory(image: Image, need: Need, seen: Intensities) -> Finding | None:
    available = None if need.bytes_needed is None else free_host_bytes()
    if need.bytes_needed is None or available is None or need.bytes_needed <= available:
        return None
    return Finding.refuse(
        TooLarge(
            f"To {need.purpose} {join_numbers(image.geometry.size_ijk)} voxels takes {_gib(need.bytes_needed)} "
            f"of memory, and {_gib(available)} are free",
            f"at most {_gib(available)}",
            "crop the image, resample it to larger voxels, or close other programs",
        )
    )


def _check_spacing(image: Image, need: Need, seen: Intensities) -> Finding | None:
    return look_at_spacing(image.geometry)


def look_at_spacing(geometry: Geometry) -> Finding | None:
    """A refusal of voxels that no medical image has; before a grid is made of it, which could be endless."""
    spacing, (low, high) = geometry.spacing_mm, SPACING_RANGE_MM
    if low <= min(spacing) and max(spacing) <= high:
        return None
    return Finding.refuse(
        SpacingOutOfRange(
            f"The voxels are {join_numbers(spacing)} mm: wrong units?",
            f"{low:g} to {high:g} mm",
            "set the spacing in millimetres (micrometres and metres are the usual mistakes)",
        )
    )


def _check_anisotropy(image: Image, need: Need, seen: Intensities) -> Finding | None:
    spacing = [s for s, n in zip(image.geometry.spacing_mm, image.geometry.size_ijk, strict=True) if n > 1]
    if not spacing or max(spacing) <= ANISOTROPY_LIMIT * min(spacing):
        return None
    ratio = max(spacing) / min(spacing)
    return Finding.warn(
        f"The voxels are {join_numbers(image.geometry.spacing_mm)} mm: {ratio:.0f} times longer than wide",
        "Expect coarse results along the long side; use a scan with thinner slices if there is one.",
    )


def _check_shear(image: Image, need: Need, seen: Intensities) -> Finding | None:
    if not image.geometry.is_sheared:
        return None
    cosines = image.geometry.directions.T @ image.geometry.directions - np.eye(3)
    angle = np.degrees(np.arccos(min(1.0, float(np.abs(cosines).max()))))
    return Finding.warn(
        f"The voxel axes are not at right angles (smallest angle {angle:.1f} degrees)",
        "The true grid is used; check that the tilt in the header is real (CT gantry tilt).",
    )


def _check_finite(image: Image, need: Need, seen: Intensities) -> Finding | None:
    if seen.nonfinite == 0:
        return None
    hopeless = np.isinf(seen.lowest).any()
    return Finding.refuse(
        NonFiniteVoxels(
            f"{seen.nonfinite} of {seen.total} voxels are NaN or infinite",
            "finite intensities",
            "export the image again" if hopeless else "export the image again, or replace them by the minimum",
        )
    )


def _check_contrast(image: Image, need: Need, seen: Intensities) -> Finding | None:
    constant = [(c, low) for c, (low, high) in enumerate(zip(seen.lowest, seen.highest, strict=True)) if low == high]
    if not constant:
        return None
    channel, value = constant[0]
    found = f"All intensities of channel {channel} are {value:g}"
    fix = "check that the right image was chosen and that the file is whole"
    if not need.contrast:
        return Finding.warn(found, fix)
    return Finding.refuse(NoContrast(found, "different intensities", fix))


def _check_zeros(image: Image, need: Need, seen: Intensities) -> Finding | None:
    if not ZERO_SHARE_LIMIT * seen.total < seen.zeros < seen.total:
        return None
    return Finding.warn(
        f"{100 * seen.zeros / seen.total:.1f} % of the voxels are exactly 0",
        "If the picture looks cut off, the file is truncated or had NaN voxels: export it again.",
    )


def _check_magnitude(image: Image, need: Need, seen: Intensities) -> Finding | None:
    largest = max((abs(value) for value in (*seen.lowest, *seen.highest) if np.isfinite(value)), default=0.0)
    if largest > LARGEST_INTENSITY:
        return Finding.refuse(
            InputError(
                f"Intensities reach {largest:.3g}",
                f"at most {LARGEST_INTENSITY:g}",
                "replace the values that stand for missing voxels by the background",
            )
        )
    if largest > LARGEST_FLOAT16:
        return Finding.warn(
            f"Intensities reach {largest:.6g}, beyond half precision ({LARGEST_FLOAT16:g})",
            "Check for artefacts or a wrong rescale slope.",
        )
    return None


def _check_training_range(image: Image, need: Need, seen: Intensities) -> Finding | None:
    if need.training_range is None or seen.nonfinite == seen.total:
        return None
    (low, high), seen_low, seen_high = need.training_range, min(seen.lowest), max(seen.highest)
    shift, overlap = abs(seen_low - low), min(high, seen_high) - max(low, seen_low)
    if shift <= 0.2 * (high - low) and overlap >= 0.05 * (high - low):
        return None
    return Finding.warn(
        f"Intensities run from {seen_low:g} to {seen_high:g}; the model knows {low:g} to {high:g}",
        "Check the kind of scan, its units and its offset (in CT, air is at -1000 HU).",
    )


def _check_label_like(image: Image, need: Need, seen: Intensities) -> Finding | None:
    flat = image.tensor.reshape(-1)
    sample = flat[:: max(1, flat.numel() // SAMPLED_VOXELS)]
    values = sample.unique()
    whole = bool((values == values.round()).all()) and seen.nonfinite == 0 and min(seen.lowest, default=-1.0) >= 0
    if not whole or not 1 < values.numel() <= LABEL_COUNT_LIMIT or sample.numel() < 100 * values.numel():
        return None
    return Finding.warn(
        f"The image has only {values.numel()} different values, all whole numbers: a label map?",
        "Choose the scan rather than its segmentation.",
    )


def join_numbers(values: tuple[float, ...]) -> str:
    """Sizes or spacings as people write them, ``4 x 5 x 6``."""
    return " x ".join(f"{value:.4g}" for value in values)


def _gib(count: int) -> str:
    return f"{count / 2**30:.2f} GiB"


CHECKS: tuple[Callable[[Image, Need, Intensities], Finding | None], ...] = (
    _check_channels,
    _check_size,
    _check_slices,
    _check_spacing,
    _check_memory,
    _check_anisotropy,
    _check_shear,
    _check_finite,
    _check_contrast,
    _check_zeros,
    _check_magnitude,
    _check_training_range,
    _check_label_like,
)
