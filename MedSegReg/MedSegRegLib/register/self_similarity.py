"""What neighbourhoods look like to themselves, whatever the modality: two studies as descriptors, for the dense stage.

MIND-SSC (Heinrich et al., MICCAI 2013): each of 12 channels says how alike two small patches beside a voxel are,
compared with all 12 pairs. Edges and texture show in it, the grey values of a modality do not.

Descriptors are made once, on a grid of half the working spacing, and averaged down from there. Smoothing an image
first moves its edges, and not alike in two modalities; so does a wide neighbourhood. The paper has patches 2 voxels
away, here it is 1: the aligned ICBM 152 T1 and T2 then drift by 0.41 mm instead of 0.44, and known deformations are
found better.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.nn.functional import pad

from .filters import filter_axes, resize_axes
from .pyramid import SMALLEST_WEIGHT, Study
from .window_sums import slab_voxels

PATCH_RADIUS = 1
DILATION = 1
MARGIN = PATCH_RADIUS + DILATION
SAMPLED_PLANES, SAMPLED_EVERY = 8, 4  # the noise floor looks at 8 planes of 32
NOISE_FLOOR_RANGE = (0.001, 0.25)  # in multiples of the mean
NOISE_QUANTILE, NOISE_FACTOR = 0.1, 8.0
NOISE_SAMPLES = 1_000_000
# The axes of two neighbours, and whether the second lies on the same side as the first. Their opposites are the
# other pair with the same difference of places, so 6 volumes of differences hold all 12 pairs.
Pairs = list[tuple[int, int, int]]
PAIRS: Pairs = [(first, second, side) for first, second in itertools.combinations(range(3), 2) for side in (1, -1)]


def describe_studies(fixed: Study, moving: Study, matrix: np.ndarray, spacing_mm: float) -> tuple[Study, Study]:
    """Two studies of one channel as descriptors on one grid, at about this spacing over the fixed field of view.

    The moving one is resampled by the linear part before it is described, so that both are described along the same
    axes. What either weight ignores takes part in no patch.

    Args:
        matrix: 4x4, fixed RAS to moving RAS.

    Returns:
        The studies with 12 channels in 0..1; between them lies the identity where ``matrix`` lay before.
    """
    fixed = fixed.coarsen(spacing_mm / 2)
    moving = moving.coarsen(spacing_mm / 2).resampled(matrix, fixed.geometry)
    weight = fixed.weight * moving.weight
    first, second = (
        describe_study(Study(study.intensity, weight, fixed.geometry), spacing_mm) for study in (fixed, moving)
    )
    return first, second


def describe_study(study: Study, spacing_mm: float) -> Study:
    """Its channels on a grid of about this spacing, averaged by weight; made slab by slab.

    There are 12, and 4 of an image of one slice.
    """
    grid = study.coarse_grid(spacing_mm)
    size = (2 * len(_pairs_in(study.weight.shape)), *grid.shape_kji)
    channels, lowest = study.intensity.new_zeros(size), _noise_floor(study)
    if grid.size_ijk == study.geometry.size_ijk:
        for slab, distances in _slabs(study):
            channels[:, slab] = _respond(distances, lowest)
        weight = study.weight
    else:
        along_k, along_j, along_i = resize_axes(study.geometry, grid, study.intensity, smooth=True)
        for slab, distances in _slabs(study):
            weighted = _respond(distances, lowest).mul_(study.weight[slab])
            reached = along_k[:, slab].any(dim=1).nonzero()
            coarse = slice(int(reached[0]), int(reached[-1]) + 1)
            channels[:, coarse] += filter_axes(weighted, (along_k[coarse, slab], along_j, along_i))
        weight = filter_axes(study.weight, (along_k, along_j, along_i))
        channels.div_(weight)
    return Study(channels.masked_fill_(weight <= SMALLEST_WEIGHT, 1), weight, grid)


def patch_distances(image: torch.Tensor, weight: torch.Tensor, pairs: Pairs = PAIRS) -> torch.Tensor:
    """Mean squared difference of pairs of patches beside each voxel, less the smallest of them.

    Args:
        image, weight: [K, J, I] with a margin of 2 voxels on each side.

    Returns:
        [2 per pair, K - 4, J - 4, I - 4]. Only voxels with weight take part; a pair that shares none is 0 apart.
    """
    steps = (image.shape[1] * image.shape[2], image.shape[2], 1)
    shape = tuple(n - 2 * MARGIN for n in image.shape)
    image, weight = image.flatten(), weight.flatten()  # beside it is a fixed number of elements away
    out = image.new_empty((2 * len(pairs), *shape))
    for n, (first, second, side) in enumerate(pairs):
        ahead, beside = DILATION * steps[first], DILATION * side * steps[second]
        apart = ahead - beside
        shared = weight[apart:] * weight[:-apart]
        difference = (image[apart:] - image[:-apart]).square_().mul_(shared)
        distance, counts = _patch_sums(difference, steps), _patch_sums(shared, steps)
        distance = torch.where(counts > SMALLEST_WEIGHT, distance.div_(counts), 0)
        for m, read in enumerate((ahead, -beside)):
            start = (MARGIN - PATCH_RADIUS) * sum(steps) + read - apart
            out[2 * n + m] = distance.as_strided(shape, steps, start)
    return out.sub_(out.amin(dim=0))


def _pairs_in(shape: Sequence[int]) -> Pairs:
    """Those of :data:`PAIRS` whose axes have more than one voxel."""
    return [(first, second, side) for first, second, side in PAIRS if min(shape[first], shape[second]) > 1]


def _respond(distances: torch.Tensor, lowest: float) -> torch.Tensor:
    """The channels in 0..1, in place of the distances."""
    return distances.div_(distances.mean(dim=0).clamp_min_(lowest).neg_()).exp_()


def _patch_sums(flat: torch.Tensor, steps: tuple[int, int, int]) -> torch.Tensor:
    """Sums over 3x3x3 patches; the first is centred at element ``sum(steps)``."""
    for step in steps:
        flat = (flat[: -2 * step] + flat[step:-step]).add_(flat[2 * step :])
    return flat


def _noise_floor(study: Study) -> float:
    """The least noise that a voxel is taken to have, so that what little differs in a background says nothing."""
    noise = torch.cat(
        [
            distances.mean(dim=0)[study.weight[slab] > SMALLEST_WEIGHT]
            for slab, distances in _slabs(study, SAMPLED_EVERY)
        ]
    )
    if not len(noise):
        return 1.0
    common = noise[:: max(1, len(noise) // NOISE_SAMPLES)].quantile(NOISE_QUANTILE)
    low, high = (float(share * noise.mean()) for share in NOISE_FLOOR_RANGE)
    return max(min(float(NOISE_FACTOR * common), high), low, torch.finfo(noise.dtype).tiny)


def _slabs(study: Study, every: int = 1) -> Iterator[tuple[slice, torch.Tensor]]:
    """Successive planes with their patch distances [pairs, k, J, I]; of every so many eight planes only eight."""
    (planes, rows, columns), pairs = study.weight.shape, _pairs_in(study.weight.shape)
    at_once = SAMPLED_PLANES
    while at_once > 1 and at_once * rows * columns > slab_voxels(study.weight.device):
        at_once //= 2
    for start in range(0, planes, at_once):
        if start % (SAMPLED_PLANES * every) < SAMPLED_PLANES:
            stop = min(start + at_once, planes)
            image, weight = (_with_margin(volume, start, stop) for volume in (study.intensity[0], study.weight))
            yield slice(start, stop), patch_distances(image, weight, pairs)


def _with_margin(volume: torch.Tensor, start: int, stop: int) -> torch.Tensor:
    """Planes start..stop-1 and the voxels around them, 0 outside the volume."""
    first, last = max(start - MARGIN, 0), min(stop + MARGIN, len(volume))
    beyond = (first - start + MARGIN, stop + MARGIN - last)
    return pad(volume[first:last], (MARGIN, MARGIN, MARGIN, MARGIN, *beyond))
