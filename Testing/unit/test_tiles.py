"""Tiles: the answers of MONAI's sliding window, and images smaller than a tile."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data.utils import dense_patch_slices
from monai.inferers import sliding_window_inference
from monai.inferers.utils import _get_scan_interval
from random_geometries import FEW

from MedSegRegLib.errors import Cancelled, NonFiniteOutput
from MedSegRegLib.progress import Progress
from MedSegRegLib.segment.tiles import gaussian_weight, predict_scores, tile_starts
from small_training import random_network, small_spec

SIZES = st.tuples(*[st.integers(1, 20)] * 3)


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("shape", [(16, 16, 16), (17, 23, 29), (31, 16, 40), (33, 47, 18)])
@pytest.mark.parametrize(("tile", "overlap"), [((16, 16, 16), 0.5), ((8, 16, 12), 0.25), ((12, 8, 16), 0.0)])
def test_scores_are_those_of_monai(shape, tile, overlap):
    network, image = random_network(small_spec(2)), noise(1, *shape)
    found = predict_scores(network, image, tile, overlap)
    with torch.inference_mode():
        expected = sliding_window_inference(image[None], tile, 1, network, overlap, "gaussian", sigma_scale=0.125)[0]
    assert torch.equal(found.argmax(0), expected.argmax(0))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


@FEW
@given(size=st.integers(1, 300), tile=st.integers(1, 64), overlap=st.floats(0, 0.95))
def test_tiles_start_where_monais_start(size, tile, overlap):
    tile = min(size, tile)
    interval = _get_scan_interval((size,), (tile,), 1, (overlap,))
    expected = [window[0].start for window in dense_patch_slices((size,), (tile,), interval)]
    assert tile_starts(size, tile, overlap) == expected


@FEW
@given(size=st.integers(1, 300), tile=st.integers(1, 64), overlap=st.floats(0, 0.99))
def test_tiles_reach_every_voxel(size, tile, overlap):
    covered = {start + n for start in tile_starts(size, tile, overlap) for n in range(tile)}
    assert covered >= set(range(size))


@settings(max_examples=60, deadline=None)
@given(shape=SIZES, tile=st.tuples(*[st.integers(4, 20)] * 3), overlap=st.floats(0, 0.75))
def test_a_network_that_changes_nothing_gives_the_image_back(shape, tile, overlap):
    image = noise(2, *shape)
    torch.testing.assert_close(predict_scores(torch.nn.Identity(), image, tile, overlap), image)


def test_a_smaller_image_is_padded_with_its_border_and_cropped_back():
    network, image = random_network(small_spec(2)), noise(1, 5, 11, 16)
    padded = torch.nn.functional.pad(image[None], (0, 0, 2, 3, 5, 6), mode="replicate")
    with torch.inference_mode():
        expected = network(padded)[0, :, 5:10, 2:13, :]
    torch.testing.assert_close(predict_scores(network, image, (16, 16, 16), 0.5), expected)


def test_one_slice_is_padded_and_cropped_back():
    assert predict_scores(random_network(small_spec(3)), noise(1, 1, 20, 30), (16, 16, 16), 0.5).shape == (4, 1, 20, 30)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_scores_that_are_not_finite_are_refused(bad):
    network, image = random_network(small_spec()), noise(1, 24, 24, 24)
    with torch.no_grad():
        network.decoder.seg_layers[-1].bias[0] = bad
    with pytest.raises(NonFiniteOutput):
        predict_scores(network, image, (16, 16, 16), 0.5)


def test_cancelling_stops_before_the_next_tile():
    tiles = []

    class Counting(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            tiles.append(x.shape)
            return x

    with pytest.raises(Cancelled):
        predict_scores(Counting(), noise(1, 32, 32, 32), (16, 16, 16), 0.5, Progress(None, lambda: len(tiles) == 3))
    assert len(tiles) == 3


def test_progress_names_each_tile():
    said = []
    progress = Progress(lambda *news: said.append(news))
    predict_scores(torch.nn.Identity(), noise(1, 16, 16, 32), (16, 16, 16), 0.5, progress)
    assert said == [(0.0, "tile 1 of 3"), (pytest.approx(1 / 3), "tile 2 of 3"), (pytest.approx(2 / 3), "tile 3 of 3")]


def test_the_weight_is_symmetric_highest_in_the_centre_and_never_zero():
    weight = gaussian_weight((8, 9, 64))
    for axis in range(3):
        torch.testing.assert_close(weight, weight.flip(axis))
    assert int(weight.argmax()) in {i * 9 * 64 + 4 * 64 + k for i in (3, 4) for k in (31, 32)}
    assert float(weight.min()) == pytest.approx(1e-3)
