"""Pictures of results, to look at and to put in a report: PNG files, drawn without a window. Evaluation, last stop."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgb, to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from skimage.feature import canny

from ..errors import GeometryMismatch, NonFiniteVoxels
from ..files.atomic import atomic_path
from ..geometry import Geometry
from ..image import Image, Labels, Structure
from .planes import Plane, cut_planes, find_centre

BACKGROUND, INK, FAINT, EDGE, FOLDING = "#0e1116", "#e6e8eb", "#8b949e", "#ffb000", "#f4ff3a"
VOLUME_CHANGE = LinearSegmentedColormap.from_list(
    "volume_change", ["#9ad8ff", "#2b7fe0", BACKGROUND, "#e0482b", "#ffc89a"]
)
WIDEST, TALLEST, GAP, DOTS_PER_INCH = 10.0, 12.0, 0.1, 140  # inches
LEGEND_ENTRIES, LONGEST_NAME, FILL_ALPHA = 36, 30, 0.3
EDGE_SIGMA_MM, SQUARES = 1.5, 10  # squares along the longest side of the field of view


def overlay(image: Image, labels: Labels | None, path: str | Path, title: str = "") -> None:
    """Labels as transparent fill and contour, in their colours, over three planes through the labels' centre.

    Args:
        image: what lies below; its first channel is shown, between the 1st and the 99.9th percentile.
        labels: on any grid; None draws the image alone, through its centre.
        path: the PNG to write.
        title: above the picture.
    """
    planes = cut_planes(image.geometry, image.geometry.centre_ras if labels is None else find_centre(labels))
    axial, coronal, sagittal = planes
    figure, grid = _figure((coronal.height_mm, axial.height_mm), (axial.width_mm, sagittal.width_mm), title)
    areas: Counter[int] = Counter()
    for axes, plane, picture in zip(
        (grid[1, 0], grid[0, 0], grid[0, 1]), planes, sample_planes(image, planes), strict=True
    ):
        draw_picture(axes, plane, picture)
        if labels is not None:
            areas.update(_draw_labels(axes, plane, labels))
    if labels is not None:
        _draw_legend(grid[1, 1], [_structure(labels, value) for value, _ in areas.most_common()])
    save_figure(figure, path)


def checkerboard(fixed: Image, moved: Image, path: str | Path, title: str = "") -> None:
    """Alternating squares of two images on one grid: where contours go on from square to square, the images agree.

    Each image has its own intensity window, so that images of two kinds can be compared.

    Raises:
        GeometryMismatch: the grids differ.
    """
    _require_same_grid(fixed, moved)
    planes = cut_planes(fixed.geometry, fixed.geometry.centre_ras)
    figure, grid = row_of_planes(planes, 1, title)
    side = max(max(plane.geometry.size_ijk) for plane in planes) / SQUARES
    for axes, plane, a, b in zip(
        grid[0], planes, sample_planes(fixed, planes), sample_planes(moved, planes), strict=True
    ):
        row, column = np.indices(a.shape)
        odd = (row // side + column // side) % 2 == 1
        draw_picture(axes, plane, np.where(odd, b, a))
    save_figure(figure, path)


def before_after(fixed: Image, moving_on_fixed: Image, moved: Image, path: str | Path, title: str = "") -> None:
    """Fixed image, moving image before and moving image after registration, with the edges of the fixed in colour.

    Args:
        moving_on_fixed: the moving image resampled onto the fixed grid without the registration.
        moved: the same with it.

    Raises:
        GeometryMismatch: the grids differ.
    """
    _require_same_grid(fixed, moving_on_fixed)
    _require_same_grid(fixed, moved)
    planes = cut_planes(fixed.geometry, fixed.geometry.centre_ras)
    figure, grid = row_of_planes(planes, 3, title, left=0.35)
    edges = [_edges(plane, picture) for plane, picture in zip(planes, sample_planes(fixed, planes), strict=True)]
    rows = {"fixed": fixed, "before": moving_on_fixed, "after": moved}
    for line, (name, image) in zip(grid, rows.items(), strict=True):
        for axes, plane, picture, mask in zip(line, planes, sample_planes(image, planes), edges, strict=True):
            draw_picture(axes, plane, picture)
            _draw_mask(axes, plane, mask, EDGE)
        line[0].set_ylabel(name, color=INK, fontsize=12)
    save_figure(figure, path)


def jacobian_map(
    jacobian: torch.Tensor, geometry: Geometry, background: Image, path: str | Path, title: str = ""
) -> None:
    """Local volume change of a transform: log J over an image, blue smaller, red larger, nothing where J = 1.

    Folded places (J <= 0) are yellow, and the planes go through the worst of them.

    Args:
        jacobian: [K, J, I] determinant of the fixed-to-moving map: moving volume / fixed volume.
        geometry: the grid of ``jacobian``.
        background: the fixed image.

    Raises:
        GeometryMismatch: ``jacobian`` does not fit its grid.
        NonFiniteVoxels: it holds NaN or infinite values.
    """
    change = Image(jacobian.detach().cpu().float()[None], geometry)
    values = change.numpy()[0]
    if not np.isfinite(values).all():
        raise NonFiniteVoxels(
            f"{(~np.isfinite(values)).sum()} Jacobian determinants are not finite",
            "finite numbers",
            "compute the transform again",
        )
    folds = Labels.from_array(values <= 0, geometry)
    count = int(folds.tensor.sum())
    worst = np.unravel_index(values.argmin(), values.shape)[::-1]
    logarithm = change.with_tensor(change.tensor.clamp(min=1e-2).log())
    limit = float(np.clip(np.quantile(np.abs(logarithm.numpy()), 0.995), 0.01, np.log(10)))
    planes = cut_planes(background.geometry, geometry.map_voxels(np.array(worst)) if count else geometry.centre_ras)
    figure, grid = row_of_planes(planes, 1, title, bottom=0.8)
    for axes, plane, picture in zip(grid[0], planes, sample_planes(background, planes), strict=True):
        draw_picture(axes, plane, picture)
        shown = np.nan_to_num(plane.sample(logarithm))
        alpha = 0.8 * np.minimum(np.abs(shown) / limit, 1)
        drawn = axes.imshow(
            shown, VOLUME_CHANGE, vmin=-limit, vmax=limit, alpha=alpha, extent=plane.extent_mm, origin="lower"
        )
        _draw_mask(axes, plane, plane.sample_labels(folds) > 0, FOLDING)
    height = figure.get_figheight()
    bar = figure.colorbar(drawn, cax=figure.add_axes((0.25, 0.6 / height, 0.5, 0.1 / height)), orientation="horizontal")
    bar.set_label(
        f"log J (moving volume / fixed volume); J from {values.min():.3g} to {values.max():.3g}; "
        f"{count} of {values.size} voxels fold",
        color=INK,
    )
    bar.ax.tick_params(colors=FAINT)
    bar.outline.set_visible(False)
    save_figure(figure, path)


def _figure(
    heights_mm: Sequence[float], widths_mm: Sequence[float], title: str, left: float = GAP, bottom: float = GAP
) -> tuple[Figure, np.ndarray]:
    """Rows and columns of axes, all at one scale; ``left`` and ``bottom`` are margins in inches."""
    inches = min(WIDEST / sum(widths_mm), TALLEST / sum(heights_mm))  # per mm
    top = 5 * GAP if title else GAP
    width = left + sum(widths_mm) * inches + GAP * len(widths_mm)
    height = bottom + sum(heights_mm) * inches + GAP * (len(heights_mm) - 1) + top
    figure = Figure((width, height), DOTS_PER_INCH, facecolor=BACKGROUND)
    grid = np.empty((len(heights_mm), len(widths_mm)), object)
    for row, column in np.ndindex(grid.shape):
        x = left + sum(widths_mm[:column]) * inches + GAP * column
        y = height - top - sum(heights_mm[: row + 1]) * inches - GAP * row
        box = (x / width, y / height, widths_mm[column] * inches / width, heights_mm[row] * inches / height)
        grid[row, column] = axes = figure.add_axes(box, facecolor=BACKGROUND, xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    figure.text(0.5, 1 - 2.5 * GAP / height, title, color=INK, fontsize=13, ha="center", va="center", parse_math=False)
    return figure, grid


def row_of_planes(planes: Sequence[Plane], rows: int, title: str, **margins: float) -> tuple[Figure, np.ndarray]:
    """A figure of as many rows of these planes, and its axes [rows, planes]."""
    return _figure([max(p.height_mm for p in planes)] * rows, [p.width_mm for p in planes], title, **margins)


def sample_planes(image: Image, planes: Sequence[Plane]) -> list[np.ndarray]:
    """The planes of an image with one intensity window: 0 black, 1 white, NaN outside the image."""
    pictures = [plane.sample(image) for plane in planes]
    inside = np.concatenate([picture[np.isfinite(picture)] for picture in pictures])
    low, high = np.percentile(inside, (1, 99.9)) if inside.size else (0.0, 1.0)
    return [(picture - low) / max(high - low, 1e-6) for picture in pictures]


def draw_picture(axes: Axes, plane: Plane, picture: np.ndarray) -> None:
    """A plane in gray, 0 black and 1 white, with its directions and position."""
    gray = colormaps["gray"].with_extremes(bad=BACKGROUND)
    axes.imshow(picture, gray, vmin=0, vmax=1, extent=plane.extent_mm, origin="lower", interpolation="bilinear")
    axes.set_xlim(plane.extent_mm[1], plane.extent_mm[0])  # the larger coordinate (R, A) on the left
    view = plane.view
    texts = [
        (0.015, 0.5, view.left, "left", "center"),
        (0.985, 0.5, view.right, "right", "center"),
        (0.5, 0.985, view.top, "center", "top"),
        (0.015, 0.015, f"{view.name}  {plane.position}", "left", "bottom"),
    ]
    for x, y, text, across, up in texts:
        axes.text(
            x,
            y,
            text,
            color=INK,
            fontsize=9,
            transform=axes.transAxes,
            ha=across,
            va=up,
            path_effects=[withStroke(linewidth=2, foreground=BACKGROUND)],
        )


def _draw_labels(axes: Axes, plane: Plane, labels: Labels) -> dict[int, int]:
    """Draw all labels of a plane; returns the pixels of each."""
    picture = plane.sample_labels(labels)
    values, place, counts = np.unique(picture, return_inverse=True, return_counts=True)
    colors = np.array([(*_structure(labels, value).color, FILL_ALPHA if value else 0) for value in values.tolist()])
    axes.imshow(colors[place.reshape(picture.shape)], extent=plane.extent_mm, origin="lower", interpolation="nearest")
    areas = {value: count for value, count in zip(values.tolist(), counts.tolist(), strict=True) if value}
    for value in areas:
        _draw_contour(axes, plane, picture == value, _structure(labels, value).color)
    return areas


def _draw_mask(axes: Axes, plane: Plane, mask: np.ndarray, color: str) -> None:
    fill = np.zeros((*mask.shape, 4))
    fill[mask] = to_rgba(color)
    axes.imshow(fill, extent=plane.extent_mm, origin="lower", interpolation="nearest")


def _draw_contour(axes: Axes, plane: Plane, mask: np.ndarray, color: tuple[float, float, float]) -> None:
    pixel = plane.geometry.spacing_mm[0]
    x0, x1, y0, y1 = plane.extent_mm
    padded = np.pad(mask, 1).astype(float)  # closed at the border, and at least 3 x 3
    axes.contour(
        padded,
        [0.5],
        colors=[color],
        linewidths=1.0,
        origin="lower",
        extent=(x0 - pixel, x1 + pixel, y0 - pixel, y1 + pixel),
    )


def _edges(plane: Plane, picture: np.ndarray) -> np.ndarray:
    filled = np.clip(np.nan_to_num(picture), 0, 1)
    return canny(filled, sigma=EDGE_SIGMA_MM / plane.geometry.spacing_mm[0])


def _structure(labels: Labels, value: int) -> Structure:
    """What a label value means; a number and a colour of its own when the label map does not say."""
    unnamed = Structure(value, f"label {value}", to_rgb(colormaps["tab20"](value % 20)))
    return next((structure for structure in labels.structures if structure.value == value), unnamed)


def _draw_legend(axes: Axes, structures: Sequence[Structure]) -> None:
    names = [s.name if len(s.name) <= LONGEST_NAME else f"{s.name[: LONGEST_NAME - 1]}…" for s in structures]
    handles = [Line2D([], [], color=s.color, marker="s", linestyle="", markersize=8) for s in structures]
    if len(names) > LEGEND_ENTRIES:
        names[LEGEND_ENTRIES:] = [f"and {len(names) - LEGEND_ENTRIES} more"]
        handles[LEGEND_ENTRIES:] = [Line2D([], [], linestyle="")]
    few = len(names) <= LEGEND_ENTRIES // 2
    legend = axes.legend(
        handles,
        names,
        loc="center",
        frameon=False,
        labelcolor=INK,
        fontsize=10 if few else 8,
        ncols=1 if few else 2,
        handletextpad=0.3,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)


def save_figure(figure: Figure, path: str | Path) -> None:
    """As a PNG file, whole or not at all."""
    with atomic_path(path) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        figure.savefig(temporary, format="png")


def _require_same_grid(fixed: Image, other: Image) -> None:
    if not fixed.geometry.same_grid(other.geometry):
        raise GeometryMismatch(
            f"The images have {fixed.geometry.size_ijk} and {other.geometry.size_ijk} voxels, or differ in position",
            "both on the fixed image's grid",
            "resample the moving image onto the fixed grid",
        )
