"""Command: segment. From options to the segmentation walk, and from its result to files and a table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..report import findings_data
from .images import Device, Json, Overwrite, ReplaceNonfinite
from .terminal import progress_bar, show_findings, show_result

if TYPE_CHECKING:
    import numpy as np

    from ..image import Image
    from ..progress import Progress
    from ..segment import Model, Segmentation, SegmentationOptions

DEFAULT_MODEL = "hippocampus-mr"
INPUT, RUN, RESULTS = "What is looked at", "How it is run", "Results"

File = Annotated[
    Path,
    typer.Argument(
        metavar="IMAGE", help="NIfTI, NRRD, MHA, PNG, JPEG or TIFF file, or a folder with one DICOM series."
    ),
]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="File to write; not with --plan.", rich_help_panel=RESULTS)
]
Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        "-m",
        help=f"Name or folder of a model, see 'medsegreg model list'; several are averaged. Default: {DEFAULT_MODEL}.",
        rich_help_panel=INPUT,
    ),
]
Channels = Annotated[
    list[str] | None,
    typer.Option(
        "--channel",
        "-c",
        help="NAME=FILE for each further channel of the model; IMAGE is its first channel. Names as in 'model show'.",
        rich_help_panel=INPUT,
    ),
]
Structures = Annotated[
    list[str] | None,
    typer.Option("--structure", "-s", help="Give only this structure; may be repeated.", rich_help_panel=RESULTS),
]
EngineName = Annotated[
    str,
    typer.Option(
        help="auto (the fastest here, measured once), torch, openvino, openvino-int8 or onnxruntime.",
        rich_help_panel=RUN,
    ),
]
Region = Annotated[
    str | None, typer.Option(help="Only this box: 'r0,a0,s0,r1,a1,s1' in RAS mm.", rich_help_panel=INPUT)
]
Find = Annotated[
    str | None,
    typer.Option(
        help="A coarse model that finds where to look: the structures asked for, or all of its own.",
        rich_help_panel=INPUT,
    ),
]
Mirror = Annotated[
    bool, typer.Option(help="Average over mirror images, where the model allows it.", rich_help_panel=RUN)
]
SkipAir = Annotated[bool, typer.Option(help="Leave out tiles that hold no body.", rich_help_panel=RUN)]
Margin = Annotated[
    Path | None,
    typer.Option(help="Also write how sure the network is: 255 certain, 0 undecided.", rich_help_panel=RESULTS),
]
Entropy = Annotated[
    Path | None,
    typer.Option(help="Also write the entropy of the probabilities: 0 certain, 255 even.", rich_help_panel=RESULTS),
]
Islands = Annotated[float, typer.Option(help="Remove components smaller than this volume.", rich_help_panel=RESULTS)]
LargestComponent = Annotated[
    bool | None,
    typer.Option(help="Keep the largest component of each label; default: as the model says.", rich_help_panel=RESULTS),
]
PlanOnly = Annotated[
    bool,
    typer.Option("--plan", help="Only say what the run will take: tiles, memory, time.", rich_help_panel=RUN),
]

FIND_MARGIN_MM = 20.0


def add_commands(app: typer.Typer) -> None:
    """Register this file's commands."""
    app.command()(segment)


def segment(
    image: File,
    output: Output = None,
    model: Models = None,
    channel: Channels = None,
    structure: Structures = None,
    device: Device = "auto",
    engine: EngineName = "auto",
    region: Region = None,
    find: Find = None,
    mirror: Mirror = False,
    skip_air: SkipAir = False,
    margin: Margin = None,
    entropy: Entropy = None,
    islands_mm3: Islands = 0.0,
    largest_component: LargestComponent = None,
    replace_nonfinite: ReplaceNonfinite = False,
    plan: PlanOnly = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Segment an image; the result is a .seg.nrrd, .nii.gz, .nrrd or .mha on the image's own grid, or an .mrb scene."""
    from ..segment import SegmentationOptions

    options = SegmentationOptions(
        structures=tuple(structure or ()),
        mirror=mirror,
        skip_air=skip_air,
        confidence=bool(margin or entropy),
        islands_mm3=islands_mm3,
        largest_component=largest_component,
        replace_nonfinite=replace_nonfinite,
    )
    box = _parse_region(region)
    if not plan:
        _require_outputs(output, (margin, entropy), overwrite)
    with progress_bar("segment") as progress:
        loaded = _load(model or [DEFAULT_MODEL], device, engine, options, progress.part(0.0, 0.1))
        source = _read(image, channel or [], loaded)
        if plan:
            _show_plan(loaded, source, box, mirror, as_json)
            return
        result = _run(loaded, source, options, box, find, progress.part(0.1, 1.0))
    assert output is not None
    _write(result, source, output, margin, entropy)
    show_findings(result.findings)
    _show(result, output, as_json)


def _load(names: list[str], device: str, engine: str, options: SegmentationOptions, progress: Progress) -> Model:
    from ..files.model_package import read_spec
    from ..files.model_store import model_folder
    from ..segment import join_models, load_model
    from ..segment.predict import wanted_labels

    wanted_labels(read_spec(model_folder(names[0])), options.structures)  # before engines are measured
    return join_models([load_model(name, device, engine, progress) for name in names])


def _read(path: Path, further: list[str], model: Model) -> Image:
    """The image, with all channels of the model where further ones are given."""
    from ..errors import InvalidSetting
    from ..files import read_image
    from ..segment.channels import join_channels

    image = read_image(path)
    if not further:
        return image
    named = {model.spec.channels[0].name: image}
    for text in further:
        name, equals, file = text.partition("=")
        if not equals or name.casefold() in (known.casefold() for known in named):
            raise InvalidSetting(
                f"The channel is '{text}'",
                f"NAME=FILE, with each name once; the image itself is {model.spec.channels[0].name}",
                "name the channels as 'medsegreg model show' does",
            )
        named[name] = read_image(Path(file))
    return join_channels(named, model.spec)


def _run(
    model: Model,
    image: Image,
    options: SegmentationOptions,
    region: np.ndarray | None,
    find: str | None,
    progress: Progress,
) -> Segmentation:
    from ..segment import load_model
    from ..segment.find import find_region
    from ..workflows.locate import segment_anywhere

    if find is None or region is not None:
        return segment_anywhere(image, model, options, region=region, progress=progress)
    coarse = load_model(find, model.device)
    structures = options.structures or tuple(label.name for label in coarse.spec.labels)
    region = find_region(image, coarse, structures, FIND_MARGIN_MM, options, progress.part(0.0, 0.3))
    return segment_anywhere(image, model, options, region=region, progress=progress.part(0.3, 1.0))


def _require_outputs(output: Path | None, further: tuple[Path | None, ...], overwrite: bool) -> None:
    from ..errors import InvalidSetting
    from ..files import LABEL_EXTENSIONS, VOLUME_EXTENSIONS, require_writable
    from .outputs import SCENE

    if output is None:
        raise InvalidSetting("There is no --output", "a file for the result", "give --output FILE, or --plan")
    require_writable(output, overwrite, (*LABEL_EXTENSIONS, SCENE))
    for path in further:
        if path is not None:
            require_writable(path, overwrite, VOLUME_EXTENSIONS)


def _show_plan(model: Model, image: Image, region: np.ndarray | None, mirror: bool, as_json: bool) -> None:
    from dataclasses import asdict

    from ..workflows.locate import plan_anywhere

    plan = plan_anywhere(model, image.geometry, region, mirror)
    data = {name: str(value) if name in ("device", "blend_on") else value for name, value in asdict(plan).items()}
    show_result(plan.sentence(), {**data, "findings": findings_data(model.findings)}, as_json)


def _write(result: Segmentation, source: Image, output: Path, margin: Path | None, entropy: Path | None) -> None:
    from ..files import write_image
    from ..image import Image
    from .outputs import write_segmentation_result

    write_segmentation_result(result, source, output)
    if result.confidence is not None:
        for path, tensor in ((margin, result.confidence.margin), (entropy, result.confidence.entropy)):
            if path is not None:
                write_image(Image.from_array(tensor.numpy(), result.labels.geometry, source.name), path)


def _show(result: Segmentation, output: Path, as_json: bool) -> None:
    voxel_ml = result.labels.geometry.voxel_volume_mm3 / 1000
    volumes = {s.name: float((result.labels.tensor == s.value).sum()) * voxel_ml for s in result.labels.structures}
    text = "\n".join([*(f"{name}: {volume:.2f} ml" for name, volume in volumes.items()), f"written: {output}"])
    show_result(
        text,
        {
            "output": str(output),
            "volumes_ml": volumes,
            "provenance": result.provenance,
            "findings": findings_data(result.findings),
        },
        as_json,
    )


def _parse_region(text: str | None) -> np.ndarray | None:
    if text is None:
        return None
    import numpy as np

    from ..errors import InvalidSetting

    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != 6:
        raise InvalidSetting(
            f"The region is '{text}'",
            "six numbers r0,a0,s0,r1,a1,s1 in RAS mm",
            "write it as --region=-44,-48,-36,-8,2,0",
        )
    low, high = numbers[:3], numbers[3:]
    return np.array([[(low, high)[bit][axis] for axis, bit in enumerate(bits)] for bits in np.ndindex(2, 2, 2)])
