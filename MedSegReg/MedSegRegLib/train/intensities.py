"""Random changes of intensities, on any device. Training walk: example read at new places -> [intensities] -> network.

Each function takes and gives [C, K, J, I].
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch.nn import functional

from .chance import Chance
from .warp import upsample


def smooth(image: torch.Tensor, sigma_kji: Sequence[float]) -> torch.Tensor:
    """Gaussian smoothing, ``sigma_kji`` in voxels along each axis; border values are repeated."""
    out = image[:, None]
    for axis, sigma in enumerate(sigma_kji):
        if sigma <= 0 or image.shape[1 + axis] == 1:
            continue
        radius = max(1, math.ceil(2.5 * sigma))
        weights = [math.exp(-0.5 * (n / sigma) ** 2) for n in range(-radius, radius + 1)]
        kernel = torch.tensor(weights) / sum(weights)
        shape = [1, 1, 1, 1, 1]
        shape[2 + axis] = -1
        pad = [0] * 6
        pad[4 - 2 * axis] = pad[5 - 2 * axis] = radius
        padded = functional.pad(out, pad, mode="replicate")
        out = functional.conv3d(padded, kernel.to(image, non_blocking=True).reshape(shape))
    return out[:, 0]


def lower_resolution(
    image: torch.Tensor, factor_kji: Sequence[float], noise: torch.Tensor | None = None
) -> torch.Tensor:
    """Read on a grid of voxels that are ``factor_kji`` times as large, and back: what a coarser scan shows.

    Args:
        image: smooth enough for the coarser grid.
        factor_kji: 1 or more.
        noise: [C, K, J, I] of the finer grid, of which the part of the coarser size is added there.
    """
    small = [max(1, round(n / factor)) for n, factor in zip(image.shape[1:], factor_kji, strict=True)]
    coarse = upsample(image, small) if small != list(image.shape[1:]) else image
    if noise is not None:
        coarse = coarse + noise[:, : small[0], : small[1], : small[2]]
    return upsample(coarse, image.shape[1:]) if coarse.shape != image.shape else coarse


def bias_field(image: torch.Tensor, chance: Chance, strength: float, control: int = 3) -> torch.Tensor:
    """Times the exponential of a smooth random field; ``strength`` is the deviation of its control points.

    The image's lowest value stays what it is.
    """
    field = upsample(chance.normal_noise((1, control, control, control)) * strength, image.shape[1:])
    low = image.amin()
    return (image - low) * field.exp() + low


def gamma(image: torch.Tensor, power: float) -> torch.Tensor:
    """The power of the intensities between their lowest and highest value."""
    low, high = image.amin(), image.amax()
    return ((image - low) / (high - low).clamp(min=1e-6)).pow(power) * (high - low) + low
