"""The battery that every image passes before any work. Third stop of both walks.

What can never become an :class:`Image` (no voxels, zero spacing, a matrix with NaN, a node without data) is refused
where it is made: in ``geometry``, ``image``, ``files``, ``mrml``. The single checks stand in ``image_checks``.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from .errors import EmptyVolume, GeometryMismatch
from .geometry import Geometry
from .image import Image, Labels
from .image_checks import CHECKS, Need, join_numbers, measure_intensities
from .report import Finding, raise_refusals

__all__ = ["Need", "check_image", "check_mask", "check_same_grid", "inspect_image"]


def inspect_image(image: Image, need: Need) -> list[Finding]:
    """All findings about an image, those from reading it first. Never raises.

    >>> image = Image.from_array(np.zeros((4, 4, 4)), Geometry.from_spacing((4, 4, 4), (0.001,) * 3))
    >>> [type(finding.error).__name__ for finding in inspect_image(image, Need("segment"))]
    ['SpacingOutOfRange', 'NoContrast']
    """
    seen = measure_intensities(image.tensor)
    return [*image.findings, *(finding for check in CHECKS if (finding := check(image, need, seen)) is not None)]


def check_image(image: Image, need: Need, replace_nonfinite: bool = False) -> tuple[Image, list[Finding]]:
    """The image, fit for the work, and what was noticed.

    Args:
        image: never changed.
        need: what the work asks for.
        replace_nonfinite: give NaN and infinite voxels the finite minimum of their channel, with a warning.

    Returns:
        The same image (a new one where voxels were replaced), and findings of level INFO or WARN.

    Raises:
        InputError: the first refusal.
    """
    if replace_nonfinite:
        image = _replace_nonfinite(image)
    findings = inspect_image(image, need)
    raise_refusals(findings)
    return image, findings


def check_same_grid(a: Geometry, b: Geometry, what: str) -> None:
    """Raise GeometryMismatch unless both have the same voxels at the same places.

    Args:
        a: the grid that was given.
        b: the grid that is needed.
        what: names both in the message, e.g. "mask and image".
    """
    if not a.same_grid(b):
        raise GeometryMismatch(
            f"The grids of {what} differ: {_describe(a)} against {_describe(b)}",
            "the same voxels at the same places",
            "resample one onto the grid of the other",
        )


def check_mask(mask: Labels, image: Image) -> None:
    """Refuse a mask that cannot restrict the work on this image.

    Raises:
        GeometryMismatch: it is on another grid.
        EmptyVolume: no voxel of it is set.
    """
    check_same_grid(mask.geometry, image.geometry, "mask and image")
    if not mask.tensor.any():
        raise EmptyVolume(
            "No voxel of the mask is set", "at least one voxel above 0", "draw the mask again, or work without a mask"
        )


def _replace_nonfinite(image: Image) -> Image:
    seen = measure_intensities(image.tensor)
    if seen.nonfinite == 0 or not np.isfinite(seen.lowest).all():
        return image
    tensor = torch.stack(
        [
            torch.nan_to_num(channel, nan=low, posinf=low, neginf=low)
            for channel, low in zip(image.tensor, seen.lowest, strict=True)
        ]
    )
    note = Finding.warn(
        f"{seen.nonfinite} of {seen.total} voxels are NaN or infinite and were replaced by the minimum "
        f"({', '.join(f'{low:g}' for low in seen.lowest)})",
        "Check the result near these voxels.",
    )
    return replace(image, tensor=tensor, findings=(*image.findings, note))


def _describe(geometry: Geometry) -> str:
    centre = ", ".join(f"{x:.2f}" for x in geometry.centre_ras)
    return f"{join_numbers(geometry.size_ijk)} voxels of {join_numbers(geometry.spacing_mm)} mm, centre ({centre}) RAS"
