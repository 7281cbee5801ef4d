"""The network as it is, by torch. Engines walk: tiles -> [torch] -> features or scores.

On a CPU always float32: bfloat16 there is emulated on most processors, 33 to 53 times slower. On CUDA float16 under
autocast, whose mantissa is longer than bfloat16's; a network that overflows it goes on in bfloat16, or in float32 on
cards without it. On Apple's MPS float32.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from .engine import Source


class TorchEngine:
    """Runs the network with torch.

    Args:
        source: its network is a module.
        device: CPU, CUDA or MPS; the weights are copied there.
        channels_last: memory format of weights and tiles. On a CPU it does not pay (8 % slower, measured); on CUDA it
            is measured.
    """

    def __init__(self, source: Source, device: torch.device, channels_last: bool = False) -> None:
        self.name = "torch-channels-last" if channels_last else "torch"
        self.device, self.head = device, source.head
        formats = {2: torch.channels_last, 3: torch.channels_last_3d}
        self._format = formats[source.dimensions] if channels_last else torch.contiguous_format
        plain = device.type == "cpu" and not channels_last
        self._module = source.module if plain else self._copy(source.module)
        self._slices = source.dimensions == 2
        self.precision = torch.float16 if device.type == "cuda" else torch.float32

    @property
    def description(self) -> str:
        """Engine, version, precision and threads or card."""
        where = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else self.device.type
        threads = f", {torch.get_num_threads()} threads" if self.device.type == "cpu" else ""
        layout = ", channels last" if self.name != "torch" else ""
        return f"torch {torch.__version__} on {where}, {str(self.precision).removeprefix('torch.')}{layout}{threads}"

    def run(self, tiles: torch.Tensor) -> torch.Tensor:
        """[N, C, K, J, I] float32 -> [N, F, K, J, I] on the same device; half precision on CUDA."""
        x = (tiles.squeeze(2) if self._slices else tiles).contiguous(memory_format=self._format)
        result = self._forward(x)
        if self.precision == torch.float16 and not torch.isfinite(result).all():
            self.precision = (
                torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
            )
            result = self._forward(x)
        return result.unsqueeze(2) if self._slices else result

    def _copy(self, module: nn.Module) -> nn.Module:
        return copy.deepcopy(module).to(self.device, memory_format=self._format)  # type: ignore[call-overload]  # is there

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.device.type != "cuda":
            with torch.inference_mode():
                return self._module(x)
        half = self.precision != torch.float32
        with torch.inference_mode(), _fastest_kernels(), torch.autocast("cuda", self.precision, enabled=half):
            return self._module(x)


@contextmanager
def _fastest_kernels() -> Iterator[None]:
    """cuDNN measures its kernels for each shape once: tiles are all of one shape."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
