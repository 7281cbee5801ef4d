"""Connected components by tensor operations alone, for a GPU. Beside postprocess.

Every voxel points at a voxel of its component with a lower number; roots are hooked to the lowest root among their
voxels' neighbours and paths are halved until nothing changes (Shiloach and Vishkin, J. Algorithms 1982).
"""

from __future__ import annotations

import torch


def component_roots(labels: torch.Tensor) -> torch.Tensor:
    """[K, J, I] integers -> [K, J, I] int64: the number of one voxel for each component, the same for all its voxels.

    Voxels that share a face and a label are connected; the background has components too.
    """
    parents = torch.arange(labels.numel(), device=labels.device)
    while True:
        lowest = parents.reshape(labels.shape).clone()
        for axis in range(3):
            count = labels.shape[axis] - 1
            same = labels.narrow(axis, 0, count) == labels.narrow(axis, 1, count)
            first, second = lowest.narrow(axis, 0, count), lowest.narrow(axis, 1, count)
            lower = torch.minimum(first, second)
            first.copy_(torch.where(same, lower, first))
            second.copy_(torch.where(same, torch.minimum(second, lower), second))
        hooked = parents.scatter_reduce(0, parents, lowest.flatten(), "amin")
        while not torch.equal(halved := hooked[hooked], hooked):
            hooked = halved
        if torch.equal(hooked, parents):
            return parents.reshape(labels.shape)
        parents = hooked
