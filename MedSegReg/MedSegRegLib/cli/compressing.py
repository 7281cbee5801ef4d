"""Command: model compress. A model made smaller and faster, measured on the user's own images."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .images import Device, Json
from .models import Name
from .quantising import app
from .terminal import plain, progress_bar, screen, show_result

if TYPE_CHECKING:
    from ..train.compression_card import Compression


@app.command()
def compress(
    name: Name,
    cases: Annotated[
        Path,
        typer.Option(
            help="Images of the kind that the model is used on, of two patients or more: a folder of images, or cases "
            "with labels, laid out as for 'medsegreg train'. Half of the patients are measured on."
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for the package of the best variant.")
    ] = None,
    install: Annotated[bool, typer.Option("--install", help="Install it among your models.")] = False,
    replace: Annotated[bool, typer.Option(help="Replace an installed model of the same name.")] = False,
    new_name: Annotated[str | None, typer.Option("--name", help="Of the new model (MODEL-VARIANT).")] = None,
    tolerance: Annotated[
        float, typer.Option(help="How much mean Dice may be lost for the sake of speed.", min=0, max=1)
    ] = 0.01,
    steps: Annotated[
        int | None, typer.Option(help="Of the student's training, instead of the usual number.", min=1)
    ] = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Make a model smaller and faster: try int8 and networks of half the channels, and keep what serves best here.

    Prints Dice, HD95, seconds, memory and size of every variant on your images. The best is the fastest whose mean Dice
    is not more than --tolerance below the full model's. Without labels, Dice is against what the full model finds.
    """
    from ..files.model_package import read_spec
    from ..files.model_store import install as install_packages
    from ..files.model_store import model_folder, stage, staging_folder
    from ..train.compress import compress_model
    from ..train.distil import Distillation
    from ..train.samples import read_samples

    spec = read_spec(model_folder(name))
    _require_place(spec.name, output, install, new_name, replace)
    settings = Distillation() if steps is None else Distillation(steps=steps)
    outcome: Mapping[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="medsegreg-") as temporary, progress_bar("compress") as progress:
        place = output or Path(temporary) / "model"
        samples = read_samples(cases, spec)
        result = compress_model(
            name, samples, place, settings, tolerance=tolerance, name=new_name, device=device, progress=progress
        )
        if install and result.spec:
            with staging_folder() as staging:
                outcome = install_packages(stage(place, staging), replace)
    _show(result, output, outcome, as_json)


def _require_place(model: str, output: Path | None, install: bool, name: str | None, replace: bool) -> None:
    """Before any work: somewhere to put the result, whatever it will be."""
    from ..errors import InvalidSetting, OutputNotWritable
    from ..files.model_store import list_models
    from ..train.compression_card import METHODS, name_of

    if output is None and not install:
        raise InvalidSetting("There is no place for the result", "--output FOLDER, --install, or both", "give one")
    if output is not None and output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise OutputNotWritable(f"'{output}' is there already", "a new or an empty folder", "choose another folder")
    possible = {name} if name else {name_of(model, variant) for variant in METHODS}
    taken = sorted(possible & {spec.name for spec in list_models()[0].values()})
    if install and taken and not replace:
        raise OutputNotWritable(
            f"There is a model '{taken[0]}' already", "a free name", "give another --name, or --replace"
        )


def _show(result: Compression, output: Path | None, outcome: Mapping[str, str], as_json: bool) -> None:
    from rich.table import Table

    from ..train.compression_card import COLUMNS

    if not as_json:
        table = Table(title=plain(f"{result.parent}, measured {result.measured}"))
        for number, column in enumerate(COLUMNS):
            table.add_column(column, justify="left" if number < 2 else "right")
        for row in result.rows:
            table.add_row(*map(plain, row.cells), style="bold" if row is result.best else None)
        screen.print(table)
    lines = [f"not made: {name}: {why}" for name, why in result.left_out.items()]
    lines.append(result.verdict)
    if result.spec:
        lines += [f"written: {output}"] if output else []
        lines += [f"{name}: {what}" for name, what in outcome.items()]
        lines.append(f"run it with: medsegreg segment --model {result.spec.name} --engine {result.best.engine} ...")
    data = {
        "parent": result.parent,
        "measured": result.measured,
        "rows": [{**vars(row), "by_structure": dict(row.by_structure)} for row in result.rows],
        "left_out": dict(result.left_out),
        "best": result.best.variant,
        "verdict": result.verdict,
        "model": result.spec.name if result.spec else None,
        "output": str(output) if output and result.spec else None,
        "installed": dict(outcome),
    }
    show_result("\n".join(lines), data, as_json)
