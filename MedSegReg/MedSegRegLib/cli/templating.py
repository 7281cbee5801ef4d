"""Command: template. Studies in, their mean image, mean labels and all transforms in a folder out."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..report import findings_data
from .images import Device, Json, Overwrite
from .terminal import progress_bar, screen, show_findings, show_result

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from ..image import Image
    from ..workflows.template import Template

NAMES = ("template.nii.gz", "mask.nii.gz", "labels.seg.nrrd", "report.json")


def add_commands(app: typer.Typer) -> None:
    """Register this file's commands."""
    app.command()(template)


def template(
    studies: Annotated[list[Path], typer.Argument(help="Two or more studies of one contrast.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the template and the transforms.")],
    labels: Annotated[
        list[Path] | None,
        typer.Option("--labels", "-l", help="Segmentation of a study; once for each, in their order."),
    ] = None,
    preset: Annotated[str, typer.Option(help="Of the registrations, see 'register --presets'.")] = "deformable",
    settings_file: Annotated[
        Path | None, typer.Option("--settings", help="JSON file with settings of the registrations.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="At most; fewer when the template stays the same.")] = 4,
    device: Device = "auto",
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """The mean of several studies: their mean shape, what they show on average, and mean labels."""
    from dataclasses import asdict

    from ..device import pick_device
    from ..files import read_image, read_labels
    from ..files.settings_file import read_settings_file
    from ..register.settings import RegistrationSettings
    from ..workflows.template import build_template
    from .registering import preset_settings

    settings = read_settings_file(settings_file, RegistrationSettings) if settings_file else preset_settings(preset)
    require_folder(output, (*NAMES, *(f"{number:03d}" for number in range(len(studies)))), overwrite)
    with progress_bar("template") as progress:
        images = [read_image(path) for path in studies]
        result = build_template(
            images,
            [read_labels(path) for path in labels or ()],
            settings=settings,
            rounds=rounds,
            device=pick_device(device),
            progress=progress,
        )
        data = {
            "studies": [str(path) for path in studies],
            "rounds": [asdict(one) for one in result.rounds],
            "findings": findings_data(result.findings),
        }
        _write(result, images, data, output)
    show_findings(result.findings)
    if not as_json:
        screen.print(_table(result))
    show_result(f"written: {output}", {**data, "output": str(output)}, as_json)


def require_folder(output: Path, names: Iterable[str], overwrite: bool) -> None:
    """Refuse, before any work, a folder that cannot be made, or one that holds any of these names.

    Raises:
        OutputNotWritable, UnsafeFile.
    """
    from ..errors import OutputNotWritable
    from ..files import require_writable

    if not output.is_dir():
        require_writable(output, extensions=(output.name[1:],))
    for name in names:
        if (output / name).exists() and not overwrite:
            raise OutputNotWritable(
                f"'{name}' exists already in '{output.name}'", "a new folder", "choose another, or allow overwriting"
            )


def _write(result: Template, images: Sequence[Image], data: dict[str, object], output: Path) -> None:
    """The template, its labels and probabilities; and for each study a folder with the way there and back."""
    from ..files import atomic_path, write_image, write_labels, write_transform

    output.mkdir(exist_ok=True)
    write_image(result.image, output / NAMES[0])
    write_labels(result.mask, output / NAMES[1])
    if result.labels is not None and result.probabilities is not None:
        write_labels(result.labels, output / NAMES[2])
        for structure, share in zip(result.labels.structures, result.probabilities.tensor, strict=True):
            probability = result.image.with_tensor(share[None])
            write_image(probability, output / f"probability_{structure.value}.nii.gz")
    for number, (image, way, back) in enumerate(zip(images, result.transforms, result.inverses, strict=True)):
        folder = output / f"{number:03d}"
        folder.mkdir(exist_ok=True)
        write_transform(way, folder / "transform.h5", result.image.geometry)
        write_transform(back, folder / "inverse.h5", image.geometry)
    with atomic_path(output / NAMES[3]) as temporary:
        temporary.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _table(result: Template) -> Table:
    from rich.table import Table

    table = Table("round", "moved to the mean shape (mm)", "change of the image", "sharpness")
    for one in result.rounds:
        change = "" if one.change is None else f"{one.change:.3f}"
        table.add_row(str(one.number or "linear"), f"{one.shape_mm:.2f}", change, f"{one.sharpness:.2f}")
    return table
