"""Models of other tools become model packages. Import walk: file or folder -> [run] -> reader of its kind -> package.

No foreign code is executed, and no foreign pickle is opened in this process: ``isolation`` starts one that may die.
"""

from __future__ import annotations

import tempfile
import zipfile
from pathlib import Path

import torch
from safetensors.torch import save

from .. import __version__
from ..errors import OutputNotWritable, UnsupportedFile
from ..files.model_package import write_package
from ..files.model_spec import ModelSpec
from ..progress import SILENT, Progress
from ..report import Finding
from .checkpoint import LEGACY_START
from .described_graph import read_graph
from .hd_bet import from_tables, hd_bet_files, is_hd_bet, read_hd_bet
from .imported import Imported, Wishes
from .isolation import read_weights_of
from .monai_bundle import is_bundle, read_bundle
from .nnunet import is_nnunet, read_nnunet
from .source_files import MAX_TEXT_BYTES, SourceFiles, json_object

KINDS = (
    "a result folder or zip of nnU-Net v2 or TotalSegmentator, a MONAI bundle, weights of HD-BET 1, "
    "or an ONNX or TorchScript file with a description"
)


def import_model(
    source: Path,
    output: Path,
    *,
    name: str | None = None,
    licence: str | None = None,
    configuration: str | None = None,
    folds: tuple[int, ...] | None = None,
    description: Path | None = None,
    progress: Progress = SILENT,
) -> tuple[ModelSpec, tuple[Finding, ...]]:
    """Write the model package of a foreign model into the folder ``output``.

    Args:
        source: a folder, a zip or a single file; its kind is recognised by its content.
        output: a folder that holds no model yet.
        name: of the model; None makes one of the source's.
        licence: of the weights, as their authors state it; None takes the source's statement, if there is one.
        configuration: of nnU-Net (``3d_fullres``, ...), where the source holds several; None takes the first of
            3d_fullres, 3d_cascade_fullres, 3d_lowres and 2d.
        folds: of a cross-validation, which become an ensemble; None takes all that are there.
        description: a JSON file with the part of ``model.json`` that an ONNX or TorchScript file does not hold; for a
            MONAI bundle, what it shall say differently.
        progress: may cancel.

    Returns:
        The description as written, and what the user should know about the import.

    Raises:
        UnsafeFile: the source would run code, or claims more than it holds, or its reader died.
        DamagedModel: truncated, or weights that are not finite.
        UnsupportedFile: a kind, a network or a setting that is not known here.
        ModelMismatch: weights that do not fit the network, or parts that contradict each other.
        UnknownModel: nothing there, or not the wanted configuration or fold.
        OutputNotWritable: the output folder holds a model already.
    """
    if (output / "model.json").exists():
        raise OutputNotWritable(f"'{output}' holds a model already", "a free folder", "choose another folder")
    given = json_object(_text(description), description.name) if description else {}
    wishes = Wishes(name, licence, configuration, folds, given)
    with tempfile.TemporaryDirectory(prefix="medsegreg-import-") as scratch:
        imported = _read(source, SourceFiles(source, Path(scratch)), wishes, progress)
        progress.update(0.9, "writing")
        spec = _write(imported, output)
    progress.update(1.0, "done")
    return spec, tuple(imported.findings)


def _read(path: Path, source: SourceFiles, wishes: Wishes, progress: Progress) -> Imported:
    progress.update(0.05, "reading")
    if path.is_file() and path.suffix.lower() == ".onnx":
        return read_graph(path, "onnx", wishes, progress)
    parts = _parts_of_torch_file(path)
    if "constants.pkl" in parts:
        return read_graph(path, "torchscript", wishes, progress)
    if "data.pkl" in parts or _starts_as_legacy(path):
        return _read_weights(path, wishes, progress)
    if path.is_dir() or zipfile.is_zipfile(path):
        for fits, read in ((is_nnunet, read_nnunet), (is_bundle, read_bundle), (hd_bet_files, read_hd_bet)):
            if fits(source):
                return read(source, wishes, progress)
    raise UnsupportedFile(
        f"'{path.name}' is not a model of a kind that can be imported",
        KINDS,
        "choose the folder that holds plans.json and dataset.json, or the file itself; a damaged zip must be "
        "downloaded again",
    )


def _read_weights(path: Path, wishes: Wishes, progress: Progress) -> Imported:
    """A single file of weights says nothing about its network, so only known names of weights help."""
    tensors, _ = read_weights_of(path, progress)
    if is_hd_bet(tensors):
        return from_tables([tensors], wishes)
    raise UnsupportedFile(
        f"'{path.name}' holds weights of an unknown network ({', '.join(list(tensors)[:3])}, ...)",
        KINDS,
        "give the folder that describes them, for nnU-Net the one with plans.json; or export the model to ONNX",
    )


def _parts_of_torch_file(path: Path) -> set[str]:
    if not path.is_file() or not zipfile.is_zipfile(path):
        return set()
    try:
        with zipfile.ZipFile(path) as archive:
            return {entry.partition("/")[2] for entry in archive.namelist()}
    except (zipfile.BadZipFile, NotImplementedError, ValueError):
        return set()


def _starts_as_legacy(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(LEGACY_START)) == LEGACY_START


def _write(imported: Imported, folder: Path) -> ModelSpec:
    """The package and, in ``previous``, the one that runs before it. Weights keep their precision."""
    files = {"network.onnx": imported.graph} if imported.graph else {}
    for file, weights in zip(imported.spec.weights, imported.weights, strict=not imported.graph):
        files[file] = save({key: tensor.contiguous() for key, tensor in sorted(weights.items())})
    if imported.previous is not None:
        _write(imported.previous, folder / "previous")
        files["previous/model.json"] = (folder / "previous" / "model.json").read_bytes()
    return write_package(folder, imported.spec, files, _card(imported))


def _card(imported: Imported) -> str:
    spec = imported.spec
    lines = [f"# {spec.title}", "", spec.description, "", f"Licence: {spec.licence}.", ""]
    lines += [f"Imported by MedSegReg {__version__} with torch {torch.__version__} from: "]
    lines += [f"- {key}: {value}" for key, value in spec.training.items()]
    lines += ["", "Notes on the import:", "", *(f"- {finding}" for finding in imported.findings)] * bool(
        imported.findings
    )
    return "\n".join(lines) + "\n"


def _text(path: Path) -> str:
    if not path.is_file() or path.stat().st_size > MAX_TEXT_BYTES:
        raise UnsupportedFile(f"The description '{path}' is not a small file", "a JSON file", "check the path")
    return path.read_text("utf-8")
