"""The command line: ``medsegreg segment | register | apply | preprocess | train | evaluate | model | demo | info``."""

from __future__ import annotations

import typer

from . import evaluating, images, quantising, registering, segmenting, showing, training
from .terminal import report_errors

app = typer.Typer(
    name="medsegreg",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Segmentation and registration of medical images: the library of the 3D Slicer extension MedSegReg.",
)
for module in (segmenting, images, registering, training, evaluating, showing):
    module.add_commands(app)
app.add_typer(quantising.app, name="model")


def main() -> None:
    """Entry point of the ``medsegreg`` command."""
    report_errors(app)
