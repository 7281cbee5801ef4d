"""Looking where the structure is: found by a coarse model, and tiles of air left out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from MedSegRegLib.errors import InvalidSetting, StructureNotFound
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Image
from MedSegRegLib.segment import Model, SegmentationOptions, segment
from MedSegRegLib.segment.find import find_region
from MedSegRegLib.segment.skip import holds_body
from MedSegRegLib.workflows.locate import segment_anywhere
from small_training import random_network, small_spec, write_random_model
from streamed import Function, model_of

OBLIQUE = Rotation.from_euler("xyz", (7, -12, 20), degrees=True).as_matrix()
AIR, BODY, LIVER, SPLEEN = -1000.0, 0.0, 100.0, 200.0


def thresholds(tiles: torch.Tensor) -> torch.Tensor:
    """Scores of background, liver and spleen by their intensities alone."""
    steps = [torch.full_like(tiles, 0.5), (tiles > (BODY + LIVER) / 2).float(), 2.0 * (tiles > (LIVER + SPLEEN) / 2)]
    return torch.cat(steps, dim=1)


@pytest.fixture
def an_abdomen() -> Image:
    """A body in air, with two liver-bright lumps of which one is the liver, and a spleen."""
    array = np.full((30, 60, 80), AIR, np.float32)
    array[:, 15:50, 20:70] = BODY
    array[8:20, 20:32, 25:40] = LIVER
    array[2:4, 45:48, 60:64] = LIVER
    array[10:16, 36:44, 55:62] = SPLEEN
    return Image.from_array(array, Geometry.from_spacing((80, 60, 30), (1.0, 1.0, 1.5), (40, -20, 7), OBLIQUE))


def by_intensity(**changes: object) -> Model:
    labels = [{"value": 1, "name": "Liver"}, {"value": 2, "name": "Spleen"}]
    spec = small_spec(2, labels=labels, intensity=(), **changes)
    model = model_of(spec)
    return replace(model, engines=(Function(thresholds),))


@pytest.fixture
def a_coarse_model() -> Model:
    return by_intensity(name="coarse", spacing_mm=(3.0, 3.0, 3.0), tile_ijk=(32, 32, 32))


def boxes_in_voxels(image: Image, corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and last + 1 voxel (i, j, k) of a region, as fractions."""
    voxels = image.geometry.map_points(corners) + 0.5
    return voxels.min(axis=0), voxels.max(axis=0)


@pytest.mark.parametrize("margin_mm", [0.0, 5.0, 12.0])
def test_the_region_is_the_box_of_the_structure_with_its_margin(margin_mm, an_abdomen, a_coarse_model):
    low, high = boxes_in_voxels(an_abdomen, find_region(an_abdomen, a_coarse_model, ("Liver",), margin_mm))
    spacing = np.asarray(an_abdomen.geometry.spacing_mm)
    first, last = (25, 20, 8), (40, 32, 20)
    assert (low <= first - margin_mm / spacing + 3.0 / spacing).all()
    assert (low >= first - margin_mm / spacing - 3.0 / spacing - 1).all()
    assert (high >= last + margin_mm / spacing - 3.0 / spacing).all()
    assert (high <= last + margin_mm / spacing + 3.0 / spacing + 1).all()
    if margin_mm >= 3.0:  # no less than a coarse voxel
        assert (low <= first).all()
        assert (high >= last).all()


def test_only_the_largest_component_counts(an_abdomen, a_coarse_model):
    """The second lump of the same intensity does not widen the box."""
    low, high = boxes_in_voxels(an_abdomen, find_region(an_abdomen, a_coarse_model, ("liver",), 0.0))
    assert high[0] < 50
    assert low[2] > 4


def test_the_box_holds_all_structures_that_are_named(an_abdomen, a_coarse_model):
    low, high = boxes_in_voxels(an_abdomen, find_region(an_abdomen, a_coarse_model, ("Liver", "Spleen"), 4.0))
    assert (low <= (25, 20, 8)).all()
    assert (high >= (62, 44, 20)).all()


def test_nothing_found_is_said_with_the_names(an_abdomen, a_coarse_model):
    without = an_abdomen.with_tensor(an_abdomen.tensor.clamp(max=LIVER))
    with pytest.raises(StructureNotFound, match=r"coarse.*Spleen") as caught:
        find_region(without, a_coarse_model, ("Spleen",), 5.0)
    assert caught.value.fix
    assert find_region(without, a_coarse_model, ("Liver", "Spleen"), 5.0).shape == (8, 3)


def test_a_structure_that_the_coarse_model_does_not_have_is_refused(an_abdomen, a_coarse_model):
    with pytest.raises(InvalidSetting, match="kidney"):
        find_region(an_abdomen, a_coarse_model, ("kidney",), 5.0)


def test_a_fine_model_in_the_region_gives_its_labels_there_with_fewer_tiles(an_abdomen, a_coarse_model):
    runs = []
    fine = by_intensity()
    fine = replace(fine, engines=(Function(lambda tiles: runs.append(len(tiles)) or thresholds(tiles)),))
    whole, tiles_of_whole = segment(an_abdomen, fine).labels.numpy(), sum(runs)
    runs.clear()
    region = find_region(an_abdomen, a_coarse_model, ("Liver",), 6.0)
    part = segment(an_abdomen, fine, region=region).labels.numpy()
    assert sum(runs) < tiles_of_whole / 4
    assert (part[8:20, 20:32, 25:40] == 1).all()
    assert np.array_equal(part[6:22, 18:34, 23:42], whole[6:22, 18:34, 23:42])
    assert not part[2:4, 45:48, 60:64].any()


def test_a_model_that_names_a_coarse_one_is_led_by_it(an_empty_store, tmp_path, an_abdomen):
    """End to end, with two packages: the coarse one in the store, the fine one beside."""
    labels = [{"value": 1, "name": "Liver"}, {"value": 2, "name": "Spleen"}]
    coarse = small_spec(2, name="coarse", labels=labels, spacing_mm=(4.0, 4.0, 4.0))
    write_random_model(an_empty_store / "coarse", coarse, seed=2)
    find = {"model": "coarse", "structures": ["Spleen"], "margin_mm": 3.0}
    fine = write_random_model(tmp_path / "fine", small_spec(2, name="fine", find=find), seed=1)
    found = segment_anywhere(an_abdomen, fine, device="cpu")
    region = find_region(an_abdomen, model_of(coarse, halved(random_network(coarse, 2))), ("Spleen",), 3.0)
    expected = segment(an_abdomen, fine, device="cpu", region=region)
    assert torch.equal(found.labels.tensor, expected.labels.tensor)
    assert found.provenance["region"] == expected.provenance["region"]
    given = segment_anywhere(an_abdomen, fine, device="cpu", region=an_abdomen.geometry.corners_ras())
    assert torch.equal(given.labels.tensor, segment(an_abdomen, fine, device="cpu").labels.tensor)


def halved(network: torch.nn.Module) -> torch.nn.Module:
    network.load_state_dict({name: tensor.half().float() for name, tensor in network.state_dict().items()})
    return network


def test_only_the_structures_that_are_named_are_given(an_abdomen):
    model = by_intensity()
    everything = segment(an_abdomen, model).labels
    for names, values in (
        (("Spleen",), [2]),
        (("liver",), [1]),
        (("SPLEEN", "liver"), [1, 2]),
        (("Liver", "liver"), [1]),
    ):
        found = segment(an_abdomen, model, SegmentationOptions(structures=names))
        kept = torch.isin(everything.tensor, torch.tensor(values))
        assert torch.equal(found.labels.tensor, everything.tensor * kept)
        assert [structure.value for structure in found.labels.structures] == values
        assert found.provenance["structures"] == ", ".join(names)
    assert segment(an_abdomen, model).provenance["structures"] == "all"


def test_an_unknown_structure_is_refused_before_anything_runs(an_abdomen):
    runs = []
    model = replace(by_intensity(), engines=(Function(lambda tiles: runs.append(1) or thresholds(tiles)),))
    with pytest.raises(InvalidSetting, match="kidney") as caught:
        segment(an_abdomen, model, SegmentationOptions(structures=("liver", "kidney")))
    assert caught.value.expected == "some of Liver, Spleen"
    assert not runs


@pytest.mark.parametrize("padding", ["edge", "zero"])
def test_tiles_of_air_are_left_out_and_the_labels_in_the_body_stay(padding, an_abdomen):
    runs = []
    model = by_intensity(tiling={"padding": padding})
    model = replace(model, engines=(Function(lambda tiles: runs.append(len(tiles)) or thresholds(tiles)),))
    everything, tiles = segment(an_abdomen, model).labels, sum(runs)
    runs.clear()
    found = segment(an_abdomen, model, SegmentationOptions(skip_air=True))
    assert 0 < sum(runs) < tiles
    assert torch.equal(found.labels.tensor, everything.tensor)
    assert found.provenance["skip_air"] == "True"


def test_nothing_is_labelled_where_there_is_only_air():
    """A network that calls everything liver, also by the bias of its head."""
    spec = small_spec(9)
    network = random_network(spec)
    torch.nn.init.zeros_(network.head.weight)
    with torch.no_grad():
        network.head.bias.copy_(torch.nn.functional.one_hot(torch.tensor(5), 10))
    array = np.full((16, 16, 96), AIR, np.float32)
    array[:, :, :24] = np.random.default_rng(0).normal(BODY, 20, (16, 16, 24))
    image, options = Image.from_array(array, Geometry.from_spacing((96, 16, 16))), SegmentationOptions(skip_air=True)
    for chosen in (options, replace(options, confidence=True)):
        labels = segment(image, model_of(spec, network), chosen).labels.tensor
        assert (labels[:, :, :24] == 5).all()
        assert not labels[:, :, 48:].any()


def test_a_tile_with_a_little_body_is_not_air():
    image = torch.full((2, 20, 20, 20), AIR)
    image[1, 5:15, 5:15, 5:15] = BODY
    judge = holds_body(image)
    tile = torch.full((2, 10, 10, 10), AIR)
    assert not judge(tile)
    tile[1, 0, 0, 0] = BODY
    assert judge(tile)
    tile[1] = AIR
    tile[0, 0, 0, 0] = AIR + 1  # noise in a channel of air
    assert judge(image[:, :10, :10, :10])
