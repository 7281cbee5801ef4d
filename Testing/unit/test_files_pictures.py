"""Pictures as images of one slice, and their segmentation by a network over slices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from MedSegRegLib.errors import ComponentCount, FileError, TooLarge
from MedSegRegLib.files import pictures, read_image, read_labels, write_labels
from MedSegRegLib.files.architectures import UNetArchitecture
from MedSegRegLib.files.model_spec import ChannelSpec
from MedSegRegLib.preprocess import ScaleRange
from MedSegRegLib.segment import load_model, segment
from small_training import small_spec, write_random_model

GREY = np.arange(30 * 40, dtype=np.uint8).reshape(30, 40) % 251


def write_picture(path: Path, array: np.ndarray) -> Path:
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array, isVector=array.ndim == 3), str(path))
    return path


@pytest.mark.parametrize("extension", [".png", ".tif"])
def test_a_grey_picture_is_one_slice_of_one_channel(tmp_path, extension):
    image = read_image(write_picture(tmp_path / f"chest{extension}", GREY))
    np.testing.assert_array_equal(image.numpy(), GREY[None, None])
    assert image.geometry.size_ijk == (40, 30, 1)
    assert image.name == "chest"


def test_the_colours_of_a_picture_are_channels_and_transparency_is_left_out(tmp_path):
    colours = np.stack((GREY, GREY[::-1], 250 - GREY, np.full_like(GREY, 128)), axis=-1)
    image = read_image(write_picture(tmp_path / "fundus.png", colours))
    np.testing.assert_array_equal(image.numpy()[:, 0], np.moveaxis(colours[..., :3], -1, 0))
    assert image.channel_names == ("red", "green", "blue")


def test_a_jpeg_is_read(tmp_path):
    smooth = np.repeat(np.arange(0, 240, 6, dtype=np.uint8)[None], 30, axis=0)
    image = read_image(write_picture(tmp_path / "scan.JPG", smooth))
    np.testing.assert_allclose(image.numpy()[0, 0], smooth, atol=6)


def test_says_that_the_size_of_a_pixel_is_assumed(tmp_path):
    assert "1 mm a pixel" in str(read_image(write_picture(tmp_path / "x.png", GREY)).findings[0])


@pytest.mark.parametrize("content", [b"", b"no picture at all", None])
def test_refuses_what_is_not_a_picture(tmp_path, content):
    path = tmp_path / "broken.png"
    path.write_bytes(write_picture(tmp_path / "whole.png", GREY).read_bytes()[:-20] if content is None else content)
    with pytest.raises(FileError):
        read_image(path)


def test_refuses_a_missing_picture(tmp_path):
    with pytest.raises(FileError, match="gone"):
        read_image(tmp_path / "gone.png")


def test_refuses_a_picture_beyond_the_limit_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "LARGEST_PIXELS", 1000)
    with pytest.raises(TooLarge, match="1200"):
        read_image(write_picture(tmp_path / "x.png", GREY))


@pytest.fixture
def a_fundus_model(tmp_path):
    spec = small_spec(
        2,
        architecture=UNetArchitecture(dimensions=2, features=(4, 8), blocks_per_stage=1),
        channels=tuple(ChannelSpec(name=name) for name in pictures.COLOURS),
        spacing_mm=(None, None, None),
        intensity=(ScaleRange(low=0, high=255),),
        tile_ijk=(16, 16, 1),
    )
    return load_model(write_random_model(tmp_path / "fundus", spec, seed=2))


def test_a_picture_in_colour_is_segmented_by_a_network_over_slices(tmp_path, a_fundus_model):
    colours = np.random.default_rng(0).integers(0, 255, (30, 40, 3), dtype=np.uint8)
    image = read_image(write_picture(tmp_path / "fundus.png", colours))
    labels = segment(image, a_fundus_model).labels
    assert labels.tensor.shape == (1, 30, 40)
    assert labels.tensor.unique().numel() > 1
    write_labels(labels, tmp_path / "vessels.nrrd")
    np.testing.assert_array_equal(read_labels(tmp_path / "vessels.nrrd").numpy(), labels.numpy())


def test_refuses_a_grey_picture_for_a_model_of_colours(tmp_path, a_fundus_model):
    with pytest.raises(ComponentCount, match="1 channels"):
        segment(read_image(write_picture(tmp_path / "grey.png", GREY)), a_fundus_model)
