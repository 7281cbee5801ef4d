"""Tiles blended plane by plane: the scores of MONAI's sliding window, whatever the order, the engine and the axis."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.inferers import sliding_window_inference

from MedSegRegLib.errors import Cancelled, NonFiniteOutput
from MedSegRegLib.files.architectures import UNetArchitecture
from MedSegRegLib.files.model_spec import ModelSpec
from MedSegRegLib.progress import Progress
from MedSegRegLib.segment.engines import Head
from MedSegRegLib.segment.stream import Streaming, stream_order, stream_planes
from MedSegRegLib.segment.tiles import gaussian_weight, lay_tiles
from small_training import random_network, small_spec
from streamed import CPU, Function, LiveMemory, joined, model_of, noise, stream, streamed_scores

SIZES = st.tuples(*[st.integers(1, 20)] * 3)
ORDERS = list(itertools.permutations(range(3)))
FEW_CLASSES, MANY_CLASSES = 2, 20
CPU_0 = torch.device("cpu", 0)
"""The same processor under another name: the ring and the engine count as two devices."""


def monai_scores(network: torch.nn.Module, spec: ModelSpec, image: torch.Tensor) -> torch.Tensor:
    """[classes, K, J, I] of MONAI; of a network over slices one slice after the other."""
    mode = {"edge": "replicate", "zero": "constant"}[spec.tiling.padding]
    slices = spec.architecture.dimensions == 2
    tile = spec.tile_ijk[1::-1] if slices else spec.tile_ijk[::-1]

    def infer(part: torch.Tensor) -> torch.Tensor:
        how = {"mode": "gaussian", "sigma_scale": 0.125, "padding_mode": mode}
        return sliding_window_inference(part, tile, 1, network, spec.tile_overlap, **how)

    with torch.no_grad():
        if slices:
            return torch.stack([infer(image[None, :, k])[0] for k in range(image.shape[1])], dim=1)
        return infer(image[None])[0]


def require_same(found: torch.Tensor, expected: torch.Tensor) -> None:
    """The same labels at every voxel, by nearly the same scores."""
    assert torch.equal(found.argmax(0), expected.argmax(0))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("labels", [FEW_CLASSES, MANY_CLASSES])
@pytest.mark.parametrize("shape", [(16, 16, 16), (17, 23, 29), (31, 16, 40), (33, 37, 18)])
@pytest.mark.parametrize(("tile", "overlap"), [((16, 16, 16), 0.5), ((8, 16, 12), 0.25), ((12, 8, 16), 0.0)])
def test_scores_are_those_of_monai(shape, tile, overlap, labels):
    spec = small_spec(labels, tile_ijk=tile, tile_overlap=overlap)
    network, image = random_network(spec), noise(1, *shape)
    require_same(streamed_scores(model_of(spec, network), image), monai_scores(network, spec, image))


@pytest.mark.parametrize("padding", ["edge", "zero"])
@pytest.mark.parametrize("shape", [(5, 11, 16), (1, 20, 30), (20, 1, 9), (33, 5, 1), (7, 9, 3)])
def test_an_image_smaller_than_a_tile_is_padded_as_by_monai(shape, padding):
    spec = small_spec(MANY_CLASSES, tiling={"padding": padding})
    network, image = random_network(spec), noise(1, *shape)
    require_same(streamed_scores(model_of(spec, network), image), monai_scores(network, spec, image))


@pytest.mark.parametrize("shape", [(3, 20, 30), (1, 33, 21), (4, 9, 7)])
def test_a_network_over_slices_sees_each_slice(shape):
    flat = UNetArchitecture(dimensions=2, features=(4, 8), blocks_per_stage=1)
    spec = small_spec(FEW_CLASSES, architecture=flat, tile_ijk=(12, 16, 1))
    network, image = random_network(spec), noise(1, *shape)
    require_same(streamed_scores(model_of(spec, network), image), monai_scores(network, spec, image))


@pytest.mark.parametrize("order", ORDERS)
def test_kernels_and_strides_that_differ_by_axis_are_applied_along_their_axes(order):
    thick = UNetArchitecture(
        features=(4, 8, 8),
        blocks_per_stage=1,
        kernels_kji=((1, 3, 3), (3, 3, 1), (3, 3, 3)),
        strides_kji=((1, 1, 1), (1, 2, 2), (2, 1, 2)),
    )
    spec = small_spec(FEW_CLASSES, architecture=thick, tile_ijk=(12, 16, 6))
    network, image = random_network(spec), noise(1, 13, 25, 19)
    require_same(streamed_scores(model_of(spec, network), image, order=order), monai_scores(network, spec, image))


def test_several_channels_reach_the_network():
    spec = small_spec(MANY_CLASSES, channels=[{"name": name} for name in ("T1", "T2", "FLAIR")])
    network, image = random_network(spec), noise(3, 16, 23, 20)
    require_same(streamed_scores(model_of(spec, network), image), monai_scores(network, spec, image))


@pytest.mark.parametrize("batch", [2, 3, 8, 100])
def test_tiles_in_batches_give_the_same_scores(batch):
    model, image = model_of(small_spec(MANY_CLASSES)), noise(1, 19, 30, 25)
    require_same(streamed_scores(model, image, batch=batch), streamed_scores(model, image))


@settings(max_examples=60, deadline=None)
@given(
    shape=SIZES,
    tile=st.tuples(*[st.integers(4, 20)] * 3),
    overlap=st.floats(0, 0.75),
    order=st.sampled_from(ORDERS),
    placement=st.sampled_from(("stride", "even")),
    batch=st.integers(1, 5),
)
def test_a_network_that_changes_nothing_gives_the_image_back(shape, tile, overlap, order, placement, batch):
    spec = small_spec(tile_overlap=overlap, tiling={"placement": placement}).model_copy(update={"tile_ijk": tile})
    image = noise(2, *shape)
    found = joined(*stream([Function()], spec, image, features=2, order=order, batch=batch))
    torch.testing.assert_close(found, image)


def test_evenly_spread_tiles_are_blended_with_the_same_weights():
    spec = small_spec(FEW_CLASSES, tiling={"placement": "even"})
    network, image = random_network(spec), noise(1, 21, 16, 37)
    starts, weight = lay_tiles(spec, (21, 16, 37)).starts, gaussian_weight((16, 16, 16), even=True)
    total, weights = torch.zeros((3, 21, 16, 37)), torch.zeros((21, 16, 37))
    for place in itertools.product(*starts):
        tile = tuple(slice(start, start + 16) for start in place)
        with torch.no_grad():
            total[(slice(None), *tile)] += weight * network(image[(None, slice(None), *tile)])[0]
        weights[tile] += weight
    require_same(streamed_scores(model_of(spec, network), image), total / weights)


def test_an_ensemble_gives_the_mean_of_its_scores():
    for labels in (FEW_CLASSES, MANY_CLASSES):
        spec = small_spec(labels)
        networks, image = [random_network(spec, seed) for seed in range(3)], noise(1, 16, 20, 27)
        expected = torch.stack([monai_scores(network, spec, image) for network in networks]).mean(0)
        require_same(streamed_scores(model_of(spec, *networks), image), expected)


@pytest.mark.parametrize("first", ["few features", "many features"])
def test_an_ensemble_may_mix_networks_with_and_without_a_head_to_split(first):
    specs = [
        small_spec(10, architecture=UNetArchitecture(features=(width, 8), blocks_per_stage=1)) for width in (4, 16)
    ]
    pairs = [(spec, random_network(spec, seed)) for seed, spec in enumerate(specs)]
    pairs = pairs if first == "few features" else pairs[::-1]
    image = noise(1, 16, 20, 18)
    models = [model_of(spec, network) for spec, network in pairs]
    both = replace(
        models[0],
        sources=tuple(source for one in models for source in one.sources),
        engines=tuple(engine for one in models for engine in one.engines),
    )
    assert [engine.head is None for engine in both.engines] == [first != "few features", first == "few features"]
    expected = torch.stack([monai_scores(network, spec, image) for spec, network in pairs]).mean(0)
    require_same(streamed_scores(both, image), expected)


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 1, 0)])
@pytest.mark.parametrize("mirror", [(0,), (2, 1), (0, 1, 2)])
def test_mirroring_gives_the_mean_over_the_mirrored_tiles(mirror, order):
    spec = small_spec(MANY_CLASSES)
    network, image = random_network(spec), noise(1, 9, 23, 16)
    flips = [flip for n in range(len(mirror) + 1) for flip in itertools.combinations(mirror, n)]

    class Mirrored(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            each = [network(x.flip([2 + a for a in flip])).flip([2 + a for a in flip]) for flip in flips]
            return torch.stack(each).mean(0)

    found = streamed_scores(model_of(spec, network), image, mirror=mirror, order=order)
    require_same(found, monai_scores(Mirrored(), spec, image))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("labels", [FEW_CLASSES, MANY_CLASSES])
def test_planes_along_any_axis_give_the_same_scores(order, labels):
    spec = small_spec(labels, tile_ijk=(16, 12, 8))
    network, image = random_network(spec), noise(1, 11, 21, 30)
    require_same(streamed_scores(model_of(spec, network), image, order=order), monai_scores(network, spec, image))


@pytest.mark.parametrize(
    ("size", "first"),
    [((100, 40, 40), 0), ((40, 90, 100), 2), ((16, 16, 16), 0), ((1, 40, 30), 1), ((200, 200, 20), 0)],
)
def test_planes_follow_the_axis_along_which_a_tile_is_the_smallest_share(size, first):
    order = stream_order(lay_tiles(small_spec(), size))
    assert order[0] == first
    assert sorted(order) == [0, 1, 2]


def test_each_tile_is_run_once():
    shapes = []

    def count(tiles: torch.Tensor) -> torch.Tensor:
        shapes.append(tuple(tiles.shape))
        return tiles

    stream([Function(count)], small_spec(tile_ijk=(8, 12, 16)), noise(1, 30, 20, 20), features=1, batch=4)
    assert sum(shape[0] for shape in shapes) == lay_tiles(small_spec(tile_ijk=(8, 12, 16)), (30, 20, 20)).count
    assert {shape[1:] for shape in shapes} == {(1, 16, 12, 8)}
    assert max(shape[0] for shape in shapes) == 4


def test_a_tile_that_is_not_wanted_is_left_out_and_its_voxels_are_not_covered():
    image = noise(1, 16, 16, 48)
    image[..., :24] = 0
    runs = []
    engine = Function(lambda tiles: runs.append(len(tiles)) or tiles)
    planes, order = stream(
        [engine], small_spec(), image, features=1, order=(0, 1, 2), wanted=lambda tile: bool(tile.any())
    )
    covered = torch.cat([plane.covered for plane in planes])
    assert sum(runs) == 3  # those that begin at 16, 24 and 32
    assert covered.any(dim=0).any(dim=0).tolist() == [False] * 16 + [True] * 32
    found = joined(planes, order)
    torch.testing.assert_close(found[..., 16:], image[..., 16:])
    assert not found[..., :16].any()


def test_without_a_judge_of_tiles_nothing_is_said_about_covering():
    planes, _ = stream([Function()], small_spec(), noise(1, 16, 16, 24), features=1)
    assert [plane.covered for plane in planes] == [None] * len(planes)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_scores_that_are_not_finite_are_refused(bad):
    def spoil(tiles: torch.Tensor) -> torch.Tensor:
        tiles = tiles.clone()
        tiles[0, 0, 3, 4, 5] = bad
        return tiles

    with pytest.raises(NonFiniteOutput):
        stream([Function(spoil)], small_spec(), noise(1, 24, 24, 24), features=1)


def test_half_precision_is_blended_in_full_precision():
    image = noise(1, 40, 16, 16)
    found = joined(*stream([Function(lambda tiles: tiles.half())], small_spec(), image, features=1))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, image.half().float(), rtol=1e-5, atol=1e-5)


def test_cancelling_stops_before_the_next_tile():
    tiles = []
    engine = Function(lambda batch: tiles.append(len(batch)) or batch)
    stop = Progress(None, lambda: len(tiles) == 3)
    with pytest.raises(Cancelled):
        stream([engine], small_spec(), noise(1, 32, 32, 32), features=1, progress=stop)
    assert len(tiles) == 3


def test_progress_names_each_tile():
    said = []
    progress = Progress(lambda *news: said.append(news))
    stream([Function()], small_spec(), noise(1, 16, 16, 32), features=1, progress=progress)
    assert said == [(0.0, "tile 1 of 3"), (pytest.approx(1 / 3), "tile 2 of 3"), (pytest.approx(2 / 3), "tile 3 of 3")]


def test_a_ring_on_another_device_gives_the_same_scores():
    spec = small_spec(MANY_CLASSES)
    model, image = model_of(spec), noise(1, 40, 20, 20)
    elsewhere = replace(model, engines=(Function(model.engines[0].run, CPU_0, model.engines[0].head),))
    assert torch.equal(streamed_scores(elsewhere, image), streamed_scores(model, image))


def peak_bytes(planes: int, classes: int) -> int:
    """Of streaming 4 features of a network with a head of so many classes."""
    head = Head(torch.ones((classes, 4)), torch.zeros(classes))
    engine = Function(lambda tiles: tiles.expand(-1, 4, -1, -1, -1), head=head)
    image = noise(1, planes, 32, 32)
    with LiveMemory(image) as memory:
        for _ in stream_planes(
            [engine], image, lay_tiles(small_spec(classes), (planes, 32, 32)), Streaming((0, 1, 2), 4)
        ):
            pass
    return memory.peak


def test_memory_is_that_of_one_tiles_depth_whatever_the_length_and_the_classes():
    ring = 4 * (4 + 1) * 16 * 32 * 32
    peaks = {peak_bytes(planes, classes) for planes in (48, 200) for classes in (10, 200)}
    assert len(peaks) == 1
    assert ring < peaks.pop() < 4 * ring


def test_a_ring_needs_no_more_than_its_engine_gives():
    """The channels that are blended are those before the head where these are fewer."""
    for labels, expected in ((FEW_CLASSES, FEW_CLASSES + 1), (MANY_CLASSES, 4)):
        model = model_of(small_spec(labels))
        assert model.blended_features == expected
        assert model.engines[0].run(noise(1, 1, 16, 16, 16)).shape[1] == expected


def test_nothing_is_run_before_the_first_planes_are_asked_for():
    runs = []
    engine = Function(lambda tiles: runs.append(1) or tiles)
    tiling = lay_tiles(small_spec(), (48, 16, 16))
    planes = stream_planes([engine], noise(1, 48, 16, 16), tiling, Streaming((0, 1, 2), 1, blend_on=CPU))
    assert not runs
    first = next(planes)
    assert len(runs) == 1
    assert (first.first, first.features.shape) == (0, (1, 8, 16, 16))
    planes.close()
