"""Sums over windows of volumes that pass by in slabs."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage
import torch

from MedSegRegLib.register import window_sums
from MedSegRegLib.register.window_sums import SlabLayout, WindowSums


def summed(volume: torch.Tensor, radius: int) -> torch.Tensor:
    """All slabs put together again."""
    layout = SlabLayout(tuple(volume.shape), radius, volume.device)
    sums, out = WindowSums(layout, 1, volume), torch.empty_like(volume)
    for step in range(layout.steps):
        planes, slab = layout.overlap(step, 0)
        sums.voxels[0].zero_()[slab] = volume[planes]
        planes, slab = layout.overlap(step, radius)
        out[planes] = layout.inner(sums.advance()[0])[slab]
    return out


@pytest.mark.parametrize("radius", [1, 2, 3, 4, 7, 10])
@pytest.mark.parametrize("planes_a_slab", [1, 2, 5, 100])
def test_windows_are_summed_whatever_the_slabs_and_nothing_is_added_beyond_the_border(
    radius, planes_a_slab, monkeypatch
):
    volume = torch.rand((9, 12, 15), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    monkeypatch.setattr(window_sums, "SLAB_VOXELS", planes_a_slab * (12 + radius) * (15 + radius))
    theirs = scipy.ndimage.uniform_filter(volume.numpy(), 2 * radius + 1, mode="constant") * (2 * radius + 1) ** 3
    np.testing.assert_allclose(summed(volume, radius), theirs, atol=1e-9)


@pytest.mark.parametrize("shape", [(1, 7, 8), (7, 1, 8), (7, 8, 1), (2, 2, 2), (1, 1, 1)])
def test_windows_may_be_wider_than_the_volume(shape):
    volume = torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    theirs = scipy.ndimage.uniform_filter(volume.numpy(), 7, mode="constant") * 7**3
    np.testing.assert_allclose(summed(volume, 3), theirs, atol=1e-9)


def test_sums_of_passed_slabs_do_not_come_back_after_a_restart():
    volume = torch.ones((6, 5, 5))
    layout = SlabLayout((6, 5, 5), 1, volume.device)
    sums = WindowSums(layout, 1, volume)
    sums.voxels[0].copy_(torch.ones_like(sums.voxels[0]))
    first = sums.advance().clone()
    sums.restart()
    torch.testing.assert_close(layout.inner(sums.advance()), layout.inner(first))
