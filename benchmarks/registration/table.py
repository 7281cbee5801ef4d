"""From the folders of runs to one table a group: medians over repeats, means over pairs. The walk's end."""

from __future__ import annotations

import json
from math import isfinite
from pathlib import Path
from statistics import fmean, median

from child import OURS

COLUMNS = {
    "dice": ("Dice", ".4f"),
    "hd95_mm": ("HD95 mm", ".2f"),
    "tre_mean_mm": ("TRE mm", ".3f"),
    "tre_p95_mm": ("TRE p95", ".2f"),
    "folded_percent": ("fold %", ".4f"),
    "folded_corner_percent": ("fold8 %", ".4f"),
    "folded_anywhere_percent": ("fold8 all %", ".4f"),
    "sdlogj": ("SDlogJ", ".3f"),
    "inverse_mean_voxels": ("inv mean vox", ".3f"),
    "inverse_p99_voxels": ("inv p99", ".3f"),
    "cpu_s": ("CPU s", ".1f"),
    "affine_cpu_s": ("of it affine", ".1f"),
    "cpu_ratio": ("CPU / ours", ".2f"),
    "wall_s": ("wall s", ".1f"),
    "peak_mib": ("peak MiB", ".0f"),
    "above_imports_mib": ("above imports", ".0f"),
    "gpu_peak_mib": ("GPU MiB", ".0f"),
}


def collect(results: Path, methods: list[str], pairs: list[str]) -> dict[str, dict]:
    """What is known about each method.

    Args:
        results: folder of a group: ``PAIR/METHOD/REPEAT/{usage,score}.json`` or ``failure.txt``.

    Returns:
        By method: ``pairs`` (by name, each score's median over repeats), ``failures`` (reasons by pair),
        ``mean`` (over pairs that have the score).
    """
    table: dict[str, dict] = {}
    for method in methods:
        row: dict[str, dict] = {"pairs": {}, "failures": {}, "mean": {}}
        for pair in pairs:
            runs = sorted((results / pair / method).glob("*"))
            scores = [_read_run(run) for run in runs if (run / "score.json").exists()]
            if scores:
                row["pairs"][pair] = {key: median(s[key] for s in scores if key in s) for key in _keys(scores)}
            if reasons := [path.read_text() for run in runs if (path := run / "failure.txt").exists()]:
                row["failures"][pair] = reasons[-1]
        found = list(row["pairs"].values())
        row["mean"] = {key: fmean(scores[key] for scores in found if key in scores) for key in _keys(found)}
        table[method] = row
    return _with_ratio(table)


def as_markdown(title: str, table: dict[str, dict]) -> str:
    """A table of the means, columns that anybody has, and the failures below it."""
    columns = {key: style for key, style in COLUMNS.items() if any(key in row["mean"] for row in table.values())}
    lines = [
        f"### {title}",
        "",
        f"| method | pairs | {' | '.join(label for label, _ in columns.values())} |",
        f"|---|---|{'---|' * len(columns)}",
    ]
    for method, row in table.items():
        cells = [format(row["mean"][key], form) if key in row["mean"] else "" for key, (_, form) in columns.items()]
        lines.append(f"| {method} | {len(row['pairs'])} | {' | '.join(cells)} |")
    failures = [
        f"- {method}, {pair}: {reason}" for method, row in table.items() for pair, reason in row["failures"].items()
    ]
    return "\n".join([*lines, "", *failures, *([""] if failures else [])])


def _read_run(run: Path) -> dict[str, float]:
    usage, score = (json.loads((run / name).read_text()) for name in ("usage.json", "score.json"))
    parts = {f"{part}_cpu_s": seconds for part, seconds in usage["parts"].items()}
    values = {**usage, **parts, **score}
    return {key: value for key, value in values.items() if isinstance(value, (int, float)) and isfinite(value)}


def _keys(rows: list[dict[str, float]]) -> list[str]:
    return sorted({key for row in rows for key in row})


def _with_ratio(table: dict[str, dict]) -> dict[str, dict]:
    """CPU-seconds of each method as a multiple of our first row's, over the pairs that both have."""
    own_rows = [row["pairs"] for name, row in table.items() if name.startswith(OURS) and row["pairs"]]
    ours: dict[str, dict[str, float]] = own_rows[0] if own_rows else {}
    for row in table.values():
        both = [pair for pair in row["pairs"] if pair in ours]
        if both:
            theirs, own = (fmean(pairs[pair]["cpu_s"] for pair in both) for pairs in (row["pairs"], ours))
            row["mean"]["cpu_ratio"] = theirs / own
    return table
