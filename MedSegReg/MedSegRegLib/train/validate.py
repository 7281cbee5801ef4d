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
from .workers import ALONE, Workers


def validate(
    network: torch.nn.Module,
    examples: Sequence[Example],
    spec: ModelSpec,
    progress: Progress = SILENT,
    workers: Workers = ALONE,
) -> list[float]:
    """Mean Dice of each class over whole examples; a class missed or invented scores 0, absent in both is left out.

    Args:
        workers: each looks at its share of the examples; the result is that of all examples.

    Raises:
        NonFiniteOutput: the network gave NaN.
        Cancelled: between two examples or tiles.
    """
    network.eval()
    sums = torch.zeros((2, len(spec.labels)), dtype=torch.float64)
    for example in workers.share(examples):
        progress.check_cancelled()
        predicted = predict_labels(network, example.image, spec)
        right = example.labels[predicted == example.labels]
        overlap, *sizes = (
            torch.bincount(labels.flatten(), minlength=spec.classes)[1:].double()
            for labels in (right, predicted, example.labels)
        )
        size = sizes[0] + sizes[1]
        sums += torch.stack((2 * overlap / size.clamp(min=1), (size > 0).double()))
    device = next(network.parameters()).device
    total, count = workers.sum(sums.to(device) if workers.count > 1 else sums).cpu()
    return (total / count.clamp(min=1)).tolist()


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
