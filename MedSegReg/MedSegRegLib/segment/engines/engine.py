"""What every engine takes and gives. Segmentation walk: tiles -> [engine] -> features or scores -> head -> scores."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, cast

import torch
from torch import nn

from ...errors import InvalidSetting
from ..network import Network


@dataclass(frozen=True, eq=False)
class Head:
    """The network's last 1x1x1 convolution: scores = weight @ features + bias, voxel by voxel.

    Attributes:
        weight: [classes, features] float32.
        bias: [classes] float32.
    """

    weight: torch.Tensor
    bias: torch.Tensor

    def scores(self, features: torch.Tensor) -> torch.Tensor:
        """[N, F, K, J, I] -> [N, classes, K, J, I]."""
        weight, bias = self.weight.to(features), self.bias.to(features)
        return torch.einsum("cf,nfkji->nckji", weight, features) + bias[:, None, None, None]

    @classmethod
    def of(cls, network: Network) -> Head | None:
        """The head of a network where its features are fewer than its classes, so that it pays to blend features."""
        layer = cast("nn.Conv3d | None", network.head)
        if layer is None or layer.in_channels >= layer.out_channels:
            return None
        weight = layer.weight.detach().cpu().float().flatten(1)
        bias = torch.zeros(len(weight)) if layer.bias is None else layer.bias.detach().cpu().float()
        return cls(weight, bias)


class Engine(Protocol):
    """Runs one network on tiles of one size; from one thread at a time.

    Attributes:
        name: one of ``ENGINE_NAMES``.
        device: where tiles are given and results come back.
        head: None where ``run`` gives class scores; else it gives features, and this makes them scores.
        description: engine, version, precision and threads, for people and for the provenance.
    """

    name: str
    device: torch.device
    head: Head | None

    @property
    def description(self) -> str:
        """Engine, version, precision and threads."""

    def run(self, tiles: torch.Tensor) -> torch.Tensor:
        """[N, C, K, J, I] float32 -> [N, F, K, J, I]; float32 on the CPU, on a GPU also half precision."""


@dataclass(frozen=True, eq=False)
class Source:
    """A network as engines take it.

    Attributes:
        network: in evaluation mode on the CPU, or the content of ``network.onnx``.
        architecture: its settings as text; with the weights this is what caches are keyed by, never a name.
        channels: of the input.
        tile: (k, j, i) in voxels.
        multiple: each axis of the tile is a multiple of this many voxels, (k, j, i).
        dimensions: 2 for a network over single slices, whose tiles have k = 1.
        int8: content of ``int8.xml`` and ``int8.bin``, where the package has them.
    """

    network: nn.Module | bytes
    architecture: str
    channels: int
    tile: tuple[int, int, int]
    multiple: tuple[int, int, int] = (1, 1, 1)
    dimensions: int = 3
    int8: tuple[bytes, bytes] | None = None

    @cached_property
    def head(self) -> Head | None:
        """Applied after blending; None where the network itself gives scores."""
        return None if isinstance(self.network, bytes) else Head.of(cast(Network, self.network))

    @property
    def module(self) -> nn.Module:
        """[N, C, *input_shape] -> features where there is a head, else scores."""
        if isinstance(self.network, bytes):
            raise InvalidSetting(
                "This model is an ONNX graph, which torch cannot run",
                "the engine openvino or onnxruntime",
                "choose 'auto', and install one with: pip install 'medsegreg[openvino]'",
            )
        return _Features(self.network) if self.head is not None else self.network

    @property
    def input_shape(self) -> tuple[int, ...]:
        """[1, C, K, J, I] as the network takes it, without K where it works on slices."""
        return 1, self.channels, *self.tile[3 - self.dimensions :]

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of the architecture and of every weight."""
        digest = hashlib.sha256(f"{self.architecture} {self.channels} {self.dimensions}".encode())
        if isinstance(self.network, bytes):
            digest.update(self.network)
            return digest.hexdigest()
        digest.update(repr(self.network).encode())
        for name, tensor in self.network.state_dict().items():
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy())
        return digest.hexdigest()


class _Features(nn.Module):
    """A network without its head."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return cast(Network, self.network).features(x)
