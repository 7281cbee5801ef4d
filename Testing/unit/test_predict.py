"""The whole walk from an image to labels, with a small network of random weights."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from MedSegRegLib.errors import (
    Cancelled,
    ComponentCount,
    InvalidSetting,
    ModelMismatch,
    NoContrast,
    NonFiniteVoxels,
    NoOverlap,
    SpacingOutOfRange,
    TooFewVoxels,
    TooLarge,
    UnknownModel,
)
from MedSegRegLib.files.model_package import ChannelSpec, write_model
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Image
from MedSegRegLib.preprocess import CtWindow
from MedSegRegLib.progress import Progress
from MedSegRegLib.report import Level
from MedSegRegLib.segment import Model, load_model, segment
from MedSegRegLib.segment.postprocess import keep_largest_component, remove_islands
from small_training import random_network, small_spec, write_random_model

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
    a_model.network.register_forward_pre_hook(lambda network, inputs: seen.append(tuple(inputs[0].shape)))
    spec = a_model.spec.model_copy(update={"tile_ijk": (8, 12, 16)})
    segment(an_image, replace(a_model, spec=spec))
    assert set(seen) == {(1, 1, 16, 12, 8)}


def test_the_largest_component_is_kept_if_asked(a_model, an_image):
    everything = segment(an_image, a_model).labels
    largest = segment(an_image, a_model, largest_component=True).labels
    assert torch.equal(largest.tensor, keep_largest_component(everything).tensor)
    assert not torch.equal(largest.tensor, everything.tensor)


def test_the_models_description_decides_on_the_largest_component(tmp_path, an_image):
    model = load_model(write_random_model(tmp_path / "largest", small_spec(2, keep_largest_component=True), seed=8))
    by_model, everything = segment(an_image, model), segment(an_image, model, largest_component=False)
    assert torch.equal(by_model.labels.tensor, keep_largest_component(everything.labels).tensor)
    assert by_model.provenance["largest_component"] == "True"
    assert everything.provenance["largest_component"] == "False"


def test_islands_are_removed_if_asked(a_model, an_image):
    everything = segment(an_image, a_model).labels
    without = segment(an_image, a_model, islands_mm3=30.0).labels
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
    found = segment(an_image.with_tensor(tensor), a_model, replace_nonfinite=True)
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
        "seconds",
        "made",
        "region",
        "largest_component",
        "islands_mm3",
        "replace_nonfinite",
    }
    assert provenance["model"] == "balls 1.0.0"
    assert provenance["weights_sha256"] == a_model.spec.sha256["weights.safetensors"]
    assert provenance["torch"] == torch.__version__
    assert all(isinstance(value, str) and value for value in provenance.values())


def test_the_same_image_gives_the_same_labels(a_model, an_image):
    assert torch.equal(segment(an_image, a_model).labels.tensor, segment(an_image, a_model).labels.tensor)


def test_the_image_is_not_changed(a_model, an_image):
    before = an_image.tensor.clone()
    segment(an_image, a_model, replace_nonfinite=True)
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


def test_a_loaded_model_is_in_evaluation_with_the_written_weights(a_model_folder):
    model = load_model(a_model_folder)
    assert not model.network.training
    for name, tensor in random_network(small_spec()).state_dict().items():
        torch.testing.assert_close(model.network.state_dict()[name], tensor.half().float(), rtol=0, atol=0)


def test_refuses_a_model_that_is_not_there(an_image, tmp_path):
    with pytest.raises(UnknownModel, match="no-such-model"):
        segment(an_image, "no-such-model", device="cpu")


def test_refuses_an_unknown_device_before_the_model_is_looked_for(an_image):
    with pytest.raises(InvalidSetting, match="abacus"):
        segment(an_image, "no-such-model", device="abacus")


def test_refuses_weights_of_another_network_before_it_is_built(tmp_path):
    huge = {"features": (1024,) * 8, "blocks_per_stage": 8}
    spec = small_spec(architecture=huge, tile_ijk=(256, 128, 128))
    write_model(tmp_path / "huge", spec, random_network(small_spec()).state_dict(), "")
    with pytest.raises(ModelMismatch) as caught:
        load_model(tmp_path / "huge")
    assert caught.value.found.count(";") == 4
    assert "decoder.seg_layers.0.weight: (2, 4, 1, 1, 1) for (2, 1024, 1, 1, 1)" in caught.value.found
