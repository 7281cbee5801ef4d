"""Command: train."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from .images import Device, Json
from .terminal import progress_bar, show_result


def add_commands(app: typer.Typer) -> None:
    """Register this file's commands."""
    app.command()(train)


def train(
    data: Annotated[
        Path,
        typer.Argument(
            help="Folder with 'images' and 'labels': one label map of the same name for every image. Or a folder of "
            "label maps, if the settings have 'synthesis': how images are made from them."
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="Folder for checkpoint, curve, scores and the finished model; a second call goes on there.",
        ),
    ],
    settings: Annotated[
        Path | None,
        typer.Option(
            help="JSON file; without it, settings that fit the data are proposed and written to OUTPUT/settings.json."
        ),
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the model when settings are proposed.")] = "my-model",
    epochs: Annotated[int | None, typer.Option(help="Instead of the number in the settings.", min=1)] = None,
    fold: Annotated[
        int | None, typer.Option(help="Instead of the number in the settings, which say how many folds.", min=0)
    ] = None,
    stop_after: Annotated[
        float | None, typer.Option(help="Minutes, after which the training stops, to go on with the next call.", min=0)
    ] = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Train a model, test it on held-out patients and write it as a package."""
    from ..train.propose import propose_settings
    from ..train.run import change_settings, read_settings, train_model

    chosen = read_settings(settings) if settings else propose_settings(data, name)
    changes = {name: value for name, value in (("epochs", epochs), ("fold", fold)) if value is not None}
    chosen = change_settings(chosen, changes)
    with progress_bar("train") as progress:
        spec = train_model(
            data,
            chosen,
            output,
            device=device,
            stop_after_minutes=math.inf if stop_after is None else stop_after,
            progress=progress,
        )
    if spec is None:
        show_result("Not finished: the same command goes on from here.", {"finished": False}, as_json)
        return
    lines = [
        f"{structure}: Dice {s['dice_mean']:.3f}, worst {s['dice_worst']:.3f}, HD95 {s['hd95_mm_mean']:.2f} mm"
        for structure, s in spec.scores.items()
    ]
    show_result(
        "\n".join([*lines, f"model: {output / 'model'}", f"curve: {output / 'curve.png'}"]),
        {"model": str(output / "model"), "scores": spec.scores, "training": spec.training},
        as_json,
    )
