"""What a neighbourhood looks like to itself, whatever the modality: the descriptor MIND-SSC.

Each of 12 channels says how alike two small patches near a voxel are, relative to all 12: edges and texture show in
it, the grey values of a modality do not.
"""

from __future__ import annotations

import itertools

import torch
from torch.nn.functional import pad

PATCH_RADIUS = 1
DILATION = 2
MARGIN = PATCH_RADIUS + DILATION
VARIANCE_RANGE = (0.001, 1000.0)  # of a voxel's noise estimate, in multiples of their mean
SUBTRACT = True
# Two of the three axes, and the direction of the second of the two neighbours.
DIRECTIONS = [(a, b, sign) for a, b in itertools.combinations(range(3), 2) for sign in (1, -1)]


class SelfSimilarity:
    """MIND-SSC (Heinrich et al., MICCAI 2013): exponentials of patch distances among the 6-neighbourhood.

    Pairs of neighbours that lie opposite of each other are left out, so 12 distances remain. They come from only 6
    difference volumes, each read at two places. Only voxels with weight take part in a patch; a pair of patches that
    share none has the distance 0 in every image.
    """

    def __init__(self, weight: torch.Tensor) -> None:
        self._weight = pad(weight, (MARGIN,) * 6)
        self._inside = weight > 0
        self._per_patch = []
        for direction in DIRECTIONS:
            first, second = _neighbours(self._weight, direction)
            counts = _patch_sums(first * second)
            self._per_patch.append(torch.where(counts > 1e-3, 1 / counts, 0))

    def describe(self, image: torch.Tensor) -> torch.Tensor:
        """[K, J, I] of any intensities -> [12, K, J, I] in 0..1."""
        padded = pad(image, (MARGIN,) * 6)
        out = image.new_empty((2 * len(DIRECTIONS), *image.shape))
        for n, (direction, per_patch) in enumerate(zip(DIRECTIONS, self._per_patch, strict=True)):
            first, second = _neighbours(padded, direction)
            w1, w2 = _neighbours(self._weight, direction)
            distance = _patch_sums((first - second).square_().mul_(w1).mul_(w2)).mul_(per_patch)
            for place, channel in zip(_places(distance, direction), out[2 * n : 2 * n + 2], strict=True):
                channel.copy_(place)
        if SUBTRACT:
            out -= out.amin(dim=0)
        noise = out.mean(dim=0)
        typical = noise[self._inside].mean()
        low, high = VARIANCE_RANGE
        return out.div_(noise.clamp_(low * typical, high * typical)).neg_().exp_()


def _neighbours(padded, direction):
    """Padded by MARGIN. volumes first(y)=I(y + d e_a), second(y) = I(y + sign d e_b), on a domain from which both places are readable."""
    a, b, sign = direction
    first, second = [slice(None)] * 3, [slice(None)] * 3
    d = DILATION
    first[a], second[a] = slice(d, None), slice(None, -d)
    if sign == 1:
        first[b], second[b] = slice(None, -d), slice(d, None)
    else:
        first[b], second[b] = slice(d, None), slice(None, -d)
    return padded[tuple(first)], padded[tuple(second)]


def _patch_sums(volume):
    for axis in range(3):
        n = volume.shape[axis] - 2 * PATCH_RADIUS
        total = volume.narrow(axis, 0, n) + volume.narrow(axis, 1, n)
        for k in range(2, 2 * PATCH_RADIUS + 1):
            total += volume.narrow(axis, k, n)
        volume = total
    return volume


def _places(distance, direction):
    a, b, sign = direction
    m = DILATION
    for at_a, at_b in ((m, m), (0, 0)) if sign == 1 else ((m, 0), (0, m)):
        starts = [MARGIN - PATCH_RADIUS] * 3
        starts[a], starts[b] = at_a, at_b
        place = distance
        for axis, start in enumerate(starts):
            length = distance.shape[axis] - 2 * DILATION + (DILATION if axis in (a, b) else 0)
            place = place.narrow(axis, start, length)
        yield place
