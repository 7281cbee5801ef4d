"""Commands on images: apply, preprocess.

The library is imported when a command runs: help is instant.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..report import findings_data
from .terminal import progress_bar, show_findings, show_result

Output = Annotated[Path, typer.Option("--output", "-o", help="File to write.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Overwrite = Annotated[bool, typer.Option(help="Replace files that exist.")]
ReplaceNonfinite = Annotated[
    bool, typer.Option(help="Replace NaN and infinite voxels by the minimum instead of refusing them.")
]


def add_commands(app: typer.Typer) -> None:
    """Register this file's commands."""
    for command in (apply, preprocess):
        app.command()(command)


def apply(
    transform: Annotated[Path, typer.Argument(help="Transform from fixed to moving, as 'register' writes it.")],
    moving: Annotated[Path, typer.Argument(help="Image or label map to be moved.")],
    reference: Annotated[Path, typer.Option("--reference", "-r", help="Image whose grid the result gets.")],
    output: Output,
    labels: Annotated[bool, typer.Option(help="The input is a label map (.seg.nrrd always is).")] = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Bring an image or a label map onto another grid through a transform."""
    from ..files import read_image, read_labels, read_transform, require_writable, write_image, write_labels
    from ..resample import resample_image, resample_labels

    require_writable(output, overwrite)
    with progress_bar("apply"):
        grid, chain = read_image(reference).geometry, read_transform(transform)
        if labels or moving.name.endswith(".seg.nrrd"):
            write_labels(resample_labels(read_labels(moving), grid, chain), output)
        else:
            write_image(resample_image(read_image(moving), grid, chain), output)
    show_result(f"written: {output}", {"output": str(output)}, as_json)


def preprocess(
    image: Annotated[Path, typer.Argument(help="Image to be prepared.")],
    output: Output,
    step: Annotated[
        list[str],
        typer.Option(
            "--step",
            "-s",
            help="In this order: n4_bias_correction, gaussian_denoise:sigma_mm=1, clahe, z_score, percentile_range,"
            " histogram_equalization, ct_window:low_hu=-160,high_hu=240.",
        ),
    ],
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Denoise, correct and normalise an image; it keeps its grid."""
    from ..check_image import Need, check_image
    from ..files import read_image, require_writable, write_image
    from ..preprocess import apply_steps, step_from_text

    steps = [step_from_text(text) for text in step]
    require_writable(output, overwrite)
    with progress_bar("preprocess"):
        source, findings = check_image(
            read_image(image), Need("preprocess", channels=None, allow_single_slice=True, contrast=False)
        )
        write_image(apply_steps(source, steps), output)
    show_findings(findings)
    show_result(f"written: {output}", {"output": str(output), "findings": findings_data(findings)}, as_json)
