"""A comparison of visits on one page: pictures, numbers with error bars, a plot. Follow-up's walk, last stop."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure

from ..evaluate.planes import Plane, cut_planes
from ..files.atomic import atomic_path
from ..image import Image
from .followup import FollowUp
from .followup_compare import UNCHANGED, Change, Interval

PAGE_INCHES = 8.27, 11.69
DOTS_PER_INCH = 110
LARGEST_Z, FAINTEST_Z, LARGEST_PERCENT, FAINTEST_PERCENT = 8.0, 3.0, 30.0, 3.0
ROWS_ON_THE_PAGE, LINES_IN_THE_PLOT = 14, 8
STYLE = (
    "body{font:14px/1.45 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1f24}"
    "img{max-width:100%}table{border-collapse:collapse;margin:1rem 0}td,th{padding:.2rem .6rem;text-align:right;"
    "border-bottom:1px solid #d5dae0}td:first-child,th:first-child,td:last-child,th:last-child{text-align:left}"
)
NOTE = (
    "Errors are 95 % error bars. Change of intensity: in standard deviations of what noise and registration give by "
    "themselves. Not a medical device."
)

Columns = dict[str, list[str] | list[float]]


def change_columns(interval: Interval) -> Columns:
    """Structures and lesions as columns of a table, headings with units; NaN where there is no number."""
    changes = interval.changes
    return {
        "structure": [change.name for change in changes],
        "before (ml)": _numbers([change.before_ml for change in changes]),
        "after (ml)": _numbers([change.after_ml for change in changes]),
        "change (ml)": _numbers([change.change_ml for change in changes]),
        "error (ml)": _numbers([change.error_ml for change in changes]),
        "change (%)": _numbers([change.percent for change in changes]),
        "by deformation (ml)": _numbers([change.deformation_ml for change in changes]),
        "error of it (ml)": _numbers([change.deformation_error_ml for change in changes]),
        "verdict": [change.verdict for change in changes],
    }


def volume_columns(result: FollowUp) -> Columns:
    """Volume of each structure at each visit, with the ends of its error bar: columns of a table, a row a visit."""
    columns: Columns = {
        "visit": list(result.names),
        "number": [float(n) for n in range(1, len(result.names) + 1)],
    }
    for structure in result.volumes:
        ml, error = np.array(_numbers(structure.ml)), np.array(_numbers(structure.error_ml))
        columns[f"{structure.name} (ml)"] = ml.tolist()
        columns[f"{structure.name}, least (ml)"] = (ml - error).tolist()
        columns[f"{structure.name}, most (ml)"] = (ml + error).tolist()
    return columns


def draw_png(result: FollowUp, interval: Interval) -> bytes:
    """Both visits, what changed in intensity and in volume, in three planes; and the volumes: a PNG file."""
    figure = Figure((PAGE_INCHES[0], 10.0), DOTS_PER_INCH, facecolor="white")
    _draw(figure, result, interval, bottom=0.03)
    png = io.BytesIO()
    figure.savefig(png, format="png")
    return png.getvalue()


def write_html(result: FollowUp, path: str | Path) -> None:
    """One file with everything in it: it can be sent and printed."""
    parts = [f"<h1>Follow-up</h1><p>{escape(result.sentence)}</p>"]
    for interval in result.intervals:
        encoded = base64.b64encode(draw_png(result, interval)).decode("ascii")
        parts.append(f"<h2>{escape(_title(result, interval))}</h2>{_html_table(change_columns(interval))}")
        parts.append(f'<img alt="{escape(_title(result, interval))}" src="data:image/png;base64,{encoded}">')
    parts += [f"<p>{escape(str(finding))}</p>" for finding in result.findings]
    page = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Follow-up</title><style>{STYLE}</style>'
    with atomic_path(path) as temporary:
        temporary.write_text(f"{page}{''.join(parts)}<p>{escape(NOTE)}</p></html>\n", encoding="utf-8")


def write_pdf(result: FollowUp, path: str | Path) -> None:
    """A page for each interval, with the first rows of its table."""
    with atomic_path(path) as temporary, PdfPages(temporary) as pages:
        for interval in result.intervals:
            figure = Figure(PAGE_INCHES, facecolor="white")
            figure.text(0.06, 0.965, _title(result, interval), fontsize=13, weight="bold", parse_math=False)
            _draw(figure, result, interval, bottom=0.36, top=0.95)
            _draw_table(figure.add_axes((0.06, 0.04, 0.88, 0.29)), change_columns(interval))
            figure.text(0.06, 0.02, NOTE, fontsize=6.5, color="#57606a")
            pages.savefig(figure, dpi=150)


def _draw(figure: Figure, result: FollowUp, interval: Interval, bottom: float, top: float = 0.98) -> None:
    images = result.images[interval.earlier], result.images[interval.later]
    planes = cut_planes(result.midway.grid, _place_to_look(result, interval))
    volume = interval.jacobian.with_tensor(100 * (interval.jacobian.tensor - 1))
    rows: list[tuple[str, Image, Image | None, float, float]] = [
        (result.names[interval.earlier], images[0], None, 1.0, 0.0),
        (result.names[interval.later], images[1], None, 1.0, 0.0),
        ("change of intensity (SD)", images[1], interval.subtraction, LARGEST_Z, FAINTEST_Z),
        ("change of volume (%)", images[1], volume, LARGEST_PERCENT, FAINTEST_PERCENT),
    ]
    height = (top - bottom) / (len(rows) + 0.9)
    width = 0.27
    for line, (name, below, above, largest, faintest) in enumerate(rows):
        for column, plane in enumerate(planes):
            box = (0.06 + column * width, top - (line + 1) * height + 0.004, width - 0.006, height - 0.012)
            axes = figure.add_axes(box, facecolor="black", xticks=[], yticks=[])
            drawn = _draw_plane(axes, plane, below, above, largest, faintest)
            if column == 0:
                axes.set_ylabel(name, fontsize=7, parse_math=False)
        if above is not None:
            bar = figure.colorbar(drawn, cax=figure.add_axes((0.88, box[1] + 0.01, 0.012, box[3] - 0.02)))
            bar.ax.tick_params(labelsize=7)
    if result.volumes:
        _draw_volumes(figure.add_axes((0.12, bottom + 0.02, 0.5, 0.75 * height)), result, interval)


def _draw_plane(axes: Axes, plane: Plane, below: Image, above: Image | None, largest: float, faintest: float):
    picture = plane.sample(below)
    shown = picture[np.isfinite(picture)]
    low, high = np.percentile(shown, (1, 99.7)) if shown.size else (0.0, 1.0)
    extent = plane.extent_mm
    axes.imshow(picture, "gray", vmin=low, vmax=max(high, low + 1e-6), extent=extent, origin="lower")
    axes.set_xlim(extent[1], extent[0])  # the patient's right, and front, on the left
    axes.text(0.02, 0.02, plane.position, color="white", fontsize=6, transform=axes.transAxes)
    if above is None:
        return None
    values = np.nan_to_num(plane.sample(above))
    alpha = np.clip((np.abs(values) - faintest) / (largest - faintest), 0, 1) ** 0.5
    return axes.imshow(values, "bwr", vmin=-largest, vmax=largest, alpha=alpha, extent=extent, origin="lower")


def _draw_volumes(axes: Axes, result: FollowUp, interval: Interval) -> None:
    """In percent of the first one, those that changed most; with error bars."""
    changed = {change.value: abs(change.percent or 0.0) for change in interval.changes if not change.lesion}
    order = sorted(result.volumes, key=lambda one: -changed.get(one.value, 0.0))[:LINES_IN_THE_PLOT]
    places = np.arange(1, len(result.names) + 1)
    for number, structure in enumerate(order):
        ml, error = np.array(_numbers(structure.ml)), np.array(_numbers(structure.error_ml))
        known = ml[np.isfinite(ml) & (ml > 0)]
        if len(known):
            scale = 100 / known[0]
            shift = 0.03 * (number - len(order) / 2)
            name = structure.name.replace("$", r"\$")
            axes.errorbar(places + shift, ml * scale, error * scale, marker="o", ms=3, lw=1, capsize=2, label=name)
    axes.set_xticks(places, [name.replace("$", r"\$") for name in result.names], fontsize=7)
    axes.set_ylabel("volume (% of first)", fontsize=7)
    axes.tick_params(axis="y", labelsize=7)
    axes.margins(x=0.15)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=6, loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False)


def _draw_table(axes: Axes, columns: Columns) -> None:
    axes.axis("off")
    rows = list(zip(*(_cells(cells) for cells in columns.values()), strict=True))
    more = len(rows) - ROWS_ON_THE_PAGE
    if not rows:
        axes.text(0, 1, "Nothing was drawn.", fontsize=8, va="top")
        return
    shown = [[cell.replace("$", r"\$") for cell in row] for row in rows[:ROWS_ON_THE_PAGE]]
    table = axes.table(shown, colLabels=list(columns), loc="upper left", edges="horizontal")
    table.auto_set_font_size(False)
    table.set_fontsize(6)
    table.auto_set_column_width(range(len(columns)))
    if more > 0:
        axes.text(0, 0, f"and {more} more", fontsize=7)


def _place_to_look(result: FollowUp, interval: Interval) -> np.ndarray:
    """The largest change of a lesion, else of a structure; else the middle of the field of view."""

    def weight(change: Change) -> tuple[bool, bool, float]:
        amount = change.deformation_ml if change.change_ml is None else change.change_ml
        return change.verdict != UNCHANGED, change.lesion, abs(amount)

    if not interval.changes:
        return result.midway.grid.centre_ras
    return np.array(max(interval.changes, key=weight).centre_ras)


def _title(result: FollowUp, interval: Interval) -> str:
    return f"{result.names[interval.earlier]} to {result.names[interval.later]}"


def _html_table(columns: Mapping[str, Sequence[str] | Sequence[float]]) -> str:
    rows = zip(*(_cells(cells) for cells in columns.values()), strict=True)
    head = "".join(f"<th>{escape(heading)}</th>" for heading in columns)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _cells(cells: Sequence[str] | Sequence[float]) -> list[str]:
    return [cell if isinstance(cell, str) else "" if np.isnan(cell) else f"{cell:.3g}" for cell in cells]


def _numbers(values: Sequence[float | None]) -> list[float]:
    return [float("nan") if value is None else float(value) for value in values]
