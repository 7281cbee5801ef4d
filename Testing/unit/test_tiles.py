"""Where tiles lie: as MONAI's and nnU-Net's; their weight; images smaller than a tile."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data.utils import compute_importance_map, dense_patch_slices
from monai.inferers.utils import _get_scan_interval
from random_geometries import FEW
from scipy import ndimage

from MedSegRegLib.segment.tiles import Tiling, gaussian_weight, lay_tiles, pad_to_tiles, spread_evenly, tile_starts
from small_training import small_spec
from streamed import noise

AXIS = {"size": st.integers(1, 300), "tile": st.integers(1, 64), "overlap": st.floats(0, 0.95)}
ORDERS = st.permutations(range(3)).map(tuple)


def nnunet_starts(size: int, tile: int, step_share: float) -> list[int]:
    """The rule of nnU-Net's sliding window: as few tiles as the largest step allows, spread evenly and rounded."""
    count = math.ceil((size - tile) / (tile * step_share)) + 1
    step = (size - tile) / (count - 1) if count > 1 else 0
    return [int(np.round(step * n)) for n in range(count)]


@FEW
@given(**AXIS)
def test_tiles_start_where_monais_start(size, tile, overlap):
    tile = min(size, tile)
    interval = _get_scan_interval((size,), (tile,), 1, (overlap,))
    expected = [window[0].start for window in dense_patch_slices((size,), (tile,), interval)]
    assert tile_starts(size, tile, overlap) == expected


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.8])
def test_evenly_spread_tiles_start_where_nnunets_start(overlap):
    for tile in (1, 7, 16, 33, 64):
        for size in range(tile, 200):
            assert spread_evenly(size, tile, overlap) == nnunet_starts(size, tile, 1 - overlap)


@pytest.mark.parametrize("place", [tile_starts, spread_evenly])
@FEW
@given(**AXIS)
def test_tiles_reach_every_voxel_and_stay_inside(place, size, tile, overlap):
    tile = min(size, tile)
    starts = place(size, tile, overlap)
    assert starts == sorted(starts)
    assert {start + n for start in starts for n in range(tile)} == set(range(size))


def test_the_description_decides_how_tiles_are_placed():
    size = (19, 40, 90)
    apart, even = (lay_tiles(small_spec(tiling={"placement": how}), size) for how in ("stride", "even"))
    assert apart.starts == ((0, 3), (0, 8, 16, 24), (*range(0, 73, 8), 74))
    assert even.starts[2] == tuple(round(74 * n / 10) for n in range(11))
    assert apart.count == 2 * 4 * 11
    assert (apart.even, even.even) == (False, True)


def test_an_image_smaller_than_a_tile_lies_in_its_middle():
    tiling = lay_tiles(small_spec(), (5, 11, 30))
    assert tiling == Tiling((5, 11, 30), (16, 16, 16), (5, 2, 0), ((0,), (0,), (0, 8, 14)))
    assert tiling.padded == (16, 16, 30)
    assert tiling.count == 3


@FEW
@given(order=ORDERS)
def test_exchanged_tiles_are_those_of_the_exchanged_image(order):
    size, tile_ijk = (9, 22, 37), (8, 12, 16)
    for placement in ("stride", "even"):
        spec = small_spec(tile_ijk=tile_ijk, tiling={"placement": placement})
        turned = spec.model_copy(update={"tile_ijk": tuple(tile_ijk[::-1][axis] for axis in order)[::-1]})
        expected = lay_tiles(turned, tuple(size[axis] for axis in order))
        assert lay_tiles(spec, size).exchanged(order) == expected


@pytest.mark.parametrize(("padding", "mode"), [("edge", "edge"), ("zero", "constant")])
def test_padding_is_numpys(padding, mode):
    image, tiling = noise(2, 5, 11, 30), lay_tiles(small_spec(), (5, 11, 30))
    expected = np.pad(image.numpy(), ((0, 0), (5, 6), (2, 3), (0, 0)), mode=mode)
    np.testing.assert_array_equal(pad_to_tiles(image, tiling, padding), expected)


def test_an_image_that_needs_no_padding_is_not_copied():
    image = noise(1, 16, 20, 16)
    assert pad_to_tiles(image, lay_tiles(small_spec(), (16, 20, 16)), "edge") is image


@pytest.mark.parametrize("tile", [(16, 16, 16), (8, 9, 40), (1, 24, 32), (5, 4, 3)])
def test_the_weight_is_monais(tile):
    torch.testing.assert_close(
        gaussian_weight(tile), compute_importance_map(tile, "gaussian", 0.125), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("tile", [(16, 16, 16), (8, 9, 40), (1, 24, 32), (5, 4, 3), (64, 10, 32)])
def test_the_weight_of_evenly_spread_tiles_is_nnunets(tile):
    """A Gaussian filter of an eighth of the tile over one voxel, made 10 there, in half precision."""
    point = np.zeros(tile)
    point[tuple(side // 2 for side in tile)] = 1
    spread = ndimage.gaussian_filter(point, [side / 8 for side in tile], mode="constant")
    expected = (10 * spread / spread.max()).astype(np.float16).astype(np.float32) / 10
    expected[expected == 0] = expected[expected > 0].min()
    found = gaussian_weight(tile, even=True).numpy()
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-6)
    assert (found > 0).all()


def test_the_weight_is_symmetric_highest_in_the_centre_and_never_zero():
    weight = gaussian_weight((8, 9, 64))
    for axis in range(3):
        torch.testing.assert_close(weight, weight.flip(axis))
    assert int(weight.argmax()) in {i * 9 * 64 + 4 * 64 + k for i in (3, 4) for k in (31, 32)}
    assert float(weight.min()) == pytest.approx(1e-3)
