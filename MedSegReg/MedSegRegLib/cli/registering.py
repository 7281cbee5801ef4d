"""Command: register. From options to the registration walk, and from its result to files and a table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .images import Device, Json, Overwrite
from .terminal import progress_bar, screen, show_findings, show_result

if TYPE_CHECKING:
    from ..image import Labels
    from ..register.guidance import Guidance
    from ..register.settings import RegistrationSettings

SETTINGS, START, GUIDANCE, RESULTS = "Settings", "Where to begin and to look", "Guidance", "Results"

Fixed = Annotated[Path, typer.Argument(help="The image that stays.")]
Moving = Annotated[Path, typer.Argument(help="The image that is moved onto it.")]
Preset = Annotated[
    str | None,
    typer.Option(
        help="Settings named for what is in hand, see --presets. Default: deformable.", rich_help_panel=SETTINGS
    ),
]
SettingsFile = Annotated[
    Path | None,
    typer.Option(
        "--settings",
        help="JSON file with settings instead of a preset; see --print-settings.",
        rich_help_panel=SETTINGS,
    ),
]
Stiffness = Annotated[
    str | None,
    typer.Option(
        help="soft, medium, stiff, auto (chosen by the images) or a number from 0.1 to 10.",
        rich_help_panel=SETTINGS,
    ),
]
Initial = Annotated[
    Path | None,
    typer.Option(
        help="Transform to begin with, from fixed to moving. A linear one is refined; of a dense one the linear part"
        " is kept, and the deformation goes on from the rest.",
        rich_help_panel=START,
    ),
]
Mask = Annotated[Path | None, typer.Option(help="Only voxels inside this mask count.", rich_help_panel=START)]
Ignore = Annotated[
    Path | None,
    typer.Option(help="Mask on the fixed grid: what the images show there does not count.", rich_help_panel=START),
]
FixedPoints = Annotated[
    Path | None,
    typer.Option(
        help="Points as .mrk.json, .fcsv or .csv (x,y,z in RAS mm); row by row the same places as --moving-points.",
        rich_help_panel=GUIDANCE,
    ),
]
MovingPoints = Annotated[
    Path | None, typer.Option(help="The same places in the moving image.", rich_help_panel=GUIDANCE)
]
FixedLabels = Annotated[
    Path | None,
    typer.Option(
        help="Labels of the fixed image; structures of the same value are brought onto each other.",
        rich_help_panel=GUIDANCE,
    ),
]
MovingLabels = Annotated[Path | None, typer.Option(help="Labels of the moving image.", rich_help_panel=GUIDANCE)]
GuidingModel = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="A segmentation model, by name or folder: what it finds in both images are the labels.",
        rich_help_panel=GUIDANCE,
    ),
]
RigidRegions = Annotated[
    Path | None,
    typer.Option(help="Labels on the fixed grid; each value moves as one body.", rich_help_panel=GUIDANCE),
]
Output = Annotated[
    Path,
    typer.Option(
        "--output",
        "-o",
        help="Transform: .h5 (chain), .tfm (linear only), .nii.gz/.nrrd/.mha (one field), or an .mrb scene.",
        rich_help_panel=RESULTS,
    ),
]
Inverse = Annotated[Path | None, typer.Option(help="Also write the inverse transform.", rich_help_panel=RESULTS)]
OneField = Annotated[
    Path | None,
    typer.Option(
        help="Also write the whole transform as one displacement field on the fixed grid: .nii.gz, .nrrd or .mha.",
        rich_help_panel=RESULTS,
    ),
]
Moved = Annotated[
    Path | None, typer.Option(help="Also write the moving image on the fixed grid.", rich_help_panel=RESULTS)
]
QualityFile = Annotated[
    Path | None,
    typer.Option("--quality", help="Also write quality, settings and findings as .json.", rich_help_panel=RESULTS),
]

MODEL_SHARE = 0.2


def add_commands(app: typer.Typer) -> None:
    """Register this file's commands."""
    app.command()(register)


def _list_presets(asked: bool) -> None:
    if asked:
        from rich.table import Table

        from ..register.presets import PURPOSES

        table = Table("preset", "for")
        for name, purpose in PURPOSES.items():
            table.add_row(name, purpose)
        screen.print(table)
        raise typer.Exit


def _print_settings(preset: str | None) -> None:
    if preset is not None:
        typer.echo(preset_settings(preset).model_dump_json(indent=2))
        raise typer.Exit


ListPresets = Annotated[
    bool,
    typer.Option(
        "--presets", help="List the presets and stop.", is_eager=True, callback=_list_presets, rich_help_panel=SETTINGS
    ),
]
PrintSettings = Annotated[
    str | None,
    typer.Option(
        metavar="PRESET",
        help="Print the settings of a preset as --settings reads them, and stop.",
        is_eager=True,
        callback=_print_settings,
        rich_help_panel=SETTINGS,
    ),
]


def register(
    fixed: Fixed,
    moving: Moving,
    output: Output,
    inverse: Inverse = None,
    one_field: OneField = None,
    moved: Moved = None,
    quality_file: QualityFile = None,
    preset: Preset = None,
    list_presets: ListPresets = False,
    stiffness: Stiffness = None,
    settings_file: SettingsFile = None,
    print_settings: PrintSettings = None,
    initial: Initial = None,
    fixed_mask: Mask = None,
    moving_mask: Mask = None,
    ignore: Ignore = None,
    fixed_points: FixedPoints = None,
    moving_points: MovingPoints = None,
    fixed_labels: FixedLabels = None,
    moving_labels: MovingLabels = None,
    model: GuidingModel = None,
    rigid_regions: RigidRegions = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Register two images; says which one moves onto which, and how good it is."""
    from ..device import pick_device
    from ..files import read_image, read_transform
    from ..register.run import register as run
    from ..workflows.guided import guide_by_model
    from .registration_outputs import RegistrationOutputs, quality_table, registration_data

    settings = _choose_settings(preset, settings_file, stiffness)
    outputs = RegistrationOutputs(output, inverse, one_field, moved, quality_file)
    outputs.require_writable(settings, overwrite)
    guidance = _read_guidance(fixed_points, moving_points, fixed_labels, moving_labels, rigid_regions, ignore)
    with progress_bar("register") as progress:
        images = read_image(fixed), read_image(moving)
        compute_device = pick_device(device)
        if model is not None:
            guidance = guide_by_model(*images, model, guidance, device=device, progress=progress.part(0.0, MODEL_SHARE))
        result = run(
            *images,
            settings,
            fixed_mask=_labels(fixed_mask),
            moving_mask=_labels(moving_mask),
            initial=read_transform(initial) if initial else None,
            guidance=guidance,
            device=compute_device,
            progress=progress if model is None else progress.part(MODEL_SHARE, 1.0),
        )
        names = {s.value: s.name for s in guidance.fixed_labels.structures} if guidance.fixed_labels else {}
        data = registration_data(result, names)
        written = outputs.write(result, *images, data)
    show_findings(result.findings)
    if not as_json:
        screen.print(quality_table(result.quality, names))
    text = "\n".join([result.sentence, *(f"written: {path}" for path in written)])
    show_result(text, {**data, "written": [str(path) for path in written]}, as_json)


def _choose_settings(preset: str | None, file: Path | None, stiffness: str | None) -> RegistrationSettings:
    from pydantic import ValidationError

    from ..errors import InvalidSetting
    from ..files.settings_file import read_settings_file
    from ..register.presets import STIFFNESSES
    from ..register.settings import DeformableSettings, RegistrationSettings

    if file is not None and preset is not None:
        raise InvalidSetting("A preset and a file of settings are given", "one of them", "leave the other out")
    settings = (
        preset_settings(preset or "deformable") if file is None else read_settings_file(file, RegistrationSettings)
    )
    if stiffness is None:
        return settings
    if settings.deformable is None:
        raise InvalidSetting(
            "A stiffness is given for a linear registration",
            "a deformable one",
            "choose another preset, or leave it out",
        )
    wanted = {**settings.deformable.model_dump(), "stiffness": STIFFNESSES.get(stiffness, stiffness)}
    try:
        return settings.model_copy(update={"deformable": DeformableSettings.model_validate(wanted)})
    except ValidationError:
        raise InvalidSetting(
            f"The stiffness is '{stiffness}'",
            f"{', '.join(STIFFNESSES)}, auto, or a number from 0.1 to 10",
            "choose one of these",
        ) from None


def preset_settings(name: str) -> RegistrationSettings:
    """The settings of a preset; InvalidSetting when there is none of that name."""
    from ..errors import InvalidSetting
    from ..register.presets import PRESETS

    if name not in PRESETS:
        raise InvalidSetting(
            f"The preset is '{name}'", f"one of {', '.join(PRESETS)}", "choose one; 'register --presets' explains them"
        )
    return PRESETS[name]


def _read_guidance(
    fixed_points: Path | None,
    moving_points: Path | None,
    fixed_labels: Path | None,
    moving_labels: Path | None,
    rigid: Path | None,
    ignore: Path | None,
) -> Guidance:
    from ..errors import InputError
    from ..files import read_points
    from ..register.guidance import Guidance

    fixed, moving = (None if path is None else read_points(path) for path in (fixed_points, moving_points))
    if fixed and moving and fixed[0] != moving[0] and sorted(fixed[0]) == sorted(moving[0]):
        raise InputError(
            "The fixed and the moving points have the same names in another order",
            "the same place in the same row of both files",
            "sort one of the lists, or rename its points",
        )
    return Guidance(
        fixed_points=fixed and fixed[1],
        moving_points=moving and moving[1],
        fixed_labels=_labels(fixed_labels),
        moving_labels=_labels(moving_labels),
        rigid=_labels(rigid),
        ignore=_labels(ignore),
    )


def _labels(path: Path | None) -> Labels | None:
    from ..files import read_labels

    return None if path is None else read_labels(path)
