"""Training on pictures and single slices, in two dimensions: from files to a model that segments another picture."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from MedSegRegLib.errors import InputError
from MedSegRegLib.files import read_image, read_labels
from MedSegRegLib.files.architectures import UNetArchitecture
from MedSegRegLib.files.model_spec import ChannelSpec, GridSpec
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Image, Labels
from MedSegRegLib.segment import load_model, segment
from MedSegRegLib.train.adapt import adapt_model
from MedSegRegLib.train.augment import Augmentation, augment
from MedSegRegLib.train.batches import AugmentedBatches
from MedSegRegLib.train.chance import Chance
from MedSegRegLib.train.corrections import read_corrections
from MedSegRegLib.train.dataset import Example
from MedSegRegLib.train.fine_tune import FineTuning
from MedSegRegLib.train.losses import segmentation_loss
from MedSegRegLib.train.propose import propose_settings
from MedSegRegLib.train.run import train_model
from MedSegRegLib.train.warp import random_matrix
from small_training import small_settings, small_spec

STILL = Augmentation(rotation_degrees=0, scale=0, elastic_probability=0, intensity_probability=0)


def disc(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A red disc in noise [J, I, 3] uint8, and its mask [J, I] of 0 and 255."""
    rng = np.random.default_rng(seed)
    centre = rng.uniform(14, 26, 2)
    mask = np.linalg.norm(np.moveaxis(np.indices((40, 44)), 0, -1) - centre, axis=-1) < 9
    picture = rng.integers(60, 100, (40, 44, 3))
    picture[..., 0] += 90 * mask
    return picture.astype(np.uint8), (255 * mask).astype(np.uint8)


def write_discs(folder, count: int):
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    for seed in range(count):
        picture, mask = disc(seed)
        sitk.WriteImage(sitk.GetImageFromArray(picture, isVector=True), str(folder / "images" / f"{seed}.png"))
        sitk.WriteImage(sitk.GetImageFromArray(mask), str(folder / "labels" / f"{seed}.png"))
    return folder


def flat_spec(**changes):
    return small_spec(
        **{
            "architecture": UNetArchitecture(dimensions=2, features=(4, 8), blocks_per_stage=1),
            "channels": tuple(ChannelSpec(name=name) for name in ("red", "green", "blue")),
            "spacing_mm": (None, None, None),
            "grid": GridSpec(axes="ijk"),
            "tile_ijk": (32, 32, 1),
            **changes,
        }
    )


@pytest.fixture(scope="module")
def a_trained_model(tmp_path_factory):
    """(The pictures' folder, the model's folder), trained for a few steps."""
    folder = tmp_path_factory.mktemp("flat")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    settings = small_settings(model=flat_spec(), epochs=2, steps_per_epoch=25, learning_rate=2e-2)
    train_model(write_discs(folder / "data", 8), settings, folder / "output", device="cpu")
    torch.set_num_threads(threads)
    return folder / "data", folder / "output" / "model"


def dice_of(model, seed: int, change=lambda picture: picture) -> float:
    picture, mask = disc(seed)
    values = np.moveaxis(change(picture.astype(np.float32)), -1, 0)[:, None]
    image = Image.from_array(values, Geometry.from_spacing((44, 40, 1)))
    found = segment(image, model).labels.numpy()[0] > 0
    return float(2 * (found & (mask > 0)).sum() / (found.sum() + (mask > 0).sum()))


def test_a_model_trained_on_pictures_in_colour_segments_another_one(a_trained_model):
    _, folder = a_trained_model
    model = load_model(folder)
    assert np.mean([dice_of(model, seed) for seed in (80, 81)]) > 0.85


def test_a_model_of_pictures_can_be_adapted(a_trained_model, tmp_path):
    data, folder = a_trained_model
    result = adapt_model(folder, read_corrections(data)[:2], tmp_path, FineTuning(steps=2), device="cpu")
    assert [score.held_out for score in result.scores] == ["0", "1"]


def test_settings_are_proposed_for_pictures(tmp_path):
    model = propose_settings(write_discs(tmp_path, 3), "discs").model
    assert model.architecture.dimensions == 2
    assert model.tile_ijk == (48, 48, 1)
    assert len(model.channels) == 3
    assert [label.value for label in model.labels] == [1]
    assert model.spacing_mm == (1.0, 1.0, None)
    assert model.grid.axes == "ijk"


def test_batches_for_a_network_of_two_dimensions_have_no_third_one():
    example = Example("a", torch.rand(3, 1, 40, 44), torch.ones(1, 40, 44, dtype=torch.long))
    settings = small_settings(model=flat_spec(), batch_size=1)
    images, labels = next(AugmentedBatches([example], settings).epoch(0, 0, torch.device("cpu")))
    assert images.shape == (1, 3, 32, 32)
    assert labels.shape == (1, 32, 32)


@pytest.mark.parametrize("settings", [STILL, Augmentation(intensity_probability=0, elastic_probability=1)])
def test_a_patch_of_one_slice_is_one_slice_of_a_volume(settings):
    volume = torch.arange(9.0)[:, None, None].expand(9, 20, 20)
    settings = settings.model_copy(update={"mirror_axes": (0, 2)})
    seen = set()
    for seed in range(12):
        image, labels = augment(volume[None].clone(), volume.long() + 1, (1, 12, 12), settings, Chance(seed))
        values = set(labels.unique().tolist()) - {0}
        assert len(values) == 1
        torch.testing.assert_close(image, torch.full_like(image, values.pop() - 1))
        seen.add(float(image.mean()))
    assert len(seen) > 4


def test_within_a_slice_only_the_turn_about_its_normal_is_left():
    matrix = random_matrix(Chance(3), 30, 0.2, axes=(0, 1))
    assert matrix[2].tolist() == matrix[:, 2].tolist() == [0, 0, 1]
    assert abs(matrix[0, 1]) > 0.01


@pytest.mark.parametrize("name", ["dice_cross_entropy", "dice_focal", "dice_boundary"])
def test_the_loss_in_two_dimensions_is_that_of_a_single_slice(name):
    scores = torch.randn((2, 3, 1, 10, 12), generator=torch.Generator().manual_seed(0))
    labels = scores.roll(2, dims=3).argmax(1)
    torch.testing.assert_close(
        segmentation_loss(scores[:, :, 0], labels[:, 0], name), segmentation_loss(scores, labels, name)
    )


def test_a_mask_in_black_and_white_is_the_label_1_and_other_values_stay(tmp_path):
    for values, expected in (((0, 255), [0, 1]), ((0, 1, 2), [0, 1, 2]), ((0, 1, 255), [0, 1, 255])):
        array = np.resize(np.array(values, np.uint8), (6, 7))
        sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / "mask.png"))
        labels = read_labels(tmp_path / "mask.png")
        assert labels.tensor.unique().tolist() == expected
        assert [structure.value for structure in labels.structures] == expected[1:]
        assert labels.geometry.same_grid(read_image(tmp_path / "mask.png").geometry)


def test_refuses_labels_in_colour_and_in_a_format_that_changes_values(tmp_path):
    picture, mask = disc(0)
    sitk.WriteImage(sitk.GetImageFromArray(picture, isVector=True), str(tmp_path / "colour.png"))
    sitk.WriteImage(sitk.GetImageFromArray(mask), str(tmp_path / "mask.jpg"))
    for name in ("colour.png", "mask.jpg"):
        with pytest.raises(InputError, match="grey PNG"):
            read_labels(tmp_path / name)


def test_a_mask_that_is_grey_in_three_channels_is_read(tmp_path):
    _, mask = disc(0)
    sitk.WriteImage(sitk.GetImageFromArray(np.stack([mask] * 3, -1), isVector=True), str(tmp_path / "mask.png"))
    assert isinstance(read_labels(tmp_path / "mask.png"), Labels)
    assert read_labels(tmp_path / "mask.png").tensor.unique().tolist() == [0, 1]
