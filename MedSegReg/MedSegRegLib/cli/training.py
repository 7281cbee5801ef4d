"""Command: train."""

from __future__ import annotations

import math
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..progress import SILENT, Progress
from .images import Device, Json
from .terminal import progress_bar, show_result

if TYPE_CHECKING:
    from ..files.model_spec import ModelSpec
    from ..train.settings import TrainingSettings


def add_commands(app: typer.Typer) -> None:
    """Register this file's commands."""
    app.command()(train)


def train(
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="Folder for checkpoint, curve, scores and the finished model; a second call goes on there.",
        ),
    ],
    data: Annotated[
        Path | None,
        typer.Argument(
            help="Folder with 'images' and 'labels', one label map of the same name for every image; a CSV table with "
            "the columns image (or image_T1, image_T2, ...), labels, patient and split; a folder in nnU-Net's raw "
            "layout; a 3D Slicer scene, or a folder of scenes; or a folder of label maps, if the settings have "
            "'synthesis': how images are made from them."
        ),
    ] = None,
    settings: Annotated[
        Path | None,
        typer.Option(
            help="JSON file; without it, settings that fit the data are proposed and written to OUTPUT/settings.json."
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            help="Name of the model when settings are proposed (my-model), or of an adapted one (MODEL-adapted)."
        ),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="MODEL",
            help="Start from this model with the labels and channels of DATA: its network, spacing and intensities are "
            "taken over, encoder and decoder keep their weights.",
        ),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Instead of the number in the settings.", min=1)] = None,
    folds: Annotated[
        int | None,
        typer.Option(
            help="Cross-validation instead of one split: so many trainings, each tested on the patients that it has "
            "not seen, and their ensemble.",
            min=2,
        ),
    ] = None,
    fold: Annotated[int | None, typer.Option(help="Only this fold of them, from 0.", min=0)] = None,
    stop_after: Annotated[
        float | None, typer.Option(help="Minutes, after which the training stops, to go on with the next call.", min=0)
    ] = None,
    adapt: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Instead of a training: adapt this model to the corrected cases of --cases, in minutes on a CPU. "
            "It is measured before and after on what is left out; if it is not better, MODEL is kept.",
        ),
    ] = None,
    cases: Annotated[
        Path | None, typer.Option(help="One to a handful of corrected cases for --adapt, laid out as DATA.")
    ] = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Train a model, test it on held-out patients and write it as a package.

    On several GPUs or processes: torchrun --nproc-per-node 2 -m MedSegRegLib train ..., with the same result.
    """
    if data is None or adapt or cases:
        _adapt(adapt, cases, output, data=data, name=name, device=device, as_json=as_json)
        return
    from ..train.run import change_settings, read_settings, train_model
    from ..train.workers import started_first

    first = started_first()
    with progress_bar("train") if first else nullcontext(SILENT) as progress:
        given = read_settings(settings) if settings else None
        data = _without_scenes(data, output, given, progress)
        changes = {"epochs": epochs, "folds": folds, "fold": fold}
        chosen = change_settings(
            _begin(data, given, name or "my-model", start), {key: n for key, n in changes.items() if n is not None}
        )
        spec = train_model(
            data,
            chosen,
            output,
            device=device,
            parent=start,
            stop_after_minutes=math.inf if stop_after is None else stop_after,
            progress=progress,
        )
    if first:
        _show(spec, output, as_json)


def _begin(data: Path, given: TrainingSettings | None, name: str, start: str | None) -> TrainingSettings:
    """The settings, given or proposed; those that start from a model say what they take from it."""
    from ..train.propose import propose_settings
    from ..train.transfer import propose_transfer, start_from

    if start is None:
        return given or propose_settings(data, name)
    return start_from(start, given) if given else propose_transfer(start, data, name)


def _without_scenes(data: Path, output: Path, settings: TrainingSettings | None, progress: Progress) -> Path:
    """The data; the cases of scenes are written to a folder of the output first, at the first call."""
    if not (data.suffix in (".mrb", ".mrml") or (data.is_dir() and any(data.glob("*.mr[bm]*")))):
        return data
    cases = output / "cases"
    if cases.exists():
        return cases
    from ..errors import InvalidSetting
    from ..mrml.training_cases import find_scenes, write_training_cases
    from ..train.workers import started_alone

    if not started_alone():
        raise InvalidSetting(
            f"The scenes in '{data.name}' are not yet cases in '{output.name}'",
            "one process to write them",
            "start the command once without torchrun, with --stop-after 0",
        )
    output.mkdir(parents=True, exist_ok=True)
    structures = [label.name for label in settings.model.labels] if settings else []
    write_training_cases(find_scenes(data), cases, structures, progress)
    return cases


def _adapt(
    model: str | None,
    cases: Path | None,
    output: Path,
    *,
    data: Path | None,
    name: str | None,
    device: str,
    as_json: bool,
) -> None:
    from ..errors import InvalidSetting
    from .adapting import adapt

    if model is None or cases is None or data is not None:
        raise InvalidSetting(
            "It is not clear what to do",
            "DATA to train on, or --adapt MODEL with --cases FOLDER",
            "give one of both, see 'medsegreg train --help'",
        )
    cases = _without_scenes(cases, output, None, SILENT)
    adapt(model, cases, output, name, device, as_json)


def _show(spec: ModelSpec | None, output: Path, as_json: bool) -> None:
    if spec is None:
        show_result("Not finished: the same command goes on from here.", {"finished": False}, as_json)
        return
    lines = [
        f"{structure}: Dice {s['dice_mean']:.3f}, worst {s['dice_worst']:.3f}, HD95 {s['hd95_mm_mean']:.2f} mm"
        if s["cases"]
        else f"{structure}: in none of the test cases"
        for structure, s in spec.scores.items()
    ]
    curves = [output / "curve.png"] if len(spec.weights) == 1 else sorted(output.glob("fold-*/curve.png"))
    if "started_from" in spec.training:
        lines += [f"started from: {spec.training['started_from']}", f"taken from it: {spec.training['taken_from_it']}"]
    lines += [f"model: {output / 'model'}", *(f"curve: {curve}" for curve in curves)]
    show_result(
        "\n".join(lines),
        {"model": str(output / "model"), "scores": spec.scores, "training": spec.training},
        as_json,
    )
