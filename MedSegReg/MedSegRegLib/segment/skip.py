"""Which tiles hold only air. Segmentation walk: tiles -> [skip] -> stream."""

from __future__ import annotations

from collections.abc import Callable

import torch
from skimage.filters import threshold_otsu

SAMPLED_VOXELS = 1 << 18
SMALLEST_SHARE = 1e-3


def holds_body(image: torch.Tensor) -> Callable[[torch.Tensor], bool]:
    """A judge of tiles: True where at least one voxel in a thousand is bright in some channel of the prepared image.

    Bright is above the threshold of Otsu (1979) between background and body, found on a sample of the voxels.

    Args:
        image: [C, K, J, I].
    """
    step = max(1, image[0].numel() // SAMPLED_VOXELS)
    samples = image.flatten(1)[:, ::step].cpu().numpy()
    limits = image.new_tensor([threshold_otsu(sample) for sample in samples])[:, None, None, None]

    def judge(tile: torch.Tensor) -> bool:
        return bool((tile > limits).any(dim=0).float().mean() >= SMALLEST_SHARE)

    return judge
