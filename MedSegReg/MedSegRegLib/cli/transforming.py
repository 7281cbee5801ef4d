"""Commands: transform check, convert, compose, invert. What a transform file is, and into which form it is wanted.

The library is imported when a command runs: help is instant.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..report import findings_data
from .images import Json, Output, Overwrite
from .terminal import progress_bar, screen, show_findings, show_result

if TYPE_CHECKING:
    from rich.table import Table

    from ..geometry import Geometry
    from ..register.contract import Contract
    from ..transform import Transform

app = typer.Typer(
    name="transform",
    no_args_is_help=True,
    help="Look at transform files, convert, chain and invert them. All lead from fixed to moving, as ITK, ANTs and"
    " Slicer ('from parent') keep them.",
)

TransformFile = Annotated[Path, typer.Argument(help="Transform: .h5, .tfm, .txt, .mat, or a displacement field.")]
Reference = Annotated[
    Path | None,
    typer.Option("--reference", "-r", help="The fixed image: a dense field gets its grid. Default: the field's own."),
]
Dense = Annotated[bool, typer.Option("--dense", help="One displacement field in place of the chain, in .h5 too.")]


@app.command()
def check(
    file: TransformFile,
    fixed: Annotated[Path | None, typer.Option(help="The image that it leads from.")] = None,
    moving: Annotated[Path | None, typer.Option(help="The image that it leads to: the one that is moved.")] = None,
    inverse: Annotated[
        Path | None, typer.Option(help="Its inverse, if there is a file; else one is solved for.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say what moves onto what; test points against images, the inverse, folding, support and direction."""
    from dataclasses import asdict

    from ..files import read_image, read_transform
    from ..files.transforms import read_itk_transform
    from ..register.contract import check_transform

    with progress_bar("transform check"):
        contract = check_transform(
            read_transform(file),
            read_itk_transform(file),
            inverse=read_transform(inverse) if inverse else None,
            fixed=read_image(fixed) if fixed else None,
            moving=read_image(moving) if moving else None,
        )
    show_findings(contract.findings)
    if not as_json:
        screen.print(_contract_table(contract))
    show_result(contract.sentence, {**asdict(contract), "findings": findings_data(contract.findings)}, as_json)


@app.command()
def convert(
    file: TransformFile,
    output: Output,
    reference: Reference = None,
    dense: Dense = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Write a transform in another form: .h5 (ITK, Slicer), .tfm, .txt, .mat (linear), .nii.gz, .nrrd, .mha (field)."""
    from ..files import read_transform

    _write(read_transform(file), output, reference, dense, overwrite, as_json)


@app.command()
def compose(
    files: Annotated[list[Path], typer.Argument(help="In the order in which a fixed point meets them.")],
    output: Output,
    reference: Reference = None,
    dense: Dense = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Chain transforms: A leads from fixed to middle, B from middle to moving, 'compose A B' from fixed to moving."""
    from ..files import read_transform
    from ..transform import Transform

    chain = Transform(tuple(stage for file in files for stage in read_transform(file).stages))
    _write(chain, output, reference, dense, overwrite, as_json)


@app.command()
def invert(
    file: TransformFile,
    output: Output,
    reference: Annotated[
        Path | None, typer.Option("--reference", "-r", help="The moving image: a dense field gets its grid.")
    ] = None,
    dense: Dense = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Write the inverse, from moving to fixed: exact for linear stages, solved for in displacement fields."""
    from ..files import read_transform
    from ..register.invert import invert as undo

    with progress_bar("transform invert"):
        inverse = undo(read_transform(file))
    _write(inverse, output, reference, dense, overwrite, as_json)


def _write(
    transform: Transform, output: Path, reference: Path | None, dense: bool, overwrite: bool, as_json: bool
) -> None:
    from ..files import TRANSFORM_EXTENSIONS, VOLUME_EXTENSIONS, require_writable, write_transform
    from ..transform import Transform as Chain

    require_writable(output, overwrite, TRANSFORM_EXTENSIONS)
    grid = None
    if dense or output.name.lower().endswith(VOLUME_EXTENSIONS):
        grid = _dense_grid(transform, reference)
    write_transform(Chain((transform.to_displacement(grid),)) if dense and grid else transform, output, grid)
    show_result(f"written: {output}", {"output": str(output)}, as_json)


def _dense_grid(transform: Transform, reference: Path | None) -> Geometry:
    """The reference's grid, or that of a transform which is one field already."""
    from ..errors import InvalidSetting
    from ..files import read_image
    from ..transform import Displacement

    if reference is not None:
        return read_image(reference).geometry
    first = transform.stages[0] if transform.stages else None
    if not isinstance(first, Displacement):
        raise InvalidSetting(
            "It is not known on which grid the displacement field is wanted",
            "a transform that begins with a field, or the image it leads from",
            "give that image with --reference",
        )
    return first.geometry


def _contract_table(contract: Contract) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table("transform", "")
    for number, stage in enumerate(contract.stages, 1):
        table.add_row(f"stage {number}", Text(stage))
    table.add_row("points and images, here and in ITK", f"agree to {contract.points_and_images_mm:.5f} mm")
    error = contract.inverse
    table.add_row(
        "inverse error: mean, 99 %, largest", f"{error.mean_mm:.3f}, {error.p99_mm:.3f}, {error.max_mm:.3f} mm"
    )
    if contract.folding is not None and contract.support is not None:
        folding, support = contract.folding, contract.support
        table.add_row("folded voxels, any corner", f"{folding.voxels_any_corner} ({folding.percent_any_corner:.4f} %)")
        box = zip("RAS", support.lowest_ras_mm, support.highest_ras_mm, strict=True)
        table.add_row("support", ", ".join(f"{axis} {low:.0f}..{high:.0f}" for axis, low, high in box) + " mm")
        table.add_row("fixed points inside the support", f"{100 * support.covered:.1f} %")
        table.add_row("longest vector on its border", f"{support.border_mm:.2f} mm")
    if contract.direction is not None:
        way = contract.direction
        table.add_row(
            "mutual information: through, without, reversed",
            f"{way.through:.3f}, {way.without:.3f}, {way.reversed:.3f}",
        )
    return table
