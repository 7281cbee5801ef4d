"""Command: carry. What was drawn on one study, in files or a scene on another study."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..report import findings_data
from .images import Device, Json, Overwrite
from .terminal import progress_bar, screen, show_findings, show_result

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from rich.table import Table

    from ..image import Image, Labels
    from ..register.settings import RegistrationSettings
    from ..workflows.carry import Carried

AUTO = "auto"
NAMES = ("transform.h5", "inverse.h5", "report.json", "labels.seg.nrrd", "review.csv", "points.mrk.json")

Mask = Annotated[Path | None, typer.Option(help="Only voxels inside this mask count.")]


def add_commands(app: typer.Typer) -> None:
    """Register this file's commands."""
    app.command()(carry)


def carry(
    source: Annotated[Path, typer.Argument(help="The study that was drawn on.")],
    target: Annotated[Path, typer.Argument(help="The study that gets it.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for labels, points, transforms and review; or an .mrb scene.")
    ],
    labels: Annotated[Path | None, typer.Option(help="Segmentation of the source.")] = None,
    points: Annotated[Path | None, typer.Option(help="Points of the source: .mrk.json, .fcsv or .csv.")] = None,
    preset: Annotated[
        str, typer.Option(help="Of the registration, see 'register --presets'; auto chooses by what the images show.")
    ] = AUTO,
    settings_file: Annotated[
        Path | None, typer.Option("--settings", help="JSON file with settings of the registration, as for 'register'.")
    ] = None,
    source_mask: Mask = None,
    target_mask: Mask = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Carry a segmentation and points from one study to another; says which structures to look at first."""
    from dataclasses import asdict

    from ..device import pick_device
    from ..files import read_image, read_labels, read_points
    from ..workflows.carry import carry as run

    settings = registration_settings(preset, settings_file)
    _require_output(output, overwrite)
    with progress_bar("carry") as progress:
        images = read_image(source), read_image(target)
        drawn, masks = (
            [None if path is None else read_labels(path) for path in paths]
            for paths in ((labels,), (source_mask, target_mask))
        )
        names, places = read_points(points) if points else ([], None)
        result = run(
            *images,
            labels=drawn[0],
            points=places,
            settings=settings,
            source_mask=masks[0],
            target_mask=masks[1],
            device=pick_device(device),
            progress=progress,
        )
        data: dict[str, object] = {
            "sentence": result.sentence,
            "registration": result.registration.sentence,
            "review": [asdict(structure) for structure in result.review],
            "points": _points_data(result, names),
            "findings": findings_data(result.findings),
        }
        if output.suffix == ".mrb":
            _write_scene(result, images, drawn[0], (names, places), output)
        else:
            _write_folder(result, images, names, data, output)
    show_findings(result.findings)
    if result.review and not as_json:
        screen.print(_review_table(result))
    show_result(f"{result.sentence}\nwritten: {output}", {**data, "output": str(output)}, as_json)


def registration_settings(preset: str, file: Path | None) -> RegistrationSettings | None:
    """Of a file or a preset; None for ``auto``, which lets the images choose."""
    from ..files.settings_file import read_settings_file
    from ..register.settings import RegistrationSettings
    from .registering import preset_settings

    if file is not None:
        return read_settings_file(file, RegistrationSettings)
    return None if preset == AUTO else preset_settings(preset)


def _require_output(output: Path, overwrite: bool) -> None:
    """A scene, a folder that can be made, or one in which none of our names is taken."""
    from ..files import require_writable

    if output.suffix == ".mrb":
        require_writable(output, overwrite, (".mrb",))
    elif output.is_dir():
        for name in NAMES:
            require_writable(output / name, overwrite, (Path(name).suffix,))
    else:
        require_writable(output, extensions=(output.name[1:],))


def _points_data(result: Carried, names: Sequence[str]) -> list[dict[str, object]]:
    if result.points is None:
        return []
    moved = result.points
    rows = zip(names, moved.ras.tolist(), moved.disagreement_mm.tolist(), moved.inside.tolist(), strict=True)
    return [
        {"label": label, "ras": place, "disagreement_mm": apart, "inside": inside}
        for label, place, apart, inside in rows
    ]


def _write_folder(
    result: Carried, images: tuple[Image, Image], names: Sequence[str], data: dict[str, object], output: Path
) -> None:
    from ..files import atomic_path, write_labels, write_points, write_transform
    from ..workflows.carry_review import review_columns

    output.mkdir(exist_ok=True)
    source, target = images
    write_transform(result.transform, output / "transform.h5", target.geometry)
    write_transform(result.inverse, output / "inverse.h5", source.geometry)
    if result.labels is not None:
        write_labels(result.labels, output / "labels.seg.nrrd")
        columns = review_columns(result.review)
        with (
            atomic_path(output / "review.csv") as temporary,
            open(temporary, "w", encoding="utf-8", newline="") as file,
        ):
            csv.writer(file).writerows([columns, *zip(*columns.values(), strict=True)])
    if result.points is not None:
        write_points(names, result.points.ras, output / "points.mrk.json")
    with atomic_path(output / "report.json") as temporary:
        temporary.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_scene(
    result: Carried,
    images: tuple[Image, Image],
    labels: Labels | None,
    points: tuple[Sequence[str], np.ndarray | None],
    output: Path,
) -> None:
    from ..mrml.carry import Cargo, write_carried
    from ..mrml.headless import new_scene, save_scene
    from ..mrml.segmentations import write_segmentation
    from ..mrml.volumes import node_from_image
    from ..workflows.carry_review import review_columns

    scene = new_scene()
    source, target = (node_from_image(image, scene, image.name) for image in images)
    segmentation = write_segmentation(labels, scene, name=labels.name or "labels", reference=source) if labels else None
    markups = []
    if points[1] is not None:
        markups = [scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "points")]
        for name, place in zip(points[0], points[1].tolist(), strict=True):
            markups[0].AddControlPoint(place, name)
    tables = {"review": review_columns(result.review)} if result.review else {}
    cargo = Cargo(source, target, segmentation, tuple(markups))
    write_carried(cargo, result.transform, result.inverse, result.labels, tables, {"sentence": result.sentence})
    save_scene(scene, output)


def _review_table(result: Carried) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table("structure, least certain first", "confidence", "there and back", "border", "ml before", "after", "")
    for structure in result.review:
        agreement = structure.border_agreement
        table.add_row(
            Text(structure.name),
            f"{structure.confidence:.2f}",
            f"{structure.cycle_dice:.2f}",
            "" if agreement is None else f"{agreement:.2f}",
            f"{structure.source_ml:.2f}",
            f"{structure.target_ml:.2f}",
            structure.remark,
        )
    return table
