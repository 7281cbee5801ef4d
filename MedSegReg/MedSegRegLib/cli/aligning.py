"""Command: align. Several series of one patient, in any grids, as channels of one model."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..report import findings_data
from .images import Device, Json, Overwrite
from .terminal import progress_bar, show_findings, show_result

if TYPE_CHECKING:
    from ..image import Image, Labels
    from ..progress import Progress
    from ..segment.predict import Segmentation
    from ..workflows.align import Aligned

SCENE = ".mrb"
SAFE_NAME = re.compile(r"[\w+.-]+(?: [\w+.-]+)*")
ALIGNED_SHARE, LOADED_SHARE, SEGMENTED_SHARE = 0.6, 0.65, 0.95

Segmented = tuple["Segmentation", dict[str, "Labels"]]


def add_commands(app: typer.Typer) -> None:
    """Register this file's commands."""
    app.command()(align)


def align(
    channel: Annotated[
        list[str],
        typer.Option("--channel", "-c", help="NAME=FILE for each series, such as T1=t1.nii.gz; two or more."),
    ],
    reference: Annotated[str, typer.Option("--reference", "-r", help="NAME of the series that stays where it is.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for volumes, transforms, labels and pictures; or .mrb scene.")
    ],
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="Segment with this model, whose channels are named as the series are."),
    ] = None,
    native: Annotated[
        list[str] | None,
        typer.Option(
            "--native", "-n", help="NAME of a series on whose own grid the labels are wanted; may be repeated."
        ),
    ] = None,
    preset: Annotated[str, typer.Option(help="rigid, or affine where a scanner's scale is wrong.")] = "rigid",
    fusion: Annotated[
        str, typer.Option(help="Of the pictures and the scene: blend, or pet (only what is bright).")
    ] = "blend",
    device: Device = "auto",
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Align several series of one patient, say how sure that is, and segment them as the channels of one model."""
    from ..device import pick_device
    from ..errors import InvalidSetting
    from ..files import read_image
    from ..files.model_package import read_spec
    from ..files.model_store import model_folder
    from ..workflows.align import SETTINGS, align_series, channels_for

    files, wanted = _channels(channel), tuple(native or (reference,))
    for choice, known in ((preset, SETTINGS), (fusion, ("blend", "pet"))):
        if choice not in known:
            raise InvalidSetting(f"There is no '{choice}'", f"one of {', '.join(known)}", "choose one of these")
    unknown = [name for name in (reference, *wanted) if name not in files]
    if unknown:
        raise InvalidSetting(f"There is no channel '{unknown[0]}'", f"one of {', '.join(files)}", "choose one of these")
    if native and not model:
        raise InvalidSetting("There is no --model", "one, to give labels on a grid", "give --model, or no --native")
    if model:
        channels_for(read_spec(model_folder(model)), files, reference)  # before anything is aligned
    _require_output(output, _file_names(tuple(files), reference, wanted if model else ()), overwrite)
    with progress_bar("align") as progress:
        images = {name: read_image(path) for name, path in files.items()}
        part = progress.part(0.0, ALIGNED_SHARE if model else SEGMENTED_SHARE)
        aligned = align_series(images, reference, settings=SETTINGS[preset], device=pick_device(device), progress=part)
        segmented = _segment(aligned, model, wanted, device, progress) if model else None
        data = _report(aligned, segmented)
        progress.update(SEGMENTED_SHARE, "writing")
        write = _write_scene if output.suffix == SCENE else _write_folder
        write(aligned, segmented, data, fusion, output)
    show_findings([*aligned.findings, *(segmented[0].findings if segmented else ())])
    show_result(f"{aligned.sentence}\nwritten: {output}", {**data, "output": str(output)}, as_json)


def _channels(given: list[str]) -> dict[str, Path]:
    from ..errors import InvalidSetting

    files: dict[str, Path] = {}
    for text in given:
        name, _, file = text.partition("=")
        if not file or not SAFE_NAME.fullmatch(name) or name.casefold() in map(str.casefold, files):
            raise InvalidSetting(
                f"The channel is '{text}'",
                "NAME=FILE, with each name once, of letters, digits, spaces and + - . _",
                "name the channels as 'medsegreg model show' does",
            )
        files[name] = Path(file)
    return files


def _segment(aligned: Aligned, name: str, native: tuple[str, ...], device: str, progress: Progress) -> Segmented:
    from ..segment import load_model
    from ..workflows.align import segment_aligned

    model = load_model(name, device, "auto", progress.part(ALIGNED_SHARE, LOADED_SHARE))
    return segment_aligned(aligned, model, native=native, progress=progress.part(LOADED_SHARE, SEGMENTED_SHARE))


def _report(aligned: Aligned, segmented: Segmented | None) -> dict[str, Any]:
    from dataclasses import asdict

    findings = [*aligned.findings, *(segmented[0].findings if segmented else ())]
    return {
        "sentence": aligned.sentence,
        "reference": aligned.reference,
        "series": {name: asdict(check) for name, check in aligned.checks.items()},
        "settings": aligned.settings.model_dump(mode="json"),
        "provenance": segmented[0].provenance if segmented else None,
        "labels_on": list(segmented[1]) if segmented else [],
        "findings": findings_data(findings),
    }


def _file_names(names: tuple[str, ...], reference: str, native: tuple[str, ...]) -> list[str]:
    """Everything that a folder gets."""
    moving = [name for name in names if name != reference]
    made = [f"{name}-on-{reference}.{ending}" for name in moving for ending in ("nii.gz", "png")]
    made += [f"{name}-to-{reference}.h5" for name in moving]
    return [*made, *(f"labels-on-{name}.seg.nrrd" for name in native), "report.json"]


def _require_output(output: Path, names: list[str], overwrite: bool) -> None:
    """A scene, a folder that can be made, or one in which none of our names is taken."""
    from ..files import require_writable

    if output.suffix == SCENE:
        require_writable(output, overwrite, (SCENE,))
    elif output.is_dir():
        for name in names:
            require_writable(output / name, overwrite, (Path(name).suffix,))
    else:
        require_writable(output, extensions=(output.name[1:],))


def _write_folder(
    aligned: Aligned, segmented: Segmented | None, data: dict[str, Any], fusion: str, output: Path
) -> None:
    from ..evaluate.fusion import draw_fusion
    from ..files import atomic_path, write_image, write_labels, write_transform

    output.mkdir(exist_ok=True)
    reference = aligned.reference
    below = aligned.resampled(reference)
    for name in aligned.checks:
        above, title = aligned.resampled(name), f"{name} on {reference}"
        write_image(above, output / f"{name}-on-{reference}.nii.gz")
        write_transform(aligned.series[name].transform, output / f"{name}-to-{reference}.h5", below.geometry)
        draw_fusion(below, above, output / f"{name}-on-{reference}.png", fusion, title)  # type: ignore[arg-type]
    for name, labels in (segmented[1] if segmented else {}).items():
        write_labels(labels, output / f"labels-on-{name}.seg.nrrd")
    with atomic_path(output / "report.json") as temporary:
        temporary.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_scene(
    aligned: Aligned, segmented: Segmented | None, data: dict[str, Any], fusion: str, output: Path
) -> None:
    from ..mrml.align import AlignedResult, write_aligned
    from ..mrml.fusion import show_fusion
    from ..mrml.headless import new_scene, save_scene
    from ..mrml.volumes import node_from_image

    scene = new_scene()
    nodes = {name: node_from_image(one.image, scene, one.image.name or name) for name, one in aligned.series.items()}
    moving: dict[str, Image] = {name: aligned.resampled(name) for name in aligned.checks}
    result = AlignedResult(
        aligned.reference,
        {name: aligned.series[name].transform for name in moving},
        moving,
        segmented[1] if segmented else {},
        {"sentence": data["sentence"], **(data["provenance"] or {})},
    )
    made = write_aligned(result, nodes)
    show_fusion(nodes[aligned.reference], next(iter(made.resampled.values())), fusion)  # type: ignore[arg-type]
    save_scene(scene, output)
