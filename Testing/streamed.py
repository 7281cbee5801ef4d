"""What the tests of the segmentation core share: models in memory, tiles streamed into whole arrays, live memory."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from MedSegRegLib.files.architectures import MonaiArchitecture
from MedSegRegLib.files.model_spec import ModelSpec
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Image
from MedSegRegLib.progress import SILENT, Progress
from MedSegRegLib.segment import Model
from MedSegRegLib.segment.engines import Head, Source, make_engine
from MedSegRegLib.segment.stream import Planes, Streaming, stream_order, stream_planes
from MedSegRegLib.segment.tiles import lay_tiles, pad_to_tiles
from small_training import random_network

CPU = torch.device("cpu")
MONAI: dict[str, dict[str, Any]] = {
    "UNet": {"channels": [4, 8, 8], "strides": [2, 2], "num_res_units": 1},
    "BasicUNet": {"features": [4, 4, 8, 8, 8, 4]},
    "DynUNet": {"kernel_size": [3, 3, 3], "strides": [1, 2, 2], "upsample_kernel_size": [2, 2], "filters": [4, 8, 8]},
    "SegResNet": {"init_filters": 8, "blocks_down": [1, 1], "blocks_up": [1]},
    "AttentionUnet": {"channels": [4, 8], "strides": [2]},
    "VNet": {},
    "UNETR": {"img_size": [32, 32, 32], "feature_size": 4, "hidden_size": 12, "mlp_dim": 12, "num_heads": 2},
}


def monai(network: str, **settings: object) -> MonaiArchitecture:
    """A small network of MONAI, for tiles that are multiples of 16."""
    return MonaiArchitecture(name="monai", network=network, settings={**MONAI[network], **settings}, multiple=16)


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def random_image(size_ijk: tuple[int, int, int], seed: int = 0) -> Image:
    """One channel on voxels of 1 mm."""
    geometry = Geometry.from_spacing(size_ijk)
    return Image.from_array(np.random.default_rng(seed).normal(100, 20, geometry.shape_kji), geometry, "study 7")


def source_of(spec: ModelSpec, network: torch.nn.Module) -> Source:
    architecture = spec.architecture
    return Source(
        network,
        architecture.model_dump_json(),
        len(spec.channels),
        spec.tile_ijk[::-1],
        architecture.multiple_kji,
        architecture.dimensions,
    )


def model_of(spec: ModelSpec, *networks: torch.nn.Module) -> Model:
    """A model in memory, by default of one random network."""
    spec = spec.model_copy(update={"sha256": dict.fromkeys(spec.weights, "0" * 64)})
    sources = tuple(source_of(spec, network) for network in networks or (random_network(spec),))
    return Model(spec, sources, tuple(make_engine("torch", source, CPU) for source in sources))


class Function:
    """An engine that runs a function on tiles [N, C, K, J, I]; its result has as many channels as there are classes."""

    name = "function"
    description = "a function"

    def __init__(
        self,
        function: Callable[[torch.Tensor], torch.Tensor] = lambda tiles: tiles,
        device: torch.device = CPU,
        head: Head | None = None,
    ) -> None:
        self.run, self.device, self.head = function, device, head


def stream(
    engines: Any,
    spec: ModelSpec,
    image: torch.Tensor,
    *,
    features: int,
    order: tuple[int, int, int] | None = None,
    batch: int = 1,
    mirror: tuple[int, ...] = (),
    wanted: Callable[[torch.Tensor], bool] | None = None,
    progress: Progress = SILENT,
) -> tuple[list[Planes], tuple[int, int, int]]:
    """All planes of an image [C, K, J, I], and the order of their axes."""
    tiling = lay_tiles(spec, tuple(image.shape[1:]))
    order = order or stream_order(tiling)
    padded = pad_to_tiles(image, tiling, spec.tiling.padding).permute(0, *(1 + axis for axis in order))
    streaming = Streaming(order, features, batch, mirror)
    with torch.no_grad():
        planes = list(stream_planes(engines, padded, tiling.exchanged(order), streaming, wanted, progress))
    return planes, order


def joined(planes: list[Planes], order: tuple[int, int, int]) -> torch.Tensor:
    """The features of all planes, [F, K, J, I]."""
    assert [plane.first for plane in planes] == [
        sum(before.features.shape[1] for before in planes[:n]) for n in range(len(planes))
    ]
    return torch.cat([plane.features for plane in planes], 1).permute(0, *(1 + order.index(axis) for axis in range(3)))


def streamed_scores(model: Model, image: torch.Tensor, **how: Any) -> torch.Tensor:
    """Blended scores of every class, [classes, K, J, I]."""
    features = joined(*stream(model.engines, model.spec, image, features=model.blended_features, **how))
    if not model.heads:
        return features
    parts = features.split([head.weight.shape[1] for head in model.heads])
    scores = [
        torch.einsum("cf,fkji->ckji", head.weight, part) + head.bias.view(-1, 1, 1, 1)
        for head, part in zip(model.heads, parts, strict=True)
    ]
    return torch.stack(scores).mean(0)


class LiveMemory(TorchDispatchMode):
    """Bytes of the tensors that are made inside and live: now, at most, and of the largest one.

    Args:
        given: tensors made before, whose views are not counted.
    """

    def __init__(self, *given: torch.Tensor) -> None:
        super().__init__()
        self.now = self.peak = self.largest = 0
        self._seen: dict[int, object] = {tensor.untyped_storage()._cdata: tensor for tensor in given}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self._see(leaf.untyped_storage())
        return result

    def _see(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._seen:
            return
        size = storage.nbytes()
        self._seen[key] = weakref.finalize(storage, self._forget, key, size)
        self.now += size
        self.peak, self.largest = max(self.peak, self.now), max(self.largest, size)

    def _forget(self, key: int, size: int) -> None:
        del self._seen[key]
        self.now -= size
