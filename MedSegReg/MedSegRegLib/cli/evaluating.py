"""Command: evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .images import Json, Overwrite
from .terminal import messages, progress_bar, screen, show_result


def add_commands(app: typer.Typer) -> None:
    """Register this file's commands."""
    app.command()(evaluate)


def evaluate(
    truth: Annotated[Path, typer.Argument(help="Label map, or a folder of them.")],
    prediction: Annotated[
        Path, typer.Argument(help="Label map on the same grid, or a folder with files of the same names.")
    ],
    tolerance_mm: Annotated[float, typer.Option(help="Of the normalised surface Dice.")] = 1.0,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Also write the scores as .csv or .json.")
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Compare label maps: Dice, IoU, accuracy, sensitivity, specificity, precision, volumes, distances in mm."""
    from dataclasses import asdict

    from ..evaluate.scores import compare_labels, summarize
    from ..evaluate.tables import scores_table, summary_table, write_csv, write_json
    from ..files import read_labels, require_writable
    from ..train.dataset import pair_files

    if output is not None:
        require_writable(output, overwrite, extensions=(".csv", ".json"))
    pairs = pair_files(truth, prediction)
    cases = {}
    with progress_bar("evaluate") as progress:
        for number, (name, first, second) in enumerate(pairs):
            progress.update(number / len(pairs), name)
            cases[name] = compare_labels(read_labels(first), read_labels(second), tolerance_mm=tolerance_mm)
    if output is not None:
        (write_csv if output.suffix == ".csv" else write_json)(cases, output)
        messages.print(f"written: {output}", markup=False)
    if as_json:
        show_result("", {"cases": {name: [asdict(s) for s in scores] for name, scores in cases.items()}}, True)
    elif len(cases) == 1:
        screen.print(scores_table(next(iter(cases.values())), next(iter(cases))))
    else:
        screen.print(summary_table(summarize(cases), f"{len(cases)} cases"))
