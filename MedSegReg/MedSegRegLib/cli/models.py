"""Commands on models: what is installed, whether it is whole, and how models come and go."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..report import findings_data
from .terminal import EXIT_REFUSED, plain, progress_bar, screen, show_findings, show_result

if TYPE_CHECKING:
    from ..files.model_spec import ModelSpec

app = typer.Typer(help="Models: list, check, install and pass on.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Name = Annotated[str, typer.Argument(help="Name of an installed model, or its folder.")]


@app.command("list")
def list_models(as_json: Json = False) -> None:
    """List the installed models, and those that are damaged."""
    from rich.table import Table

    from ..files.model_signature import signature_state
    from ..files.model_store import list_models as installed

    specs, faults = installed()
    if as_json:
        models = [_facts(folder, spec) for folder, spec in specs.items()]
        damaged = [{"folder": str(folder), "error": error.found} for folder, error in faults.items()]
        show_result("", {"models": models, "damaged": damaged}, True)
        return
    table = Table()
    table.add_column("name", no_wrap=True, min_width=max((len(s.name) for s in specs.values()), default=4))
    for title in ("title", "version", "input", "structures", "mean Dice on held-out cases", "licence", "signature"):
        table.add_column(title)
    for folder, spec in specs.items():
        cells = (spec.name, spec.title, spec.version, _inputs(spec), _structures(spec, 8), _dice(spec), spec.licence)
        table.add_row(*(plain(cell) for cell in (*cells, str(signature_state(folder)))))
    screen.print(table)
    for folder, error in faults.items():
        screen.print(plain(f"damaged: {folder.name}: {error.found}"), style="yellow")


@app.command()
def show(name: Name, as_json: Json = False) -> None:
    """Show a model: what it takes and gives, size, licence, signature and card."""
    from ..files.model_archive import package_bytes
    from ..files.model_package import read_spec
    from ..files.model_signature import signature_state
    from ..files.model_store import model_folder

    folder = model_folder(name)
    spec = read_spec(folder)
    card = (folder / "README.md").read_text(encoding="utf-8", errors="replace") if "README.md" in spec.sha256 else ""
    if as_json:
        show_result("", {**_facts(folder, spec), "bytes": package_bytes(folder), "card": card}, True)
        return
    lines = {
        "name": f"{spec.name} {spec.version}: {spec.title}",
        "about": spec.description,
        "input": _inputs(spec),
        "structures": f"{len(spec.labels)}: {_structures(spec)}",
        "network": f"{spec.architecture.name}, {spec.architecture.dimensions}D, {len(spec.weights)} file(s) of weights",
        "size": f"{package_bytes(folder) / 2**20:.1f} MiB in {folder}",
        **(
            {"parent": f"{spec.parent.name} (weights {spec.parent.sha256[:12]}), needed to use it"}
            if spec.parent
            else {}
        ),
        "licence": spec.licence,
        "signature": str(signature_state(folder)),
    }
    screen.print(plain("\n".join(f"{key:>10}: {value}" for key, value in lines.items())))
    screen.print(plain(f"\n{card}"))


@app.command()
def verify(
    name: Annotated[str, typer.Argument(help="Name of a model, or its folder; without it, all.")] = "",
    as_json: Json = False,
) -> None:
    """Check every hash and signature, and that all weights are finite and fit the architecture."""
    from ..errors import MedSegRegError
    from ..files.model_signature import signature_state
    from ..files.model_store import list_models as installed
    from ..files.model_store import model_folder
    from ..segment.model import load_model

    folders = [model_folder(name)] if name else [folder for group in installed() for folder in group]
    faults: dict[Path, str] = {}
    for folder in folders:
        try:
            load_model(folder)
        except MedSegRegError as error:
            faults[folder] = error.found
    if as_json:
        models = [
            {"folder": str(folder), "whole": folder not in faults, "error": faults.get(folder)} for folder in folders
        ]
        show_result("", {"models": models}, True)
    else:
        for folder in folders:
            said = f"refused: {faults[folder]}" if folder in faults else f"whole, {signature_state(folder)}"
            screen.print(plain(f"{folder.name}: {said}"), style="red" if folder in faults else None)
    if faults:
        raise typer.Exit(EXIT_REFUSED)


@app.command("import")
def import_model(
    source: Annotated[Path, typer.Argument(exists=True, help="Our zip or folder, or a model of another tool.")],
    name: Annotated[str | None, typer.Option(help="Name for a model of another tool.")] = None,
    licence: Annotated[str | None, typer.Option(help="Licence of the weights of a model of another tool.")] = None,
    configuration: Annotated[str | None, typer.Option(help="Which of several, such as 3d_fullres.")] = None,
    folds: Annotated[str | None, typer.Option(help="Which folds, such as 0,1,2; without it, all.")] = None,
    description: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="JSON with what an ONNX or TorchScript file lacks.")
    ] = None,
    replace: Annotated[bool, typer.Option(help="Replace a model of the same name and other content.")] = False,
    as_json: Json = False,
) -> None:
    """Install models: an archive of 'model export', a package folder, or a model of another tool.

    Other tools are nnU-Net, TotalSegmentator, MONAI, TorchScript and ONNX. Nothing in a model is ever run. Of an
    archive all models are installed, or none.
    """
    from ..model_import.install import install_models

    wishes = {
        "name": name,
        "licence": licence,
        "configuration": configuration,
        "folds": _numbers(folds),
        "description": description,
    }
    with progress_bar("import") as progress:
        outcomes, findings = install_models(source, wishes, replace=replace, progress=progress)
    show_findings(findings)
    data = {"models": outcomes, "findings": findings_data(findings)}
    show_result("\n".join(f"{model}: {outcome}" for model, outcome in outcomes.items()), data, as_json)


@app.command()
def export(
    output: Annotated[Path, typer.Option("--output", "-o", help="The archive to write: NAME.zip.")],
    names: Annotated[list[str] | None, typer.Argument(help="Names of models, or their folders.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All models of your own.")] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace an existing file.")] = False,
    as_json: Json = False,
) -> None:
    """Write models into one zip archive, for a machine without a network. The same models give the same bytes.

    With an adapted model goes the one that it was adapted from, unless that is shipped with MedSegReg.
    """
    from ..errors import InvalidSetting
    from ..files import require_writable
    from ..files.model_archive import write_archive
    from ..files.model_delta import missing_parents
    from ..files.model_store import list_models as installed
    from ..files.model_store import model_folder, user_store

    require_writable(output, overwrite, (".zip",))
    folders = [model_folder(name) for name in names or ()]
    if everything:
        specs, faults = installed()
        for error in faults.values():
            raise error
        folders += [folder for folder in specs if folder.parent == user_store() and folder not in folders]
    if not folders:
        raise InvalidSetting("No model is named", "names of models, or --all with models of your own", "name one")
    folders += missing_parents(folders)
    digest = write_archive(folders, output)
    data = {"archive": str(output), "sha256": digest, "models": [folder.name for folder in folders]}
    show_result(f"written: {output} ({len(folders)} models, sha256 {digest})", data, as_json)


@app.command()
def remove(
    name: Annotated[str, typer.Argument(help="Name of a model of your own, or of its folder in the store.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Remove a model from your store. Models that were adapted from it cannot be used without it: it says which."""
    from ..files.model_store import remove_model
    from ..report import Finding

    children = _adapted_from(name)
    if children:
        needed = f"'{name}' is needed by {', '.join(children)}, which {'was' if len(children) == 1 else 'were'} adapted"
        show_findings([Finding.warn(f"{needed} from it", "Export it first, so that it can be installed again.")])
    if not yes:
        typer.confirm(f"Remove the model '{name}'?", abort=True, err=True)
    folder = remove_model(name)
    show_result(f"removed: {folder}", {"removed": str(folder), "needed_by": children}, as_json)


@app.command()
def sign(
    name: Name,
    key: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="Private key, Ed25519 in PEM.")],
    signer: Annotated[str, typer.Option(help="Who signs, such as the name of the hospital.")],
    expires: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="The model is refused from this day on (UTC).")
    ] = None,
    encrypted: Annotated[bool, typer.Option(help="Ask for the password of the private key.")] = False,
    as_json: Json = False,
) -> None:
    """Sign a model, so that others can see that it comes from you unchanged.

    Make a key with 'openssl genpkey -algorithm ed25519 -out private.pem' and keep it. Write the other half with
    'openssl pkey -in private.pem -pubout -out "Our hospital.pem"': in ~/.medsegreg/keys (or $MEDSEGREG_KEYS) of any
    machine it makes your models "signed by Our hospital" there.
    """
    from ..files.model_signature import sign_model
    from ..files.model_store import model_folder
    from ..segment.model import load_model

    folder = model_folder(name)
    load_model(folder)
    password = typer.prompt("Password", hide_input=True, err=True).encode() if encrypted else None
    state = sign_model(folder, key, signer, expires and expires.replace(tzinfo=timezone.utc), password)
    show_result(f"{folder.name}: {state}", {"folder": str(folder), "signature": str(state)}, as_json)


def _adapted_from(name: str) -> list[str]:
    """Names of the models that need this one, of which nothing is known when it is damaged or not there."""
    from ..errors import ModelError
    from ..files.model_delta import children_of
    from ..files.model_store import model_folder

    try:
        return children_of(model_folder(name))
    except ModelError:
        return []


def _numbers(text: str | None) -> tuple[int, ...] | None:
    from ..errors import InvalidSetting

    if text is None:
        return None
    numbers = text.split(",")
    if not all(number.strip().isdecimal() for number in numbers):
        raise InvalidSetting(f"The folds are '{text}'", "numbers with commas, such as 0,1,2", "correct them")
    return tuple(map(int, numbers))


def _facts(folder: Path, spec: ModelSpec) -> dict[str, object]:
    from ..files.model_signature import signature_state
    from ..files.model_store import SHIPPED

    facts = {"folder": str(folder), "shipped": folder.parent == SHIPPED, "signature": str(signature_state(folder))}
    return {**spec.model_dump(mode="json", exclude_none=True), **facts}


def _inputs(spec: ModelSpec) -> str:
    return ", ".join(f"{channel.modality} {channel.name}" for channel in spec.channels)


def _structures(spec: ModelSpec, at_most: int | None = None) -> str:
    names = [label.name for label in spec.labels]
    return ", ".join(names[:at_most]) + (f" ... ({len(names)})" if at_most and len(names) > at_most else "")


def _dice(spec: ModelSpec) -> str:
    dice = [scores["dice_mean"] for scores in spec.scores.values() if "dice_mean" in scores]
    return f"{sum(dice) / len(dice):.3f}" if dice else "not measured"
