"""Back to the volume's own grid. Segmentation walk: scores on the model's grid -> [restore] -> labels."""

from __future__ import annotations

import torch

from ..geometry import Geometry
from ..resample import IDENTITY, moving_voxels
from ..sampling import is_outside, sample_linear


def restore_labels(scores: torch.Tensor, scores_geometry: Geometry, geometry: Geometry) -> torch.Tensor:
    """Labels on ``geometry`` from scores on another grid, plane by plane: never all scores at full resolution.

    Args:
        scores: [classes, K, J, I]; they are interpolated linearly before the class is chosen.
        scores_geometry: their grid.
        geometry: grid of the result.

    Returns:
        [K, J, I] uint8 (int32 beyond 256 classes) on the device of ``scores``; background (0) outside their grid.
    """
    dtype = torch.uint8 if scores.shape[0] <= 256 else torch.int32
    labels = torch.zeros(geometry.shape_kji, dtype=dtype, device=scores.device)
    for start, ijk in moving_voxels(scores_geometry, geometry, IDENTITY, scores):
        outside = is_outside(ijk, scores_geometry.size_ijk)
        if outside.all():
            continue
        chosen = sample_linear(scores, ijk).argmax(0).to(dtype)
        labels[start : start + ijk.shape[0]] = chosen.masked_fill(outside, 0)
    return labels
