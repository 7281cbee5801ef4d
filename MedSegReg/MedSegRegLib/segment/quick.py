"""The quick mode of a model: its network in 8-bit integers, beside the weights in the package. Not on the walk."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import torch

from ..check_image import check_image
from ..errors import ModelMismatch
from ..files.model_package import read_package, write_package
from ..files.model_spec import ModelSpec
from ..image import Image
from ..progress import SILENT, Progress
from .engines.quantise import quantise
from .model import load_model
from .predict import need_of
from .prepare import prepare
from .tiles import lay_tiles, pad_to_tiles

TILES_OF_AN_IMAGE = 8


def add_int8(folder: Path, images: Sequence[Image], output: Path, progress: Progress = SILENT) -> ModelSpec:
    """Write a model package again with an int8 graph, which the engine ``openvino-int8`` runs.

    Args:
        folder: of the package.
        images: from which the ranges of the activations are read: a handful of the kind that the model is made for.
        output: folder of the new package.

    Raises:
        ModelMismatch: an ensemble, a cascade or an ONNX graph: only a single network of the registry is made int8.
        MissingPackage: nncf, openvino or onnx is not installed.
        InputError: an image that the model cannot take.
    """
    model = load_model(folder)
    spec, files = read_package(folder)
    if len(spec.weights) > 1 or model.previous or spec.architecture.name == "onnx":
        raise ModelMismatch(
            f"'{spec.name}' is not a single network", "one network of the registry", "choose another model"
        )
    tiles: list[torch.Tensor] = []
    for number, image in enumerate(images):
        progress.update(0.5 * number / len(images), "reading examples")
        checked, _ = check_image(image, need_of(spec))
        tiles += _tiles(prepare(checked, spec), spec)
    progress.update(0.5, "quantising")
    graph, constants = quantise(model.sources[0], tiles)
    kept = {name: content for name, content in files.items() if name in spec.weights}
    contents = {**kept, "int8.xml": graph, "int8.bin": constants}
    return write_package(output, spec, contents, files.get("README.md", b"").decode())


def _tiles(image: Image, spec: ModelSpec) -> list[torch.Tensor]:
    """A few tiles of a prepared image, spread over it."""
    tiling = lay_tiles(spec, image.geometry.shape_kji)
    padded = pad_to_tiles(image.tensor, tiling, spec.tiling.padding)
    places = list(itertools.product(*tiling.starts))
    windows = [
        tuple(slice(start, start + size) for start, size in zip(place, tiling.tile, strict=True))
        for place in places[:: max(1, len(places) // TILES_OF_AN_IMAGE)]
    ]
    return [padded[:, k, j, i].clone() for k, j, i in windows]
