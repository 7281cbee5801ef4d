"""Command: joint. Two segmented studies in; a registration, proposed labels, and where they disagree, out."""

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
    from rich.table import Table

    from ..image import Image
    from ..progress import Progress
    from ..workflows.drawn import Drawn
    from ..workflows.joint import Joint, RefinedStudy

STUDIES = ("fixed", "moving")
LABELS, MAP, TABLE = ("own", "carried", "fused"), "disagreement", "agreement"
NAMES = (
    "transform.h5", "inverse.h5", "report.json",
    *(f"{study}_{what}.seg.nrrd" for study in STUDIES for what in LABELS),
    *(f"{study}_{what}" for study in STUDIES for what in (f"{MAP}.nii.gz", f"{TABLE}.csv")),
)  # fmt: skip
DRAWN_SHARE = 0.3

Mask = Annotated[Path | None, typer.Option(help="Only voxels inside this mask count.")]


def add_commands(app: typer.Typer) -> None:
    """Register this file's commands."""
    app.command()(joint)


def joint(
    fixed: Annotated[Path, typer.Argument(help="The study that stays.")],
    moving: Annotated[Path, typer.Argument(help="The study that is moved onto it.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for transforms, labels, maps and tables.")],
    fixed_labels: Annotated[Path | None, typer.Option(help="Segmentation of the fixed study.")] = None,
    moving_labels: Annotated[Path | None, typer.Option(help="Segmentation of the moving study.")] = None,
    model: Annotated[str | None, typer.Option(help="Instead of both: a segmentation model, by name or folder.")] = None,
    fixed_mask: Mask = None,
    moving_mask: Mask = None,
    preset: Annotated[
        str, typer.Option(help="Of the registrations, see 'register --presets'; auto: by what the images show.")
    ] = "auto",
    settings_file: Annotated[
        Path | None, typer.Option("--settings", help="JSON file with settings of the registrations.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="With labels, at most; fewer when nothing gets better.")] = 2,
    device: Device = "auto",
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Let segmentations help a registration, which then shows where the segmentations contradict each other."""
    from dataclasses import asdict

    from ..device import pick_device
    from ..errors import InvalidSetting
    from ..workflows.joint import refine_jointly
    from .carrying import registration_settings
    from .templating import require_folder

    drawings = (fixed_labels, moving_labels)
    if sum(path is not None for path in drawings) != (2 if model is None else 0):
        raise InvalidSetting(
            "Segmentations of both studies, or a model, are needed",
            "--fixed-labels and --moving-labels, or --model",
            "give one of these",
        )
    settings = registration_settings(preset, settings_file)
    require_folder(output, NAMES, overwrite)
    with progress_bar("joint") as progress:
        studies = _draw((fixed, moving), drawings, (fixed_mask, moving_mask), model, device, progress)
        result = refine_jointly(
            *studies,
            settings=settings,
            rounds=rounds,
            device=pick_device(device),
            progress=progress if model is None else progress.part(DRAWN_SHARE, 1.0),
        )
        data: dict[str, object] = {
            "sentence": result.sentence,
            "registration": result.registration.sentence,
            "rounds": [asdict(one) for one in result.rounds],
            "kept": result.kept,
            "structures": {
                name: [asdict(row) for row in study.structures]
                for name, study in zip(STUDIES, (result.fixed, result.moving), strict=True)
            },
            "findings": findings_data(result.findings),
        }
        _write(result, (studies[0].image, studies[1].image), data, output)
    show_findings(result.findings)
    if not as_json:
        screen.print(_table(result))
    show_result(f"{result.sentence}\nwritten: {output}", {**data, "output": str(output)}, as_json)


def _draw(
    images: tuple[Path, Path],
    drawings: tuple[Path | None, Path | None],
    masks: tuple[Path | None, Path | None],
    model: str | None,
    device: str,
    progress: Progress,
) -> tuple[Drawn, Drawn]:
    from dataclasses import replace

    from ..files import read_image, read_labels
    from ..workflows.drawn import Drawn, draw_by_model

    def draw(number: int) -> Drawn:
        image, drawing, mask = read_image(images[number]), drawings[number], masks[number]
        if drawing is not None:
            drawn = Drawn(image, read_labels(drawing))
        else:
            assert model is not None
            part = progress.part(DRAWN_SHARE * number / 2, DRAWN_SHARE * (number + 1) / 2)
            drawn = draw_by_model(image, model, device=device, progress=part)
        return drawn if mask is None else replace(drawn, mask=read_labels(mask))

    return draw(0), draw(1)


def _write(result: Joint, images: tuple[Image, Image], data: dict[str, object], output: Path) -> None:
    from ..files import atomic_path, write_transform

    output.mkdir(exist_ok=True)
    fixed, moving = images
    write_transform(result.transform, output / "transform.h5", fixed.geometry)
    write_transform(result.inverse, output / "inverse.h5", moving.geometry)
    for name, study in zip(STUDIES, (result.fixed, result.moving), strict=True):
        _write_study(study, name, output)
    with atomic_path(output / "report.json") as temporary:
        temporary.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_study(study: RefinedStudy, name: str, output: Path) -> None:
    from ..files import atomic_path, write_image, write_labels
    from ..workflows.joint_labels import agreement_columns

    for what, labels in zip(LABELS, (study.own, study.carried, study.fused), strict=True):
        write_labels(labels, output / f"{name}_{what}.seg.nrrd")
    write_image(study.disagreement, output / f"{name}_{MAP}.nii.gz")
    columns = agreement_columns(study.structures)
    with (
        atomic_path(output / f"{name}_{TABLE}.csv") as temporary,
        open(temporary, "w", encoding="utf-8", newline="") as file,
    ):
        csv.writer(file).writerows([columns, *zip(*columns.values(), strict=True)])


def _table(result: Joint) -> Table:
    from rich.table import Table

    table = Table("round", "score", "agreement of images", "there and back (voxels)", "Dice, own and carried", "")
    for one in result.rounds:
        kept = "kept" if one.number == result.kept else ""
        name = str(one.number or "images alone")
        numbers = (one.score, one.agreement, one.cycle_voxels, one.dice)
        table.add_row(name, *(f"{number:.3f}" for number in numbers), kept)
    return table
