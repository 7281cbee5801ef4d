"""Taking the last folds out of a flow: smooth it where, and only where, its grid is turned inside out."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch.nn.functional import max_pool3d

from ..evaluate.deformation import smallest_corner_determinant
from ..geometry import Geometry
from .displacement import to_displacement
from .filters import filter_axes, gaussian_axes
from .flow import Flow

LEAST_DETERMINANT = 0.02
SIGMA_VOXELS = 0.6  # of the first rounds
REACH_VOXELS = 1
ROUNDS_A_SIGMA = 15
SIGMAS = 3


def unfold(flow: Flow) -> Flow:
    """A flow whose displacement has all 8 corner determinants above 0.02 at every voxel.

    Where they are not, the vectors there and beside are replaced by a narrow Gaussian mean, until none is left; after
    15 rounds, and after 30, by one twice as wide, and at most 45 times. Wider smoothing from the first, or a higher
    limit, costs overlap: 0.765 to 0.748 in mean Dice of two brains with a sigma of 1, a reach of 2 and a limit of 0.05,
    against 0.764 with these.
    """
    i, j, k = flow.geometry.size_ijk
    voxels = Geometry.from_spacing((i, j, k))
    for number in range(SIGMAS * ROUNDS_A_SIGMA):
        axes = gaussian_axes(voxels, SIGMA_VOXELS * 2 ** (number // ROUNDS_A_SIGMA), flow.vectors)
        field = flow.displacement()
        bad = smallest_corner_determinant(to_displacement(field, voxels)) < LEAST_DETERMINANT
        if not bool(bad.any()):
            break
        beside = max_pool3d(bad.to(field)[None], 2 * REACH_VOXELS + 1, stride=1, padding=REACH_VOXELS)[0]
        flow = replace(flow, vectors=torch.lerp(flow.vectors, filter_axes(flow.vectors, axes), beside))
    return flow
