"""The mean shape of several studies, and the mean of what they show there: the two averages of :mod:`.template`.

Linear parts are averaged by their logarithms (Arsigny et al., MICCAI 2006), displacements by their vectors (Guimond et
al., CVIU 2000), intensities by their trimmed mean.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.linalg import expm, logm

from ..geometry import Geometry
from ..image import Image
from ..resample import resample_image
from ..transform import Affine, Displacement, Transform

TRIMMED = 0.2
CONTENT_PERCENTILES = (2.0, 98.0)
BACKGROUND = 0.05
WHITE = 100.0


def mean_shape(transforms: Sequence[Transform]) -> Transform:
    """From a template to the mean of the places that its points are taken to, as seen from the template.

    Args:
        transforms: template RAS to study RAS, each a displacement and an affine, or an affine.

    Returns:
        Mean displacement, then mean affine: identity when the template has the mean shape already.
    """
    dense = [stages[0] for one in transforms if isinstance((stages := one.stages)[0], Displacement)]
    linear = Affine(mean_matrix([one.linear_part for one in transforms]))
    if not dense:
        return Transform((linear,))
    grid = dense[0].geometry
    fields = torch.stack([Transform((stage,)).to_displacement(grid).vectors_ras_mm for stage in dense])
    return Transform((Displacement(fields.sum(dim=0) / len(transforms), grid), linear))


def mean_matrix(matrices: Sequence[np.ndarray]) -> np.ndarray:
    """The affine 4x4 whose logarithm is the mean of the logarithms.

    >>> grow, shrink = np.diag([2.0, 2.0, 2.0, 1.0]), np.diag([0.5, 0.5, 0.5, 1.0])
    >>> bool(np.allclose(mean_matrix([grow, shrink]), np.eye(4)))
    True
    """
    matrix = np.real(expm(np.mean([logm(one) for one in matrices], axis=0)))
    matrix[3] = 0, 0, 0, 1
    return matrix


def motion_mm(shape: Transform) -> float:
    """How far a :func:`mean_shape` is from none: mean length of its displacement where it moves, mm."""
    stage = shape.stages[0]
    if not isinstance(stage, Displacement):
        return 0.0
    length = stage.vectors_ras_mm.norm(dim=0)
    return float(length[length > 0].mean()) if bool((length > 0).any()) else 0.0


def normalised(image: Image) -> Image:
    """The first channel, 2nd and 98th percentiles of what is not background at 0 and 100: comparable."""
    voxels = image.tensor[0]
    low, high = float(voxels.min()), float(torch.quantile(voxels.flatten()[:: max(1, voxels.numel() // 10**6)], 0.999))
    content = voxels[voxels > low + BACKGROUND * (high - low)].numpy()
    if not content.size:
        return image.with_tensor(torch.zeros_like(image.tensor[:1]))
    dark, bright = np.percentile(content, CONTENT_PERCENTILES)
    scaled = (voxels - float(dark)) * (WHITE / max(float(bright - dark), 1e-12))
    return image.with_tensor(scaled[None])


def mean_image(studies: Sequence[Image], transforms: Sequence[Transform], grid: Geometry) -> tuple[Image, torch.Tensor]:
    """The mean of what the studies show at each voxel of a template's grid, without the fifth of them at either end.

    Returns:
        The image, 0 where no study reaches, and how many studies reach each voxel, [K, J, I].
    """
    moved = torch.stack(
        [resample_image(study, grid, way, torch.nan).tensor[0] for study, way in zip(studies, transforms, strict=True)]
    )
    ordered = moved.sort(dim=0).values  # not a number, where a study does not reach, comes last
    count = (~moved.isnan()).sum(dim=0)
    cut = (TRIMMED * count).floor().long()
    place = torch.arange(len(studies)).reshape(-1, 1, 1, 1)
    kept = (place >= cut) & (place < count - cut)
    total = torch.where(kept, ordered, 0.0).sum(dim=0)
    return Image((total / kept.sum(dim=0).clamp_min(1))[None], grid, "template"), count


def sharpness(image: Image, inside: torch.Tensor) -> float:
    """Root mean square of the gradient of a :func:`mean_image` per mm, where ``inside`` [K, J, I] is True."""
    slopes = torch.gradient(image.tensor[0], spacing=list(image.geometry.spacing_mm[::-1]))
    squared = torch.stack(slopes).square().sum(dim=0)
    return float(squared[inside].mean().sqrt()) if bool(inside.any()) else 0.0
