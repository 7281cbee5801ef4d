"""How smooth a motion the images themselves support: chosen by voxels that were kept from the search.

A soft flow always makes the voxels that it sees more alike. Where it follows noise, or a texture that the other image
does not have, it makes the voxels in between less alike. So a fifth of the fixed image is held out in blocks, the first
levels are run once for each stiffness, and that is taken whose flow serves the held-out voxels best.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from ..geometry import Geometry
from ..progress import Progress
from .deformable import Part, make_comparison, optimise_deformable
from .flow import Flow
from .pyramid import Pair
from .settings import DeformableSettings

CANDIDATES = (1.5, 1.15, 0.85)  # stiffest first: the softer one must be better to be taken
LEAST_GAIN = 0.005
HELD_OUT = 0.2
BLOCK_VOXELS = 6
MOST_VOXELS = 700_000
ITERATIONS_SHARE = 0.4


def choose_stiffness(
    parts: Sequence[Part],
    settings: DeformableSettings,
    spacing_mm: float,
    start: Callable[[Geometry], Flow],
    progress: Progress,
) -> float:
    """The stiffness whose flow makes the held-out voxels most alike.

    Only levels of at most 700,000 voxels are looked at, with 0.4 of their iterations; 1 where there is none.

    Args:
        parts, spacing_mm, start: see :func:`~.deformable.optimise_deformable`.
    """
    tried = _affordable(parts[0], settings, spacing_mm)
    if tried is None:
        return 1.0
    level_mm = spacing_mm * tried.coarsening[-1]
    coarse = [replace(part, fixed=part.fixed.coarsen(level_mm), moving=part.moving.coarsen(level_mm)) for part in parts]
    blocks = _held_out_blocks(coarse[0].fixed.geometry.shape_kji)
    seen, kept = ([_weighted(part, blocks, side) for part in coarse] for side in (0.0, 1.0))
    best, best_value = 1.0, -np.inf
    for number, stiffness in enumerate(CANDIDATES):
        share = progress.part(number / len(CANDIDATES), (number + 1) / len(CANDIDATES))
        flow, _ = optimise_deformable(seen, tried.scaled(stiffness), spacing_mm, start=start, progress=share)
        value = sum(part.weight * _value(part, flow, tried, level_mm) for part in kept)
        if value > best_value + LEAST_GAIN * abs(best_value) or not np.isfinite(best_value):
            best, best_value = stiffness, value
    return best


def _affordable(part: Part, settings: DeformableSettings, spacing_mm: float) -> DeformableSettings | None:
    levels = [
        (coarsening, max(1, round(iterations * ITERATIONS_SHARE)))
        for coarsening, iterations in zip(settings.coarsening, settings.iterations, strict=True)
        if np.prod(part.fixed.coarse_grid(spacing_mm * coarsening).size_ijk) <= MOST_VOXELS
    ]
    if not levels:
        return None
    coarsening, iterations = zip(*levels, strict=True)
    return settings.model_copy(update={"coarsening": coarsening, "iterations": iterations, "first_level": 0})


def _held_out_blocks(shape_kji: tuple[int, int, int]) -> torch.Tensor:
    """[K', J', I'] bool, one a block of 6 voxels a side; the same on every run."""
    k, j, i = (-(-n // BLOCK_VOXELS) for n in shape_kji)
    return torch.rand((k, j, i), generator=torch.Generator().manual_seed(0)) < HELD_OUT


def _weighted(part: Part, blocks: torch.Tensor, side: float) -> Part:
    """With the fixed weight only outside (side 0) or inside (1) the blocks, which divide the field of view evenly."""
    fixed = part.fixed
    indices = [torch.arange(n) * m // n for n, m in zip(fixed.weight.shape, blocks.shape, strict=True)]
    inside = blocks[indices[0][:, None, None], indices[1][:, None], indices[2]].to(fixed.weight)
    return replace(part, fixed=replace(fixed, weight=fixed.weight * (inside if side else 1 - inside)))


def _value(part: Part, flow: Flow, settings: DeformableSettings, spacing_mm: float) -> float:
    field = flow.displacement()
    comparison = make_comparison(part, Pair.at(part.fixed, part.moving, spacing_mm), flow.geometry, settings)
    comparison.prepare(field)
    return float(comparison.similarity.match(comparison.moved(field)).value)
