"""Write the tables of the registration presets into README.md and docs/registration.md, from the presets themselves."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from MedSegRegLib.register.presets import PRESETS, PURPOSES
from MedSegRegLib.register.settings import DeformableSettings, RegistrationSettings

REPOSITORY = Path(__file__).parents[1]
BEGIN, END = "<!-- presets, by tools/write_preset_tables.py -->\n", "<!-- end of presets -->\n"
SETTINGS_HEADER = (
    "preset",
    "linear",
    "dense similarity",
    "coarsening",
    "iterations",
    "sigma of step, of motion",
    "stiffness",
    "motion",
    "search, mm",
    "working voxels",
)


def tables() -> dict[Path, str]:
    """The file of each table, and the table."""
    purposes = [(f"`{name}`", purpose) for name, purpose in PURPOSES.items()]
    settings = [(f"`{name}`", *_settings_row(preset)) for name, preset in PRESETS.items()]
    return {
        REPOSITORY / "README.md": _table(("preset", "for"), purposes),
        REPOSITORY / "docs" / "registration.md": _table(SETTINGS_HEADER, settings),
    }


def with_table(text: str, table: str) -> str:
    """A text with the lines between its two marks replaced."""
    return re.sub(f"{re.escape(BEGIN)}.*?{re.escape(END)}", lambda _: BEGIN + table + END, text, flags=re.DOTALL)


def _settings_row(preset: RegistrationSettings) -> tuple[str, ...]:
    linear = f"{preset.linear}, {preset.linear_similarity}"
    dense = preset.deformable
    return (linear, *(_dense_cells(dense) if dense else [""] * (len(SETTINGS_HEADER) - 2)))


def _dense_cells(dense: DeformableSettings) -> list[str]:
    return [
        " + ".join([dense.similarity, *(f"{weight:g} {name}" for name, weight in dense.mixed_with.items())]),
        ", ".join(f"{factor:g}" for factor in dense.coarsening),
        ", ".join(map(str, dense.iterations)),
        f"{dense.update_sigma_voxels:g}, {dense.field_sigma_voxels:g}",
        f"{dense.stiffness}",
        f"{dense.model}{', symmetric' if dense.symmetric else ''}",
        f"{dense.search_reach_mm:g}" if dense.search_reach_mm else "",
        f"{dense.working_voxels / 1e6:g} million",
    ]


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main() -> int:
    """Rewrite the files in place."""
    for path, table in tables().items():
        path.write_text(with_table(path.read_text(encoding="utf-8"), table), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
