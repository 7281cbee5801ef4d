"""A model made smaller and faster, measured on the user's own images. The whole compression walk in one function."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import torch
from safetensors.torch import load as load_safetensors

from ..check_image import check_image
from ..device import pick_device
from ..errors import MissingPackage, ModelMismatch
from ..evaluate.scores import compare_labels
from ..files.architectures import UNetArchitecture
from ..files.model_package import read_package, read_spec, write_model, write_package
from ..files.model_spec import ModelSpec
from ..files.model_store import model_folder
from ..image import Labels
from ..progress import SILENT, Progress
from ..segment.model import Model, load_model
from ..segment.predict import need_of
from ..segment.prepare import prepare
from ..segment.quick import add_int8
from ..segment.unet import UNet
from .compression_card import Compression, Row, describe
from .dataset import Example
from .distil import Distillation, distil
from .measure import measure
from .prune import HEADS, prune, thinner
from .samples import Sample, part_samples
from .validate import predict_labels

TOLERANCE = 0.01
INT8 = "openvino-int8"
Variants = dict[str, Path]


def compress_model(
    model: str | Path,
    samples: Sequence[Sample],
    output: Path,
    settings: Distillation | None = None,
    *,
    tolerance: float = TOLERANCE,
    name: str | None = None,
    device: str = "auto",
    progress: Progress = SILENT,
) -> Compression:
    """Make smaller variants of a model, measure them beside it, and write the one that serves best here.

    The variants: ``half``, weights in half precision, unless they are; ``int8``, weights and convolutions in 8-bit
    integers (:mod:`..segment.quick`); ``student``, a network of half as many channels that learns the full model's
    scores (:mod:`prune`, :mod:`distil`); ``student-int8``, both. They are made from the images of one half of the
    patients and measured on the other half. The best is the fastest whose mean Dice is not more than ``tolerance``
    below the full model's.

    Args:
        model: name or folder.
        samples: of two patients or more, as the model takes them (see :func:`samples.read_samples`). With labels, Dice
            and distances are against these; else against what the full model finds.
        output: folder that gets the package, unless the full model is the best.
        settings: of the student.
        name: of the new model; without it the model's with the variant's.

    Raises:
        ModelMismatch: a cascade, or a model that works in the space of a template.
        DatasetError: fewer than two patients, or labels for some images only.
        ModelError, InputError, Diverged, WorkerLost, Cancelled: nothing is written then.
    """
    folder, chosen = model_folder(model), pick_device(device)
    _require_compressible(read_spec(folder))
    made_from, measured = part_samples(samples)
    full = load_model(folder, chosen, "auto", progress.part(0.0, 0.05))
    with tempfile.TemporaryDirectory(prefix="medsegreg-") as place:
        variants, left_out = make_variants(
            full, folder, made_from, Path(place), settings or Distillation(), progress.part(0.05, 0.7)
        )
        rows = measure_variants(full, variants, measured, progress.part(0.7, 1.0))
        result = describe(full, rows, left_out, made_from, measured, tolerance)
        best = result.best.variant
        if best == "full":
            return result
        spec, files = read_package(variants[best])
        spec, card = result.package(full, spec, name)
        files = {file: content for file, content in files.items() if file != "README.md"}
        return result.written(write_package(output, spec, files, card))


def make_variants(
    full: Model, folder: Path, samples: Sequence[Sample], place: Path, settings: Distillation, progress: Progress
) -> tuple[Variants, dict[str, str]]:
    """Packages of all variants by their names, the full one first; and why others could not be made."""
    images = [sample.image for sample in samples]
    variants: Variants = {"full": folder}
    left_out: dict[str, str] = {}
    whole = _without_parent(full, folder, place / "whole")

    def student(output: Path) -> None:
        write_student(full, samples, output, settings, progress.part(0.2, 0.9))

    def student_int8(output: Path) -> None:
        if "student" not in variants:
            raise ModelMismatch(left_out["student"])
        add_int8(variants["student"], images, output, progress.part(0.9, 1.0))

    ways: dict[str, Callable[[Path], object]] = {
        "half": lambda output: _write_half(full, whole, output),
        "int8": lambda output: add_int8(whole, images, output, progress.part(0.0, 0.2)),
        "student": student,
        "student-int8": student_int8,
    }
    for name, make in ways.items():
        try:
            make(place / name)
            variants[name] = place / name
        except (ModelMismatch, MissingPackage) as error:
            left_out[name] = error.found
    return variants, left_out


def write_student(
    full: Model, samples: Sequence[Sample], output: Path, settings: Distillation, progress: Progress = SILENT
) -> ModelSpec:
    """A package of half as many channels a stage, which begin as the most important ones and learn the full model.

    Raises:
        ModelMismatch: the network is not a U-Net of the nnU-Net family.
        Diverged, Cancelled.
    """
    spec = full.spec
    thin = thinner(spec.architecture, settings.share)
    network = cast(UNet, full.sources[0].network)
    examples = []
    for sample in samples:
        image = prepare(check_image(sample.image, need_of(spec))[0], spec)
        examples.append(Example(sample.name, image.tensor, predict_labels(network, image.tensor, spec)))
    single = spec.model_copy(update={"architecture": thin, "weights": ("weights.safetensors",), "parent": None})
    begin = prune(network, cast(UNetArchitecture, spec.architecture), thin)
    body = {name: tensor for name, tensor in begin.items() if not name.startswith(HEADS)}
    return write_model(output, single, [distil(full, single, body, examples, settings, progress)], "")


def measure_variants(
    full: Model, variants: Variants, samples: Sequence[Sample], progress: Progress = SILENT
) -> list[Row]:
    """A row for each variant, in the same order; the full model's is the first."""
    images = [sample.image for sample in samples]
    truth: list[Labels] = [sample.labels for sample in samples if sample.labels is not None]
    rows: list[Row] = []
    for number, (name, folder) in enumerate(variants.items()):
        part = progress.part(number / len(variants), (number + 1) / len(variants))
        part.update(0.0, f"measuring the variant {name}")
        quick = name.endswith("int8")
        device = torch.device("cpu") if quick else full.device
        asked = INT8 if quick else "auto"
        engine = load_model(folder, device, asked, part).engines[0].name  # chosen here, remembered there
        found = measure(folder, asked, device, images, part)
        labels = [
            Labels(tensor, image.geometry, full.spec.structures, image.name)
            for tensor, image in zip(found.labels, images, strict=True)
        ]
        truth = truth or labels  # the full model's own
        scores = [
            score
            for pair in zip(truth, labels, strict=True)
            for score in compare_labels(*pair, full.spec.structures)
            if score.dice is not None
        ]
        rows.append(Row.of(name, engine, scores, found, _weight_bytes(folder, quick)))
    return rows


def _require_compressible(spec: ModelSpec) -> None:
    if spec.previous_stage or spec.standard:
        raise ModelMismatch(
            f"'{spec.name}' is a cascade, or works in the space of a template",
            "a model that takes the image itself",
            "choose another model",
        )


def _without_parent(full: Model, folder: Path, output: Path) -> Path:
    """The package; of an adapted model one that needs no parent."""
    if full.spec.parent is None:
        return folder
    spec = full.spec.model_copy(update={"parent": None, "weights": ("weights.safetensors",)})
    write_model(output, spec, [full.sources[0].network.state_dict()], "")  # type: ignore[union-attr]
    return output


def _write_half(full: Model, whole: Path, output: Path) -> None:
    spec, files = read_package(whole)
    if spec.architecture.name == "onnx":
        raise ModelMismatch(f"'{spec.name}' is an ONNX graph, whose weights stay as they are")
    stored = [tensor for name in spec.weights for tensor in load_safetensors(files[name]).values()]
    if max(tensor.element_size() for tensor in stored) <= torch.float16.itemsize:
        raise ModelMismatch(f"the weights of '{spec.name}' are stored in half precision already")
    write_model(output, spec, [source.network.state_dict() for source in full.sources], "")  # type: ignore[union-attr]


def _weight_bytes(folder: Path, quick: bool) -> int:
    """Of the files that are computed with."""
    spec, files = read_package(folder)
    names = [name for name in files if name.startswith("int8")] if quick else spec.weights
    return sum(len(files[name]) for name in names)
