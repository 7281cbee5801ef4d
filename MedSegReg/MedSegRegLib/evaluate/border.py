"""What can be told of one structure's border: what an error of it costs, and what the images say around it."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

BAND_VOXELS = 2
BINS = 8


def sensitivity_per_mm(mask: np.ndarray, spacing_kji: tuple[float, ...]) -> float:
    """The Dice that a structure loses per mm of displacement, mean over the axes: large for thin and small ones.

    A shift by one voxel along an axis changes as many voxels as there are faces across it.

    Args:
        mask: [K, J, I] bool, not empty. Where the structure is cut off by the end of the array it has no border.
    """
    faces = [np.count_nonzero(np.diff(mask.astype(np.int8), axis=axis)) for axis in range(3)]
    return float(np.mean([count / mm for count, mm in zip(faces, spacing_kji, strict=True)])) / (2 * mask.sum())


def border_agreement(fixed: np.ndarray, moved: np.ndarray, mask: np.ndarray) -> float | None:
    """How well the moved image's intensities tell the fixed one's, within 2 voxels of a structure's border: 0 to 1.

    The square root of the correlation ratio (Roche 1998) with eight bins of equal size; None where one is constant.

    Args:
        fixed, moved: [K, J, I]. mask: [K, J, I] bool.
    """
    face = ndimage.generate_binary_structure(3, 1)
    band = ndimage.binary_dilation(mask, face, BAND_VOXELS) & ~ndimage.binary_erosion(mask, face, BAND_VOXELS)
    a, b = moved[band].astype(np.float64), fixed[band].astype(np.float64)
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    bins = np.digitize(a, np.quantile(a, np.linspace(0, 1, BINS + 1)[1:-1]))
    count = np.bincount(bins, minlength=BINS)
    mean = np.bincount(bins, b, minlength=BINS) / np.maximum(count, 1)
    left = np.square(b - mean[bins]).sum() / np.square(b - b.mean()).sum()
    return float(np.sqrt(max(0.0, 1 - left)))
