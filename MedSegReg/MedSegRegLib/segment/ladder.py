"""What is tried when a GPU's memory is not enough. Beside the segmentation walk.

In the order of what it costs the user: fewer tiles at once, tiles blended on the CPU, both with the same result; then
smaller tiles, with nearly the same; at last everything on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import torch

from ..errors import TooLarge
from ..files.model_spec import ModelSpec
from ..report import Finding

CPU = torch.device("cpu")
SMALLEST_TILE = 64
Result = TypeVar("Result")


@dataclass(frozen=True)
class Rung:
    """One way to run.

    Attributes:
        device: of the network.
        blend_on: device where tiles are blended.
        batch: tiles at once.
        tile_ijk: voxels of a tile.
    """

    device: torch.device
    blend_on: torch.device
    batch: int
    tile_ijk: tuple[int, int, int]

    def __str__(self) -> str:
        tile = " x ".join(map(str, self.tile_ijk))
        return f"{self.batch} tile(s) of {tile} at once on {self.device}, blended on {self.blend_on}"


def rungs_of(spec: ModelSpec, device: torch.device, batch: int) -> list[Rung]:
    """All ways to run a model, the best one first; on the CPU there is only one."""
    ways = [Rung(device, device, batch, spec.tile_ijk)]
    if device.type == "cpu":
        return ways
    ways.append(replace(ways[0], batch=1))
    ways.append(replace(ways[1], blend_on=CPU))
    while (tile := _halved(ways[-1].tile_ijk, spec)) != ways[-1].tile_ijk:
        ways.append(replace(ways[-1], tile_ijk=tile))
    ways.append(Rung(CPU, CPU, 1, spec.tile_ijk))
    return list(dict.fromkeys(ways))


def step_down(rungs: list[Rung], work: Callable[[Rung], Result]) -> tuple[Result, list[Finding]]:
    """Do the work in the first way for which the memory of the GPU is enough.

    Returns:
        The result, and a warning for every step down.

    Raises:
        TooLarge: not even the last way fits.
    """
    findings: list[Finding] = []
    for number, rung in enumerate(rungs):
        try:
            return work(rung), findings
        except torch.OutOfMemoryError as error:
            reason = str(error).split(". ", maxsplit=1)[0]
        # Outside of the except block: the error held the tensors of the failed run.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if number + 1 < len(rungs):
            findings.append(
                Finding.warn(
                    f"Out of memory with {rung} ({reason}); went on with {rungs[number + 1]}",
                    "Close other programs that use the GPU, or choose a region.",
                )
            )
    raise TooLarge(
        f"Out of memory with {rungs[-1]} ({reason})", "enough memory for one tile", "choose a smaller region"
    )


def _halved(tile: tuple[int, int, int], spec: ModelSpec) -> tuple[int, int, int]:
    """Half the tile along every axis that is long enough, as a multiple of what the network needs."""
    architecture = spec.architecture
    if architecture.name in ("onnx", "atlas_unet") or (
        architecture.name == "monai" and architecture.network == "UNETR"
    ):
        return tile  # made for one size
    i, j, k = (
        max(half, multiple)
        if (half := n // 2 // multiple * multiple) >= SMALLEST_TILE // 2 and n > SMALLEST_TILE
        else n
        for n, multiple in zip(tile, architecture.multiple_kji[::-1], strict=True)
    )
    # A single voxel in the network's coarsest stage cannot be normalised.
    return tile if (i, j, k) == architecture.multiple_kji[::-1] else (i, j, k)
