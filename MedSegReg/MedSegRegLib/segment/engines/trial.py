"""How fast an engine runs a network here, and with which scores. Engines walk: engine -> [trial] -> choice."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from math import prod

import torch
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from ...progress import SILENT, Progress
from .build import make_engine
from .engine import Engine, Source

MEASURED_GFLOP = 40.0
"""About a second on one core: a larger tile is halved until it is below."""
TIMED_RUNS = 2


@dataclass(frozen=True, eq=False)
class Trial:
    """One engine, measured.

    Attributes:
        name: of the engine.
        seconds: for one tile of the source.
        description: of the engine.
        scores: [1, classes, K, J, I] float32 on the CPU, of the tile that was measured.
    """

    name: str
    seconds: float
    description: str
    scores: torch.Tensor


def try_engine(name: str, source: Source, device: torch.device, progress: Progress = SILENT) -> Trial:
    """Run an engine on a tile of noise: once to warm up, then the better of two runs. May be cancelled between.

    Raises:
        as :func:`make_engine`.
    """
    small = source if device.type != "cpu" else replace(source, tile=smaller_tile(source))
    engine = make_engine(name, small, device)
    progress.check_cancelled()
    tile = torch.randn((1, small.channels, *small.tile), generator=torch.Generator().manual_seed(0)).to(engine.device)
    result = engine.run(tile)
    times = []
    for _ in range(TIMED_RUNS):
        progress.check_cancelled()
        times.append(_seconds(engine, tile))
    return Trial(name, min(times) * prod(source.tile) / prod(small.tile), engine.description, _scores(engine, result))


def smaller_tile(source: Source) -> tuple[int, int, int]:
    """The tile, or one with shorter axes that costs less than about a second of one core. A graph's tile is its own."""
    if isinstance(source.network, bytes):
        return source.tile
    tile, share = list(source.tile), 1.0
    gigaflops = _gigaflops(source)
    while gigaflops * share > MEASURED_GFLOP:
        halves = [side // 2 // multiple * multiple for side, multiple in zip(tile, source.multiple, strict=True)]
        axis = max((n for n in range(3) if halves[n] > source.multiple[n]), key=lambda n: tile[n], default=None)
        if axis is None:
            break
        share *= halves[axis] / tile[axis]
        tile[axis] = halves[axis]
    return tile[0], tile[1], tile[2]


def _gigaflops(source: Source) -> float:
    """Counted without computing: on the meta device there are only shapes."""
    module = source.module
    shapes = {name: tensor.to("meta") for name, tensor in module.state_dict().items()}
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        functional_call(module, shapes, torch.empty(source.input_shape, device="meta"))
    return counter.get_total_flops() / 1e9


def _seconds(engine: Engine, tile: torch.Tensor) -> float:
    started = time.perf_counter()
    engine.run(tile).flatten()[0].item()  # reading a value waits for a GPU
    return time.perf_counter() - started


def _scores(engine: Engine, result: torch.Tensor) -> torch.Tensor:
    result = result.float().cpu()
    if engine.head is None:
        return result
    return torch.einsum("cf,nfkji->nckji", engine.head.weight, result) + engine.head.bias.view(1, -1, 1, 1, 1)
