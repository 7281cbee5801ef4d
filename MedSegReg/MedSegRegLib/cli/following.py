"""Command: followup. Visits of one patient in files; what changed, in a folder with a report or in a scene."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..report import findings_data
from .carrying import AUTO, registration_settings
from .images import Device, Json, Overwrite
from .terminal import progress_bar, screen, show_findings, show_result

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.table import Table

    from ..workflows.followup import FollowUp
    from ..workflows.followup_compare import Interval
    from ..workflows.followup_midway import Visit

NONE = "none"
SCENE = ".mrb"


def add_commands(app: typer.Typer) -> None:
    """Register this file's commands."""
    app.command()(followup)


def followup(
    visits: Annotated[list[Path], typer.Argument(help="Images of the visits, oldest first.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for report, tables, maps and transforms; or an .mrb scene.")
    ],
    labels: Annotated[
        list[str] | None, typer.Option(help="Segmentation of each visit, in their order; 'none' where there is none.")
    ] = None,
    reference_structure: Annotated[
        list[str] | None,
        typer.Option(help="What keeps its place (skull, bone): a structure of the labels, or a mask file a visit."),
    ] = None,
    lesion: Annotated[
        list[str] | None, typer.Option(help="Structure that holds lesions; by default recognised by its name.")
    ] = None,
    preset: Annotated[str, typer.Option(help="Of the registration, see 'register --presets'.")] = "followup",
    settings_file: Annotated[
        Path | None, typer.Option("--settings", help="JSON file with settings of the registration, as for 'register'.")
    ] = None,
    spacing: Annotated[float | None, typer.Option(help="Voxel side of the maps in mm; by default the images'.")] = None,
    border_error: Annotated[
        float | None, typer.Option(help="Standard deviation of drawn borders in mm; by default voxel / sqrt(12).")
    ] = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Compare visits of one patient: what grew, shrank, came or went, each with its error bar."""
    from dataclasses import asdict

    from ..device import pick_device
    from ..workflows.followup import follow_up

    settings = registration_settings(AUTO if preset == "followup" else preset, settings_file)
    _require_output(output, len(visits), overwrite)
    with progress_bar("followup") as progress:
        result = follow_up(
            _read_visits(visits, labels or [], reference_structure or []),
            settings,
            lesions=lesion or None,
            border_mm=border_error,
            spacing_mm=spacing,
            device=pick_device(device),
            progress=progress,
        )
        data: dict[str, object] = {
            "sentence": result.sentence,
            "visits": list(result.names),
            "rigid_error_mm": list(result.midway.rigid_error_mm),
            "volumes": [asdict(structure) for structure in result.volumes],
            "changes": [[asdict(change) for change in interval.changes] for interval in result.intervals],
            "findings": findings_data(result.findings),
        }
        if output.suffix == SCENE:
            _write_scene(result, visits, output)
        else:
            _write_folder(result, data, output)
    show_findings(result.findings)
    if not as_json:
        for interval in result.intervals:
            screen.print(_table(result, interval))
    show_result(f"{result.sentence}\nwritten: {output}", {**data, "output": str(output)}, as_json)


def _read_visits(paths: Sequence[Path], labels: Sequence[str], reference: Sequence[str]) -> list[Visit]:
    from ..errors import InvalidSetting
    from ..files import read_image, read_labels
    from ..workflows.followup_midway import Visit, reference_mask

    by_name = len(reference) == 1 and not Path(reference[0]).is_file()
    for given, what in ((labels, "--labels"), ([] if by_name else reference, "--reference-structure")):
        if given and len(given) != len(paths):
            raise InvalidSetting(
                f"{what} is given {len(given)} times for {len(paths)} visits",
                "once a visit, in the order of the visits",
                f"add the missing ones; '{NONE}' stands for no labels",
            )
    visits = []
    for number, path in enumerate(paths):
        image = read_image(path)
        drawn = read_labels(Path(labels[number])) if labels and labels[number] != NONE else None
        mask = None
        if by_name:
            mask = reference_mask(image, drawn, reference[0])
        elif reference:
            mask = read_labels(Path(reference[number]))
        visits.append(Visit(image, drawn, mask))
    return visits


def _names(count: int) -> list[str]:
    """Of the files in the folder."""
    visits = [name for n in range(1, count + 1) for name in (f"visit{n}_midway.nii.gz", f"midway_to_visit{n}.h5")]
    ends = (".h5", "_inverse.h5", "_change.nii.gz", "_volume_change.nii.gz")
    pairs = [f"visit{n}_to_visit{n + 1}{end}" for n in range(1, count) for end in ends]
    return ["report.html", "report.pdf", "report.json", "changes.csv", "volumes.csv", *visits, *pairs]


def _require_output(output: Path, count: int, overwrite: bool) -> None:
    """A scene, a folder that can be made, or one in which none of our names is taken."""
    from ..files import require_writable

    if output.suffix == SCENE:
        require_writable(output, overwrite, (SCENE,))
    elif output.is_dir():
        for name in _names(count):
            require_writable(output / name, overwrite, (name[name.index(".") :],))
    else:
        require_writable(output, extensions=(output.name[1:],))


def _write_folder(result: FollowUp, data: Mapping[str, object], output: Path) -> None:
    from ..files import atomic_path, write_image, write_transform
    from ..transform import Affine, Transform
    from ..workflows.followup_report import change_columns, volume_columns, write_html, write_pdf

    output.mkdir(exist_ok=True)
    grid = result.midway.grid
    for number, (image, matrix) in enumerate(zip(result.images, result.midway.to_visit, strict=True), start=1):
        write_image(image, output / f"visit{number}_midway.nii.gz")
        write_transform(Transform((Affine(matrix),)), output / f"midway_to_visit{number}.h5", grid)
    rows: list[Sequence[object]] = []
    for interval in result.intervals:
        pair = f"visit{interval.earlier + 1}_to_visit{interval.later + 1}"
        write_transform(interval.transform, output / f"{pair}.h5", grid)
        write_transform(interval.inverse, output / f"{pair}_inverse.h5", grid)
        write_image(interval.subtraction, output / f"{pair}_change.nii.gz")
        write_image(interval.jacobian, output / f"{pair}_volume_change.nii.gz")
        columns = change_columns(interval)
        names = result.names[interval.earlier], result.names[interval.later]
        rows = rows or [["from", "to", *columns]]
        rows += [[*names, *row] for row in zip(*columns.values(), strict=True)]
    _write_csv(rows, output / "changes.csv")
    volumes = volume_columns(result)
    _write_csv([list(volumes), *zip(*volumes.values(), strict=True)], output / "volumes.csv")
    write_html(result, output / "report.html")
    write_pdf(result, output / "report.pdf")
    with atomic_path(output / "report.json") as temporary:
        temporary.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_csv(rows: Sequence[Sequence[object]], path: Path) -> None:
    """An empty cell where there is no number."""
    from ..files import atomic_path

    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["" if cell != cell else cell for cell in row] for row in rows])  # noqa: PLR0124


def _write_scene(result: FollowUp, paths: Sequence[Path], output: Path) -> None:
    from ..files import read_image
    from ..mrml.followup import Maps, write_followup
    from ..mrml.headless import new_scene, save_scene
    from ..mrml.volumes import node_from_image
    from ..workflows.followup_report import change_columns, volume_columns

    scene = new_scene()
    nodes = [node_from_image(read_image(path), scene, name) for path, name in zip(paths, result.names, strict=True)]
    maps = [
        Maps(
            one.transform,
            one.inverse,
            one.subtraction,
            one.jacobian,
            change_columns(one),
            [change.centre_ras for change in one.changes],
        )
        for one in result.intervals
    ]
    facts = {"sentence": result.sentence}
    write_followup(nodes, result.midway.to_visit, result.images, maps, volume_columns(result), facts)
    save_scene(scene, output)


def _table(result: FollowUp, interval: Interval) -> Table:
    from rich.table import Table
    from rich.text import Text

    from ..workflows.followup_report import change_columns

    title = f"{result.names[interval.earlier]} to {result.names[interval.later]}"
    columns = change_columns(interval)
    table = Table(*columns, title=Text(title))
    for row in zip(*columns.values(), strict=True):
        table.add_row(*(Text(cell if isinstance(cell, str) else "" if cell != cell else f"{cell:.3g}") for cell in row))  # noqa: PLR0124
    return table
