"""Scores as files (CSV, JSON) and as tables for the terminal. Evaluation, last stop.

Not applicable is an empty cell in CSV and on the screen, and ``null`` in JSON: never NaN.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path

from rich.table import Table
from rich.text import Text

from ..files.atomic import atomic_path
from .metrics import METRICS, Metric, StructureScores
from .scores import MetricSummary, StructureSummary, summarize

VOLUMES = ("truth_ml", "prediction_ml")
SHOWN = tuple(m for m in METRICS if m.name in ("dice", "nsd", "hd95_mm", "assd_mm", "volume_error_ml"))

Cases = Mapping[str, Sequence[StructureScores]]


def write_csv(cases: Cases, path: str | Path) -> None:
    """One line a case and structure: all counts, volumes and metrics; UTF-8, empty cell for *not applicable*."""
    rows = _rows(cases)
    header = list(rows[0]) if rows else ["case", "name", "value"]
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, header)
        writer.writeheader()
        writer.writerows(rows)


def write_json(cases: Cases, path: str | Path, seed: int = 0) -> None:
    """The same lines under ``scores``, and under ``summary`` what :func:`summarize` makes of them; ``null`` for n/a."""
    content = {"scores": _rows(cases), "summary": [asdict(structure) for structure in summarize(cases, seed)]}
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False), encoding="utf-8")


def scores_table(scores: Sequence[StructureScores], title: str = "") -> Table:
    """One case for the terminal: a line a structure."""
    table = _table(title, [_title(metric, scores) for metric in SHOWN], ["Structure", "Truth (ml)", "Found (ml)"])
    for score in scores:
        numbers = [_number(getattr(score, metric.name), metric) for metric in SHOWN]
        _add_row(
            table,
            score.name,
            f"{score.truth_ml:.2f}",
            f"{score.prediction_ml:.2f}",
            *numbers,
            "" if score.outcome == "scored" else score.outcome,
        )
    return table


def summary_table(summaries: Sequence[StructureSummary], title: str = "") -> Table:
    """Many cases for the terminal: mean, its 95 % interval and worst case of the main metrics, a line a structure."""
    table = _table(title, [f"{metric.title}\nmean [95 %]\nworst" for metric in SHOWN], ["Structure", "Cases"])
    for summary in summaries:
        numbers = [_spread(summary.metrics.get(metric.name), metric) for metric in SHOWN]
        counts = {"missed": summary.missed, "invented": summary.invented, "absent": summary.absent}
        _add_row(
            table,
            summary.name,
            str(summary.cases),
            *numbers,
            "\n".join(f"{count} {what}" for what, count in counts.items() if count),
        )
    return table


def _rows(cases: Cases) -> list[dict[str, object]]:
    names = ["name", "value", "outcome", *VOLUMES, *(m.name for m in METRICS)]
    names += [f.name for f in fields(StructureScores) if f.name not in names]
    return [
        {"case": case, **{name: getattr(score, name) for name in names}}
        for case, scores in cases.items()
        for score in scores
    ]


def _table(title: str, metrics: Sequence[str], leading: Sequence[str]) -> Table:
    table = Table(title=Text(title) if title else None)
    for n, heading in enumerate((*leading, *metrics)):
        table.add_column(heading, justify="right" if n else "left")
    table.add_column("")
    return table


def _add_row(table: Table, *cells: str) -> None:
    table.add_row(*(Text(cell) for cell in cells))  # Text: a name such as "[left]" is no markup


def _title(metric: Metric, scores: Sequence[StructureScores]) -> str:
    return f"NSD at {scores[0].tolerance_mm:g} mm" if metric.name == "nsd" and scores else metric.title


def _number(number: float | None, metric: Metric) -> str:
    return "" if number is None else f"{number:.{metric.decimals}f}"


def _spread(summary: MetricSummary | None, metric: Metric) -> str:
    if summary is None:
        return ""
    interval = "" if summary.low is None else f" [{_number(summary.low, metric)}, {_number(summary.high, metric)}]"
    return f"{_number(summary.mean, metric)}{interval}\n{_number(summary.worst, metric)} {summary.worst_case}"
