"""One image in colour over another, as PET is shown over CT. Evaluation, a picture beside those of ``pictures``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

import numpy as np
from matplotlib import colormaps

from ..errors import GeometryMismatch, InvalidSetting
from ..image import Image
from .pictures import draw_picture, row_of_planes, sample_planes, save_figure
from .planes import cut_planes

FusionStyle = Literal["blend", "pet"]
COLORS: dict[FusionStyle, str] = {"blend": "copper", "pet": "hot"}
HALF, FULL_FROM = 0.5, 0.35


def draw_fusion(
    reference: Image, other: Image, path: str | Path, style: FusionStyle = "blend", title: str = ""
) -> None:
    """The reference in grey, and the other image in colour above it, in three planes through the centre.

    Args:
        reference, other: on one grid.
        path: the PNG to write.
        style: ``blend`` shows half of each everywhere; ``pet`` shows only what is bright in the other, in the colours
            of hot metal, the more the brighter.

    Raises:
        GeometryMismatch: the grids differ.
        InvalidSetting: another style.
    """
    if style not in get_args(FusionStyle):
        raise InvalidSetting(f"The style is '{style}'", f"one of {', '.join(COLORS)}", "choose one of these")
    if not reference.geometry.same_grid(other.geometry):
        raise GeometryMismatch(
            "The images lie on different grids", "both on the reference's grid", "align them first, or resample one"
        )
    planes = cut_planes(reference.geometry, reference.geometry.centre_ras)
    figure, grid = row_of_planes(planes, 1, title)
    for axes, plane, below, above in zip(
        grid[0], planes, sample_planes(reference, planes), sample_planes(other, planes), strict=True
    ):
        draw_picture(axes, plane, below)
        axes.imshow(color_layer(above, style), extent=plane.extent_mm, origin="lower", interpolation="bilinear")
    save_figure(figure, path)


def color_layer(values: np.ndarray, style: FusionStyle) -> np.ndarray:
    """[rows, columns, 4] red, green, blue and opacity in 0..1, of intensities from 0 to 1; NaN is transparent."""
    shown = np.clip(np.nan_to_num(values), 0, 1)
    layer = np.array(colormaps[COLORS[style]](shown))
    opacity = np.full(shown.shape, HALF) if style == "blend" else np.clip(shown / FULL_FROM, 0, 1) * 0.8
    layer[..., 3] = np.where(np.isfinite(values), opacity, 0)
    return layer
