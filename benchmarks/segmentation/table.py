"""Rows become a table, and what was asked for becomes sentences. The walk's end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from runs import Row

COLUMNS = {
    "cpu_s": ("CPU s", ".1f"),
    "network_cpu_s": ("network", ".1f"),
    "rest_cpu_s": ("the rest", ".1f"),
    "wall_s": ("wall s", ".1f"),
    "tiles": ("tiles", ".0f"),
    "peak_mib": ("peak MiB", ".0f"),
    "before_mib": ("before MiB", ".0f"),
    "gpu_peak_mib": ("GPU MiB", ".0f"),
}


@dataclass(frozen=True)
class Asked:
    """A number that has a limit; ``value`` is None where it could not be measured."""

    what: str
    value: float | None
    limit: float
    at_least: bool = False

    def __str__(self) -> str:
        wanted = f"asked: at {'least' if self.at_least else 'most'} {self.limit:g}"
        if self.value is None:
            return f"- {self.what}: not measured ({wanted})"
        met = self.value >= self.limit if self.at_least else self.value <= self.limit
        return f"- {self.what}: {self.value:.4g} ({wanted}: {'met' if met else 'NOT met'})"


def as_markdown(title: str, rows: Mapping[str, Row], asked: Iterable[Asked]) -> str:
    """Columns that anybody has, then failures, then what was asked."""
    columns = {key: style for key, style in COLUMNS.items() if any(key in row.values for row in rows.values())}
    lines = [f"### {title}", "", f"| method | {' | '.join(label for label, _ in columns.values())} |"]
    lines.append(f"|---|{'---|' * len(columns)}")
    for name, row in rows.items():
        cells = [format(row.values[key], form) if key in row.values else "" for key, (_, form) in columns.items()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", *(f"- {name}: {row.failure}" for name, row in rows.items() if row.failure), *map(str, asked)]
    return "\n".join(lines) + "\n"
