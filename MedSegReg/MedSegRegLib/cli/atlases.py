"""Command: atlas. A segmentation by labelled images, without a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..report import findings_data
from .images import Device, Json, Output, Overwrite
from .terminal import progress_bar, show_findings, show_result


def add_commands(app: typer.Typer) -> None:
    """Register this file's commands."""
    app.command()(atlas)


def atlas(
    image: Annotated[Path, typer.Argument(help="Image to be segmented.")],
    output: Output,
    atlases: Annotated[list[Path], typer.Option("--atlas", "-a", help="Image of an atlas; once for each.")],
    labels: Annotated[list[Path], typer.Option("--labels", "-l", help="Its labels; once for each, in the same order.")],
    fusion: Annotated[
        str, typer.Option(help="local: an atlas counts where it looks like the image; majority: all count alike.")
    ] = "local",
    preset: Annotated[
        str, typer.Option(help="Of the registrations, see 'register --presets'; auto: by what the images show.")
    ] = "auto",
    settings_file: Annotated[
        Path | None, typer.Option("--settings", help="JSON file with settings of the registrations.")
    ] = None,
    agreement: Annotated[
        Path | None, typer.Option(help="Also write the share of the votes that each voxel's label got.")
    ] = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Segment an image by labelled images of the same anatomy: they are registered to it, and their labels vote."""
    from ..device import pick_device
    from ..errors import InvalidSetting
    from ..files import LABEL_EXTENSIONS, read_image, read_labels, require_writable, write_image, write_labels
    from ..workflows.atlas import Atlas, segment_by_atlases
    from .carrying import registration_settings

    if len(atlases) != len(labels):
        raise InvalidSetting(
            f"There are {len(atlases)} atlases and {len(labels)} label maps",
            "one label map for each atlas",
            "give --labels as often as --atlas",
        )
    if fusion not in ("local", "majority"):
        raise InvalidSetting(f"The fusion is '{fusion}'", "local or majority", "choose one of these")
    settings = registration_settings(preset, settings_file)
    require_writable(output, overwrite, LABEL_EXTENSIONS)
    if agreement is not None:
        require_writable(agreement, overwrite)
    with progress_bar("atlas") as progress:
        result = segment_by_atlases(
            read_image(image),
            [Atlas(read_image(one), read_labels(drawn)) for one, drawn in zip(atlases, labels, strict=True)],
            fusion="local" if fusion == "local" else "majority",
            settings=settings,
            device=pick_device(device),
            progress=progress,
        )
        write_labels(result.labels, output)
        if agreement is not None:
            write_image(result.agreement, agreement)
    show_findings(result.findings)
    data = {
        "output": str(output),
        "registrations": [found.sentence for found in result.registrations],
        "findings": findings_data(result.findings),
    }
    show_result(f"written: {output}", data, as_json)
