"""Commands on models."""

from __future__ import annotations

from typing import Annotated

import typer

from .terminal import screen, show_result

app = typer.Typer(help="Models that are installed.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keeps 'list' a subcommand."""


@app.command("list")
def list_models(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")] = False,
) -> None:
    """List the installed models."""
    from rich.table import Table

    from ..files.model_store import list_models as installed

    models = installed()
    if as_json:
        show_result("", {"models": [model.model_dump(mode="json", exclude_none=True) for model in models]}, True)
        return
    table = Table("name", "title", "version", "input", "structures", "mean Dice on held-out cases", "licence")
    for model in models:
        dice = [scores["dice_mean"] for scores in model.scores.values() if "dice_mean" in scores]
        table.add_row(
            model.name,
            model.title,
            model.version,
            ", ".join(f"{c.modality} {c.name}" for c in model.channels),
            ", ".join(label.name for label in model.labels),
            f"{sum(dice) / len(dice):.3f}" if dice else "not measured",
            model.licence,
        )
    screen.print(table)
