"""Command: train."""

from __future__ import annotations

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
        Path, typer.Argument(help="Folder with 'images' and 'labels': one label map of the same name for every image.")
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
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Train a model, test it on held-out patients and write it as a package."""
    from ..train.propose import propose_settings
    from ..train.run import read_settings, train_model

    chosen = read_settings(settings) if settings else propose_settings(data, name)
    if epochs is not None:
        chosen = chosen.model_copy(update={"epochs": epochs})
    with progress_bar("train") as progress:
        spec = train_model(data, chosen, output, device=device, progress=progress)
    lines = [
        f"{structure}: Dice {s['dice_mean']:.3f}, worst {s['dice_worst']:.3f}, HD95 {s['hd95_mm_mean']:.2f} mm"
        for structure, s in spec.scores.items()
    ]
    show_result(
        "\n".join([*lines, f"model: {output / 'model'}", f"curve: {output / 'curve.png'}"]),
        {"model": str(output / "model"), "scores": spec.scores, "training": spec.training},
        as_json,
    )
