"""How good the network is on whole examples. Training walk: loop -> [validate] -> history."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..files.model_spec import ModelSpec
from ..progress import SILENT, Progress
from ..segment.decide import Decision
from ..segment.engines import Source, make_engine
from ..segment.stream import Streaming, stream_planes
from ..segment.tiles import lay_tiles, pad_to_tiles
from .dataset import Example


def validate(
    network: torch.nn.Module, examples: Sequence[Example], spec: ModelSpec, progress: Progress = SILENT
) -> list[float]:
    """Mean Dice of each class over whole examples; a class missed or invented scores 0, absent in both is left out.

    Raises:
        NonFiniteOutput: the network gave NaN.
        Cancelled: between two examples or tiles.
    """
    network.eval()
    dice: list[list[float]] = [[] for _ in spec.labels]
    for example in examples:
        progress.check_cancelled()
        predicted = predict_labels(network, example.image, spec)
        right = example.labels[predicted == example.labels]
        overlap, found, wanted = (
            torch.bincount(labels.flatten(), minlength=spec.classes).tolist()
            for labels in (right, predicted, example.labels)
        )
        for number, values in enumerate(dice, start=1):
            if size := found[number] + wanted[number]:
                values.append(2 * overlap[number] / size)
    return [sum(values) / max(1, len(values)) for values in dice]


def predict_labels(network: torch.nn.Module, image: torch.Tensor, spec: ModelSpec) -> torch.Tensor:
    """Labels [K, J, I] of an image [C, K, J, I] on the model's grid; both on the CPU."""
    device = next(network.parameters()).device
    tiling = lay_tiles(spec, tuple(image.shape[1:]))  # type: ignore[arg-type]
    architecture = spec.architecture
    source = Source(
        network,
        architecture.model_dump_json(),
        len(spec.channels),
        tiling.tile,
        architecture.multiple_kji,
        architecture.dimensions,
    )
    engine = make_engine("torch", source, device)
    blended = spec.classes if engine.head is None else engine.head.weight.shape[1]
    decision = Decision((engine.head,) if engine.head else (), spec.regions, spec.classes, device)
    padded = pad_to_tiles(image.to(device), tiling, spec.tiling.padding)
    planes = stream_planes([engine], padded, tiling, Streaming((0, 1, 2), blended, blend_on=device))
    parts = [decision.labels(one.features.flatten(1)).reshape(one.features.shape[1:]) for one in planes]
    return torch.cat(parts).long().cpu()
