"""Command: model quantise. Gives a model its quick mode."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .images import Json
from .models import app
from .terminal import progress_bar, show_result


@app.command()
def quantise(
    name: Annotated[str, typer.Argument(help="Name of a model, or its folder.")],
    images: Annotated[list[Path], typer.Argument(help="A handful of images of the kind that the model is made for.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the new package.")],
    as_json: Json = False,
) -> None:
    """Add an int8 graph for the engine 'openvino-int8': several times faster on a CPU, nearly the same labels."""
    from ..files import read_image
    from ..files.model_store import model_folder
    from ..segment.quick import add_int8

    with progress_bar("quantise") as progress:
        spec = add_int8(model_folder(name), [read_image(path) for path in images], output, progress)
    show_result(f"written: {output}", {"output": str(output), "sha256": spec.sha256}, as_json)
