"""Command: sequence. A segmentation of one frame, or of a few, to all frames of a sequence."""

from __future__ import annotations

import csv
import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..report import findings_data
from .images import Device, Json, Overwrite
from .terminal import progress_bar, screen, show_findings, show_result

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.table import Table

    from ..files.frames import Frames
    from ..image import Labels
    from ..register.settings import RegistrationSettings
    from ..workflows.sequence import Frame, Propagation

ENDINGS = (".mrb", ".seq.nrrd")
REPORT, REVIEW = "report.json", "frames.csv"


def add_commands(app: typer.Typer) -> None:
    """Register this file's commands."""
    app.command()(sequence)


def sequence(
    frames: Annotated[list[Path], typer.Argument(help="One 4D file; or a file a frame, in the order of time.")],
    labels: Annotated[
        list[Path], typer.Option("--labels", "-l", help="Segmentation of a key frame; one for each --key.")
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="Folder for labels, transforms and review; or a .mrb scene; or .seq.nrrd."),
    ],
    key: Annotated[list[int], typer.Option("--key", "-k", help="Number of a key frame, from 0.")] = [0],  # noqa: B006
    cyclic: Annotated[bool, typer.Option(help="The first frame follows the last one, as in the heart.")] = False,
    smooth: Annotated[bool, typer.Option(help="Let paths be as smooth through time as the frames say.")] = True,
    preset: Annotated[
        str, typer.Option(help="same-contrast, changing-contrast, or moving-body for a head or a limb.")
    ] = "same-contrast",
    settings_file: Annotated[
        Path | None, typer.Option("--settings", help="JSON file with settings of the registration, as for 'register'.")
    ] = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Carry a segmentation through all frames of a 4D sequence; says which frames to look at first."""
    from dataclasses import asdict

    from ..device import pick_device
    from ..files import read_labels
    from ..files.frames import open_frames
    from ..workflows.sequence import propagate

    _require_pairs(key, labels)
    settings = _settings(preset, settings_file)
    parent = output.absolute().parent
    with (
        progress_bar("sequence") as progress,
        tempfile.TemporaryDirectory(prefix=".medsegreg-", dir=parent if parent.is_dir() else None) as aside,
    ):
        images = open_frames(frames)
        _require_output(output, overwrite, len(images))
        drawn = {number: read_labels(path) for number, path in zip(key, labels, strict=True)}
        kept: list[Labels] = []
        write = _writer(output, Path(aside), kept)
        told = propagate(
            images,
            drawn,
            write,
            settings=settings,
            cyclic=cyclic,
            smooth=smooth,
            device=pick_device(device),
            progress=progress,
        )
        data: dict[str, object] = {
            "sentence": told.sentence,
            "frames": [asdict(review) for review in told.reviews],
            "keys": [asdict(check) for check in told.keys],
            "around_mm": told.around_mm,
            "stiffness": told.stiffness,
            "findings": findings_data(told.findings),
        }
        if output.name.endswith(ENDINGS):
            _write_scene(output, images, kept, told)
        else:
            _complete_folder(output, Path(aside), told, data)
    show_findings(told.findings)
    if told.reviews and not as_json:
        screen.print(_review_table(told))
    show_result(f"{told.sentence}\nwritten: {output}", {**data, "output": str(output)}, as_json)


def _require_pairs(keys: Sequence[int], labels: Sequence[Path]) -> None:
    from ..errors import InvalidSetting

    if len(keys) != len(labels) or len(set(keys)) < len(keys):
        raise InvalidSetting(
            f"{len(labels)} segmentations for the key frames {list(keys)}",
            "one for each key frame, and each key frame once",
            "give --labels and --key as often, in the same order",
        )


def _settings(preset: str, file: Path | None) -> RegistrationSettings:
    from ..errors import InvalidSetting
    from ..files.settings_file import read_settings_file
    from ..register.settings import RegistrationSettings
    from ..workflows.sequence import SETTINGS

    if file is not None:
        return read_settings_file(file, RegistrationSettings)
    if preset not in SETTINGS:
        raise InvalidSetting(f"The preset is '{preset}'", f"one of {', '.join(SETTINGS)}", "choose one of these")
    return SETTINGS[preset]


def _require_output(output: Path, overwrite: bool, count: int) -> None:
    """A file that can be written, a folder that can be made, or one in which none of our names is taken."""
    from ..files import require_writable

    if output.name.endswith(ENDINGS):
        require_writable(output, overwrite, ENDINGS)
    elif output.is_dir():
        for name in (REPORT, REVIEW, *(part for number in range(count) for part in _names(number))):
            require_writable(output / name, overwrite, (Path(name).suffix,))
    else:
        require_writable(output, extensions=(output.name[1:],))


def _names(number: int) -> tuple[str, str, str]:
    """Of what belongs to a frame in a folder: labels, transform to the key frame, and the way back."""
    return f"labels_{number:03d}.seg.nrrd", f"to_key_{number:03d}.h5", f"from_key_{number:03d}.h5"


def _writer(output: Path, aside: Path, kept: list[Labels]) -> Callable[[Frame], None]:
    """What becomes of a frame: files in a folder aside, at once, or kept for a scene."""
    from ..files import write_labels, write_transform

    def write(frame: Frame) -> None:
        labels, transform, inverse = (aside / name for name in _names(frame.number))
        write_labels(frame.labels, labels)
        write_transform(frame.transform, transform, frame.labels.geometry)
        write_transform(frame.inverse, inverse, frame.labels.geometry)

    return (lambda frame: kept.append(frame.labels)) if output.name.endswith(ENDINGS) else write


def _complete_folder(output: Path, aside: Path, told: Propagation, data: dict[str, object]) -> None:
    """All files get their place when all are there."""
    from ..workflows.frame_review import frame_columns

    columns = frame_columns(told.reviews)
    with (aside / REVIEW).open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([columns, *zip(*columns.values(), strict=True)])
    (aside / REPORT).write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    output.mkdir(exist_ok=True)
    for made in sorted(aside.iterdir()):
        os.replace(made, output / made.name)


def _write_scene(output: Path, images: Frames, kept: Sequence[Labels], told: Propagation) -> None:
    from ..mrml.headless import new_scene, save_node, save_scene
    from ..mrml.propagated import write_label_sequence, write_propagation, write_volume_sequence
    from ..workflows.frame_review import frame_columns

    scene = new_scene()
    if output.suffix != ".mrb":
        save_node(write_label_sequence(kept, scene, "labels"), output)
        return
    name = images[0].name.rsplit(" frame ", 1)[0]
    played = write_volume_sequence(images, scene, name)
    facts = {"sentence": told.sentence}
    write_propagation(kept, frame_columns(told.reviews), facts, *played, name=f"{name} segmentation")
    save_scene(scene, output)


def _review_table(told: Propagation) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table("frame, least certain first", "confidence", "least certain", "two ways apart", "motion", "")
    for review in told.reviews:
        table.add_row(
            str(review.number),
            f"{review.confidence:.2f}",
            Text(review.doubtful),
            f"{review.disagreement_mm:.2f} mm",
            f"{review.motion_mm:.1f} mm",
            review.structures[0].remark,
        )
    return table
