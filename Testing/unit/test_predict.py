"""The whole walk from an image to labels, with a small network of random weights."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.spatial.transform import Rotation

from MedSegRegLib.errors import (
    Cancelled,
    ComponentCount,
    InvalidSetting,
    NoContrast,
    NonFiniteVoxels,
    NoOverlap,
    SpacingOutOfRange,
    TooFewVoxels,
    TooLarge,
    UnknownModel,
)
from MedSegRegLib.files.model_spec import ChannelSpec, TilingSpec
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Image
from MedSegRegLib.preprocess import CtWindow, ZScore
from MedSegRegLib.progress import Progress
from MedSegRegLib.report import Level
from MedSegRegLib.segment import Model, SegmentationOptions, load_model, segment
from MedSegRegLib.segment.postprocess import keep_largest_component, remove_islands
from MedSegRegLib.segment.prepare import prepare
from small_training import random_network, small_spec, write_random_model
from streamed import model_of, random_image, streamed_scores

OBLIQUE = Rotation.from_euler("xyz", (7, -12, 20), degrees=True).as_matrix()


@pytest.fixture
def a_model(tmp_path) -> Model:
    return load_model(write_random_model(tmp_path / "random", small_spec(2), seed=8))


@pytest.fixture
def an_image() -> Image:
    geometry = Geometry.from_spacing((22, 26, 18), (1.0, 1.0, 1.5), (40, -20, 7), OBLIQUE)
    return Image.from_array(np.random.default_rng(0).normal(100, 20, geometry.shape_kji), geometry, "study 7")


def reoriented(image: Image, order: tuple[int, ...], flips: tuple[bool, ...]) -> Image:
    """The same voxels at the same places, stored along other axes: i, j, k are those of ``order``, some backwards."""
    size = np.asarray(image.geometry.size_ijk)[list(order)]
    matrix = image.geometry.ijk_to_ras.copy()
    matrix[:3, :3] = matrix[:3, list(order)]
    array = image.numpy()[0].transpose([2 - axis for axis in order[::-1]])
    for axis in np.flatnonzero(flips):
        matrix[:3, 3] += matrix[:3, axis] * (size[axis] - 1)
        matrix[:3, axis] *= -1
        array = np.flip(array, 2 - axis)
    return Image.from_array(array, Geometry(tuple(size), matrix), image.name)


def labels_at(segmentation, points_ras: np.ndarray) -> np.ndarray:
    """Labels of the voxels at these places."""
    labels = segmentation.labels
    i, j, k = np.rint(labels.geometry.map_points(points_ras)).astype(int).T
    return labels.numpy()[k, j, i]


def voxels_ras(geometry: Geometry) -> np.ndarray:
    """[N, 3] mm."""
    return geometry.map_voxels(np.moveaxis(np.indices(geometry.shape_kji), 0, -1)[..., ::-1].reshape(-1, 3))


def test_labels_lie_on_the_images_own_grid_under_its_name(a_model, an_image):
    labels = segment(an_image, a_model).labels
    assert labels.geometry is an_image.geometry
    assert labels.name == "study 7"
    assert [structure.name for structure in labels.structures] == ["ball 1", "ball 2"]
    assert set(labels.tensor.unique().tolist()) == {0, 1, 2}


@pytest.mark.parametrize(
    ("order", "flips"),
    [
        (order, flips)
        for n, (order, flips) in enumerate(
            itertools.product(itertools.permutations(range(3)), itertools.product((False, True), repeat=3))
        )
        if n % 5 == 1
    ],
)
def test_a_reoriented_volume_gets_the_same_labels_at_the_same_places(order, flips, a_model, an_image):
    points = voxels_ras(an_image.geometry)
    upright, turned = segment(an_image, a_model), segment(reoriented(an_image, order, flips), a_model)
    np.testing.assert_array_equal(labels_at(turned, points), labels_at(upright, points))


def test_the_network_sees_tiles_of_the_models_size(a_model, an_image):
    seen = []
    a_model.sources[0].network.register_forward_pre_hook(lambda network, inputs: seen.append(tuple(inputs[0].shape)))
    spec = a_model.spec.model_copy(update={"tile_ijk": (8, 12, 16)})
    segment(an_image, replace(a_model, spec=spec))
    assert set(seen) == {(1, 1, 16, 12, 8)}


def test_the_largest_component_is_kept_if_asked(a_model, an_image):
    everything = segment(an_image, a_model).labels
    largest = segment(an_image, a_model, SegmentationOptions(largest_component=True)).labels
    assert torch.equal(largest.tensor, keep_largest_component(everything).tensor)
    assert not torch.equal(largest.tensor, everything.tensor)


def test_the_models_description_decides_on_the_largest_component(tmp_path, an_image):
    model = load_model(write_random_model(tmp_path / "largest", small_spec(2, keep_largest_component=True), seed=8))
    by_model, everything = (
        segment(an_image, model),
        segment(an_image, model, SegmentationOptions(largest_component=False)),
    )
    assert torch.equal(by_model.labels.tensor, keep_largest_component(everything.labels).tensor)
    assert by_model.provenance["largest_component"] == "True"
    assert everything.provenance["largest_component"] == "False"


def test_islands_are_removed_if_asked(a_model, an_image):
    everything = segment(an_image, a_model).labels
    without = segment(an_image, a_model, SegmentationOptions(islands_mm3=30.0)).labels
    assert torch.equal(without.tensor, remove_islands(everything, 30.0).tensor)
    assert not torch.equal(without.tensor, everything.tensor)


def test_only_the_region_gets_labels(a_model, an_image):
    low, high = an_image.geometry.map_voxels(np.array([[5, 6, 4], [15, 18, 12]]))
    found = segment(an_image, a_model, region=np.stack((low, high)))
    points = voxels_ras(an_image.geometry)[found.labels.numpy().ravel() > 0]
    in_axes = (points - low) @ an_image.geometry.directions
    assert (in_axes > -1).all()
    assert (in_axes < (high - low) @ an_image.geometry.directions + 1).all()
    assert len(points) > 100
    assert found.provenance["region"].startswith("RAS mm [")


def test_a_region_of_the_whole_image_changes_nothing(a_model, an_image):
    whole = segment(an_image, a_model, region=an_image.geometry.corners_ras())
    assert torch.equal(whole.labels.tensor, segment(an_image, a_model).labels.tensor)


def test_refuses_a_region_outside_the_image(a_model, an_image):
    with pytest.raises(NoOverlap, match="region"):
        segment(an_image, a_model, region=an_image.geometry.corners_ras() + 500)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_single_slice_gets_labels(axis, a_model):
    size = tuple(1 if n == axis else 20 for n in range(3))
    geometry = Geometry.from_spacing(size, (1.0, 1.0, 1.0))
    labels = segment(Image.from_array(np.random.default_rng(0).random(geometry.shape_kji), geometry), a_model).labels
    assert labels.geometry is geometry
    assert labels.tensor.any()


def test_refuses_a_line_of_voxels(a_model):
    with pytest.raises(TooFewVoxels):
        segment(Image.from_array(np.arange(9.0).reshape(1, 1, 9), Geometry.from_spacing((9, 1, 1))), a_model)


def test_refuses_a_constant_image(a_model, an_image):
    with pytest.raises(NoContrast):
        segment(an_image.with_tensor(torch.full_like(an_image.tensor, 0.1)), a_model)


def test_a_constant_image_is_only_warned_of_when_the_model_has_a_ct_window(tmp_path, an_image):
    model = load_model(write_random_model(tmp_path / "ct", small_spec(intensity=(CtWindow(),))))
    found = segment(an_image.with_tensor(torch.full_like(an_image.tensor, 40.0)), model)
    assert any(finding.level is Level.WARN and "40" in finding.message for finding in found.findings)


def test_refuses_a_wrong_number_of_channels(tmp_path, an_image):
    model = load_model(
        write_random_model(tmp_path / "two", small_spec(channels=(ChannelSpec(name="T1"), ChannelSpec(name="T2"))))
    )
    with pytest.raises(ComponentCount, match="1 channels"):
        segment(an_image, model)
    both = Image.from_array(np.concatenate((an_image.numpy(), 2 - an_image.numpy())), an_image.geometry)
    assert segment(both, model).labels.tensor.any()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_refuses_a_voxel_that_is_not_finite(bad, a_model, an_image):
    tensor = an_image.tensor.clone()
    tensor[0, 9, 9, 9] = bad
    with pytest.raises(NonFiniteVoxels, match="1 of"):
        segment(an_image.with_tensor(tensor), a_model)


def test_a_voxel_that_is_not_finite_becomes_the_minimum_if_asked(a_model, an_image):
    tensor = an_image.tensor.clone()
    tensor[0, 9, 9, 9] = np.nan
    found = segment(an_image.with_tensor(tensor), a_model, SegmentationOptions(replace_nonfinite=True))
    tensor[0, 9, 9, 9] = an_image.tensor.min()
    assert torch.equal(found.labels.tensor, segment(an_image.with_tensor(tensor), a_model).labels.tensor)
    assert any("replaced by the minimum" in finding.message for finding in found.findings)
    assert found.provenance["replace_nonfinite"] == "True"


def test_refuses_spacing_in_wrong_units(a_model, an_image):
    metres = Geometry.from_spacing(an_image.geometry.size_ijk, (1000.0, 1000.0, 1500.0))
    with pytest.raises(SpacingOutOfRange):
        segment(Image(an_image.tensor, metres), a_model)


def test_refuses_more_work_than_the_memory_holds(a_model):
    vast = Geometry.from_spacing((40, 40, 40), (50.0, 50.0, 50.0))  # 8 * 10^9 voxels of the model
    with pytest.raises(TooLarge, match="GiB"):
        segment(Image.from_array(np.random.default_rng(0).random((40, 40, 40)), vast), a_model)


def test_the_provenance_is_complete(a_model, an_image):
    provenance = segment(an_image, a_model, device="cpu").provenance
    assert provenance.keys() == {
        "model",
        "weights_sha256",
        "medsegreg",
        "torch",
        "python",
        "device",
        "engine",
        "seconds",
        "made",
        "region",
        "structures",
        "mirror",
        "skip_air",
        "largest_component",
        "islands_mm3",
        "replace_nonfinite",
    }
    assert provenance["model"] == "balls 1.0.0"
    assert provenance["weights_sha256"] == a_model.spec.sha256["weights.safetensors"]
    assert provenance["torch"] == torch.__version__
    assert provenance["engine"] == a_model.engines[0].description
    assert all(isinstance(value, str) and value for value in provenance.values())


def test_the_same_image_gives_the_same_labels(a_model, an_image):
    assert torch.equal(segment(an_image, a_model).labels.tensor, segment(an_image, a_model).labels.tensor)


def test_the_image_is_not_changed(a_model, an_image):
    before = an_image.tensor.clone()
    segment(an_image, a_model, SegmentationOptions(replace_nonfinite=True))
    assert torch.equal(an_image.tensor, before)


def test_cancelling_gives_no_labels(a_model, an_image):
    seen = []
    with pytest.raises(Cancelled):
        segment(an_image, a_model, progress=Progress(lambda *news: seen.append(news), lambda: len(seen) > 3))
    assert len(seen) == 4


def test_progress_grows_from_the_first_tile_to_the_end(a_model, an_image):
    fractions = []
    segment(an_image, a_model, progress=Progress(lambda fraction, message: fractions.append(fraction)))
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0


def test_a_model_is_loaded_by_its_folder(a_model_folder, an_image):
    assert segment(an_image, a_model_folder, device="cpu").provenance["model"] == "balls 1.0.0"
    assert segment(an_image, str(a_model_folder), device="cpu").provenance["model"] == "balls 1.0.0"


def test_refuses_a_model_that_is_not_there(an_image, tmp_path):
    with pytest.raises(UnknownModel, match="no-such-model"):
        segment(an_image, "no-such-model", device="cpu")


def test_refuses_an_unknown_device(an_image, a_model_folder):
    with pytest.raises(InvalidSetting, match="abacus"):
        segment(an_image, a_model_folder, device="abacus")


@pytest.mark.parametrize("labels", [2, 12])
def test_confidence_is_given_on_the_images_grid_if_asked_for(labels, an_image):
    model = model_of(small_spec(labels))
    found, plain = segment(an_image, model, SegmentationOptions(confidence=True)), segment(an_image, model)
    assert plain.confidence is None
    assert torch.equal(found.labels.tensor, plain.labels.tensor)
    margin, entropy = found.confidence.margin, found.confidence.entropy
    assert margin.shape == entropy.shape == an_image.geometry.shape_kji
    assert margin.dtype == entropy.dtype == torch.uint8
    both = torch.stack((margin.flatten(), entropy.flatten())).float()
    assert torch.corrcoef(both)[0, 1] < -0.3  # sure voxels have a margin and no entropy
    assert len(margin.unique()) > 20


@pytest.mark.parametrize("axes", [("i",), ("j", "k")])
def test_mirroring_averages_over_the_mirror_images_of_the_image(axes, a_model):
    """Of an image of one tile, whose mirror image is segmented as the mirror image of the labels."""
    spec = a_model.spec.model_copy(update={"tiling": TilingSpec(mirror=axes), "tile_ijk": (16, 16, 16)})
    model, options = replace(a_model, spec=spec), SegmentationOptions(mirror=True)
    image = random_image((16, 16, 16))
    found = segment(image, model, options)
    dims = [{"k": 0, "j": 1, "i": 2}[axis] for axis in axes]
    mirrored = segment(image.with_tensor(image.tensor.flip([1 + dim for dim in dims])), model, options)
    assert torch.equal(mirrored.labels.tensor.flip(dims), found.labels.tensor)
    once = segment(image, model)
    assert not torch.equal(once.labels.tensor, found.labels.tensor)
    assert (found.provenance["mirror"], once.provenance["mirror"]) == ("True", "False")


def test_mirroring_a_model_that_allows_none_changes_nothing(a_model, an_image):
    found = segment(an_image, a_model, SegmentationOptions(mirror=True))
    assert torch.equal(found.labels.tensor, segment(an_image, a_model).labels.tensor)
    assert found.provenance["mirror"] == "False"


@pytest.mark.parametrize("regions", [(3, 1, 2), (1, 2, 3)])
def test_regions_are_painted_over_one_another(regions):
    spec, image = small_spec(3, regions=regions), random_image((20, 24, 18))
    model = model_of(spec)
    scores = streamed_scores(model, ZScore().apply(image).tensor).numpy()
    expected = np.zeros(scores.shape[1:], int)
    for score, label in zip(scores, regions, strict=True):
        expected[score > 0] = label
    labels = segment(image, model).labels.numpy()
    settled = np.abs(scores).min(0) > 1e-4
    np.testing.assert_array_equal(labels[settled], expected[settled])
    assert set(np.unique(expected)) == {0, 1, 2, 3}


def test_a_models_own_grid_gives_labels_everywhere_on_the_images(an_image):
    """Axes in another order, stretched, cubic, with thick slices, as a model of another tool has them."""
    grid = {"axes": "kji", "fit": "field_of_view", "interpolation": "cubic", "normalise_first": True, "thick_slices": 3}
    model = model_of(small_spec(2, grid=grid, spacing_mm=(4.0, 1.2, 1.1), tiling={"placement": "even"}))
    found = segment(an_image, model).labels
    assert found.geometry is an_image.geometry
    for axis in range(3):
        others = [n for n in range(3) if n != axis]
        assert found.tensor.any(dim=others[1]).any(dim=others[0]).float().mean() > 0.9


@pytest.mark.parametrize(("labels", "dtype"), [(255, torch.uint8), (300, torch.int32)])
def test_many_labels_are_not_wrapped_around(labels, dtype):
    spec = small_spec(labels)
    network = random_network(spec)
    with torch.no_grad():
        network.head.bias[labels] = 100.0
    found = segment(random_image((16, 16, 16)), model_of(spec, network)).labels
    assert found.tensor.dtype == dtype
    assert (found.tensor == labels).all()


@pytest.mark.parametrize("size", [(18, 20, 20), (60, 20, 6), (18, 60, 6)])
def test_scores_of_thick_slices_are_read_by_the_nearest_slice_and_linearly_within(size):
    """Whichever axis the tiles are streamed along."""
    grid = {"axes": "kji", "fit": "field_of_view", "interpolation": "cubic", "thick_slices": 3}
    model = model_of(small_spec(2, grid=grid, spacing_mm=(2.0, 1.2, 1.1), intensity=()))
    geometry = Geometry.from_spacing(size, (1.0, 1.0, 5.0), (3, 4, 5), OBLIQUE)
    image = Image.from_array(np.random.default_rng(0).normal(0, 1, geometry.shape_kji), geometry)
    prepared = prepare(image, model.spec)
    places = prepared.geometry.map_points(voxels_ras(geometry)).T
    places[0] = np.floor(places[0] + 0.5 + 1e-6)  # the image's k is the grid's i
    scores = np.stack(
        [
            ndimage.map_coordinates(channel, places[::-1], order=1, mode="nearest").reshape(geometry.shape_kji)
            for channel in streamed_scores(model, prepared.tensor).numpy()
        ]
    )
    second, first = np.sort(scores, axis=0)[-2:]
    settled = first - second > 1e-3
    np.testing.assert_array_equal(segment(image, model).labels.numpy()[settled], scores.argmax(0)[settled])
    assert settled.mean() > 0.9
