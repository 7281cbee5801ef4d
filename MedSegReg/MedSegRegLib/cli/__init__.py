"""The command line: ``medsegreg segment | register | transform | apply | train | evaluate | model | demo | ...``."""

from __future__ import annotations

import typer

from . import (
    aligning,
    atlases,
    carrying,
    compressing,
    evaluating,
    following,
    images,
    joining,
    registering,
    segmenting,
    sequencing,
    showing,
    templating,
    training,
    transforming,
)
from .terminal import report_errors

app = typer.Typer(
    name="medsegreg",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Segmentation and registration of medical images: the library of the 3D Slicer extension MedSegReg.",
)
for module in (
    segmenting,
    images,
    registering,
    carrying,
    aligning,
    atlases,
    following,
    joining,
    templating,
    training,
    sequencing,
    evaluating,
    showing,
):
    module.add_commands(app)
app.add_typer(compressing.app, name="model")
app.add_typer(transforming.app, name="transform")


def main() -> None:
    """Entry point of the ``medsegreg`` command."""
    report_errors(app)
