"""How likely each tissue's intensity is at each voxel, whatever the contrast. Beside ``atlas_unet``.

Expectation maximisation of a Gaussian mixture whose weights are an atlas (Van Leemput et al., IEEE TMI 1999;
Ashburner & Friston, NeuroImage 2005). A tissue's mean may drift over the image, which takes the place of their bias
field: it is a smooth local mean where there is enough of the tissue, else the tissue's mean over the image.
"""

from __future__ import annotations

import torch
from torch.nn import functional

ITERATIONS = 4
ENOUGH = 0.02  # share of a coarse cell from which its own mean counts as much as the image's
SMALLEST_VARIANCE = 4e-4  # of intensities in 0..1
LOWEST, HIGHEST = -6.0, 3.0  # log-likelihoods
SUBSAMPLED = 2


def tissue_likelihoods(image: torch.Tensor, priors: torch.Tensor) -> torch.Tensor:
    """Log-likelihood of each voxel's intensity under each tissue; 0 for the first, a background of any intensity.

    Args:
        image: [N, 1, K, J, I], intensities in 0..1; each axis a multiple of the priors'.
        priors: [tissues, k, j, i] frequencies over the same field of view.

    Returns:
        [N, tissues, K, J, I] within -6..3.
    """
    sample = image[:, :, ::SUBSAMPLED, ::SUBSAMPLED, ::SUBSAMPLED]
    weights = functional.interpolate(priors[None], sample.shape[2:], mode="trilinear", align_corners=False)
    shares = weights
    cells = [2 * n // p for n, p in zip(sample.shape[2:], priors.shape[1:], strict=True)]
    for iteration in range(ITERATIONS + 1):
        means, variances = _moments(sample, shares, cells)
        if iteration < ITERATIONS:
            shares = weights * _log_density(sample, means, variances).exp()
            shares = shares / shares.sum(1, keepdim=True).clamp(min=1e-9)
    return _log_density(image, means, variances)


def _moments(image: torch.Tensor, shares: torch.Tensor, cells: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Means [N, tissues, k, j, i] on the coarse cells and variances [N, tissues, 1, 1, 1] of each tissue."""
    whole = (2, 3, 4)
    amount = shares.sum(whole, keepdim=True).clamp(min=1)
    mean = (shares * image).sum(whole, keepdim=True) / amount
    local, weighted = (_smooth(functional.avg_pool3d(part, cells)) for part in (shares, shares * image))
    means = (weighted + ENOUGH * mean) / (local + ENOUGH)
    variances = (shares * (image - _spread(means, image)) ** 2).sum(whole, keepdim=True) / amount
    return means, variances.clamp(min=SMALLEST_VARIANCE)


def _log_density(image: torch.Tensor, means: torch.Tensor, variances: torch.Tensor) -> torch.Tensor:
    found = -0.5 * ((image - _spread(means, image)) ** 2 / variances + variances.log())
    inside = found[:, 1:].clamp(LOWEST, HIGHEST)
    return torch.cat((torch.zeros_like(inside[:, :1]), inside), dim=1)


def _smooth(cells: torch.Tensor) -> torch.Tensor:
    """Twice the mean of three cells along each axis; pooling is not lowered in precision, as a convolution may be."""
    for _ in range(2):
        cells = functional.avg_pool3d(cells, 3, stride=1, padding=1)
    return cells


def _spread(cells: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return functional.interpolate(cells, like.shape[2:], mode="trilinear", align_corners=False)
