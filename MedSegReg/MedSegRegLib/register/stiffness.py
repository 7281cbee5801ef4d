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
from ..report import Finding
from .deformable import Part, flow_domain, flow_grid, make_comparison, optimise_deformable
from .flow import Flow
from .pyramid import Pair
from .settings import DeformableSettings

CANDIDATES = (1.5, 1.15, 0.85)  # stiffest first: the softer one must be better to be taken
HOPELESS = 3.0
LEAST_GAIN = 0.005
LEAST_SHARE_OF_GAIN = 0.2  # of the gain of the voxels that were fitted to
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
) -> tuple[float, Finding]:
    """The stiffness whose flow makes the held-out voxels most alike, and a finding that says so.

    Only levels of at most 700,000 voxels are looked at, with 0.4 of their iterations; 1 where there is none. Where the
    held-out voxels gain less than a fifth of what the others do, the stiffest of all is taken, with a warning.

    Args:
        parts, spacing_mm, start: see :func:`~.deformable.optimise_deformable`.
    """
    tried = _affordable(parts[0], settings, spacing_mm)
    if tried is None:
        return 1.0, Finding.info("The images are too large to choose a stiffness by held-out voxels: 1 was taken")
    level_mm = spacing_mm * tried.coarsening[-1]
    coarse = [replace(part, fixed=part.fixed.coarsen(level_mm), moving=part.moving.coarsen(level_mm)) for part in parts]
    blocks = _held_out_blocks(coarse[0].fixed.geometry.shape_kji)
    seen, kept = ([_weighted(part, blocks, side) for part in coarse] for side in (0.0, 1.0))
    image = coarse[0].fixed.geometry
    still = start(flow_grid(flow_domain(image, tried.field_coarsening), image, tried.field_coarsening))
    before_seen, before_kept = (_values(side, still, tried, level_mm) for side in (seen, kept))
    best, best_value = HOPELESS, -np.inf
    for number, stiffness in enumerate(CANDIDATES):
        share = progress.part(number / len(CANDIDATES), (number + 1) / len(CANDIDATES))
        flow, _ = optimise_deformable(seen, tried.scaled(stiffness), spacing_mm, start=start, progress=share)
        after_seen, value = (_values(side, flow, tried, level_mm) for side in (seen, kept))
        if value - before_kept < LEAST_SHARE_OF_GAIN * (after_seen - before_seen):
            continue
        if not np.isfinite(best_value) or value > best_value + LEAST_GAIN * abs(best_value):
            best, best_value = stiffness, value
    if best == HOPELESS:
        return best, Finding.warn(
            "A deformation makes voxels that it was not fitted to no more alike; it was kept very stiff",
            "The images may be too noisy, unrelated, or aligned already: look at the result, or take an affine preset.",
        )
    return best, Finding.info(f"The stiffness {best:g} suits these images best")


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


def _values(parts: Sequence[Part], flow: Flow, settings: DeformableSettings, spacing_mm: float) -> float:
    """The weighted similarity of all parts under a flow."""
    field, total = flow.displacement(), 0.0
    for part in parts:
        comparison = make_comparison(part, Pair.at(part.fixed, part.moving, spacing_mm), flow.geometry, settings)
        comparison.prepare(field)
        total += part.weight * float(comparison.similarity.match(comparison.moved(field)).value)
    return total
