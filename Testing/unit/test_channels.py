"""Several images as the channels of one: by name, on one grid, or refused."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK
import torch
from random_geometries import itk_image

from MedSegRegLib.errors import ComponentCount, NoOverlap
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Image
from MedSegRegLib.report import Finding, Level
from MedSegRegLib.segment import Model, segment
from MedSegRegLib.segment.channels import join_channels
from small_training import small_spec
from streamed import model_of

GRID = Geometry.from_spacing((20, 18, 16), (1.0, 1.0, 1.5), (5, -3, 8))
NAMES = ("T1", "T1c", "FLAIR")


def spec_of(*names: str):
    return small_spec(2, channels=[{"name": name} for name in names])


def an_image(seed: int, geometry: Geometry = GRID, **more: object) -> Image:
    return Image.from_array(np.random.default_rng(seed).normal(100, 20, geometry.shape_kji), geometry, **more)


@pytest.fixture
def images() -> dict[str, Image]:
    return {name: an_image(seed, name=f"scan {name}") for seed, name in enumerate(NAMES)}


@pytest.fixture
def a_model() -> Model:
    return model_of(spec_of(*NAMES))


def test_channels_are_in_the_models_order_whatever_the_order_in_which_they_are_given(images):
    expected = torch.cat([images[name].tensor for name in NAMES])
    for order in (NAMES, NAMES[::-1], ("T1c", "FLAIR", "T1")):
        joined = join_channels({name: images[name] for name in order}, spec_of(*NAMES))
        assert torch.equal(joined.tensor, expected)
        assert joined.channel_names == NAMES
        assert joined.geometry is images["T1"].geometry
        assert joined.name == "scan T1"


def test_upper_and_lower_case_are_the_same(images):
    joined = join_channels({"flair": images["FLAIR"], "t1": images["T1"], "T1C": images["T1c"]}, spec_of(*NAMES))
    assert torch.equal(joined.tensor, torch.cat([images[name].tensor for name in NAMES]))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("T1", "FLAIR"), "T1, FLAIR"),
        (("T1", "T1c", "T2"), "T1, T1c, T2"),
        (("T1", "T1c", "FLAIR", "T2"), "T2"),
        (("T1", "t1", "FLAIR"), "T1, t1, FLAIR"),
        (("T1", "t1", "T1c", "FLAIR"), "t1"),
        ((), "none"),
    ],
)
def test_missing_unknown_and_doubled_names_are_refused_with_what_is_wanted(given, said):
    with pytest.raises(ComponentCount, match=said) as caught:
        join_channels({name: an_image(0) for name in given}, spec_of(*NAMES))
    assert "T1, T1c, FLAIR" in caught.value.expected
    assert caught.value.fix


def test_a_model_whose_channels_share_a_name_is_not_given_one_image_twice(images):
    with pytest.raises(ComponentCount):
        join_channels({"MRI": images["T1"]}, spec_of("MRI", "mri"))


def test_an_image_of_several_components_is_refused_as_one_channel(images):
    both = Image.from_array(np.concatenate((images["T1"].numpy(), images["T1c"].numpy())), GRID)
    with pytest.raises(ComponentCount, match="FLAIR has 2 channels"):
        join_channels({**images, "FLAIR": both}, spec_of(*NAMES))


def test_an_image_on_another_grid_is_resampled_as_by_simpleitk_and_warned_of(images):
    other = an_image(9, Geometry.from_spacing((12, 15, 30), (2.0, 1.3, 0.9), (3, -5, 6)))
    joined = join_channels({**images, "FLAIR": other}, spec_of(*NAMES))
    reference = itk_image(images["T1"].numpy()[0], GRID)
    lowest = float(other.tensor.min())
    expected = SimpleITK.Resample(
        itk_image(other.numpy()[0], other.geometry),
        reference,
        SimpleITK.Transform(),
        SimpleITK.sitkLinear,
        lowest,
    )
    np.testing.assert_allclose(joined.numpy()[2], SimpleITK.GetArrayFromImage(expected), rtol=1e-4)
    assert torch.equal(joined.tensor[:2], torch.cat((images["T1"].tensor, images["T1c"].tensor)))
    (finding,) = joined.findings
    assert finding.level is Level.WARN
    assert finding.message.startswith("FLAIR lies on another grid than T1")
    assert "register" in finding.fix


def test_the_first_channel_decides_on_the_grid(images):
    fine = an_image(9, Geometry.from_spacing((40, 36, 32), (0.5, 0.5, 0.75), (5, -3, 8)))
    joined = join_channels({**images, "T1": fine}, spec_of(*NAMES))
    assert joined.geometry is fine.geometry
    assert [finding.message.split()[0] for finding in joined.findings] == ["T1c", "FLAIR"]


def test_images_that_do_not_overlap_are_refused(images):
    apart = an_image(9, Geometry.from_spacing(GRID.size_ijk, GRID.spacing_mm, (500, 0, 0)))
    with pytest.raises(NoOverlap, match="T1c"):
        join_channels({**images, "T1c": apart}, spec_of(*NAMES))


def test_what_was_noticed_while_reading_is_passed_on_once():
    note, other = Finding.warn("qform and sform differ"), Finding.warn("integers are rounded")
    images = {"T1": an_image(0, findings=(note,)), "T2": an_image(1, findings=(note, other))}
    assert join_channels(images, spec_of("T1", "T2")).findings == (note, other)


def test_segmenting_images_by_name_is_segmenting_their_stack(images, a_model):
    stack = Image.from_array(np.concatenate([images[name].numpy() for name in NAMES]), GRID, "scan T1")
    by_name = segment({name.lower(): images[name] for name in NAMES[::-1]}, a_model)
    assert torch.equal(by_name.labels.tensor, segment(stack, a_model).labels.tensor)
    assert len(by_name.labels.tensor.unique()) > 1
    assert by_name.labels.name == "scan T1"
    swapped = segment({**images, "T1": images["FLAIR"], "FLAIR": images["T1"]}, a_model)
    assert not torch.equal(swapped.labels.tensor, by_name.labels.tensor)


def test_a_warning_about_the_grids_reaches_the_result(images, a_model):
    other = an_image(9, Geometry.from_spacing((12, 15, 30), (2.0, 1.3, 0.9), (3, -5, 6)))
    found = segment({**images, "T1c": other}, a_model)
    assert any("T1c lies on another grid" in finding.message for finding in found.findings)


@pytest.mark.parametrize("slices", [1, 3])
def test_a_colour_image_is_one_image_with_three_channels(slices):
    model = model_of(
        small_spec(
            2,
            architecture={"name": "plain_conv_unet", "dimensions": 2, "features": (4, 8)},
            channels=[{"name": name} for name in ("red", "green", "blue")],
            tile_ijk=(16, 16, 1),
        )
    )
    geometry = Geometry.from_spacing((30, 26, slices), (0.5, 0.5, 1.0))
    array = np.random.default_rng(0).integers(0, 256, (3, *geometry.shape_kji))
    spec = model.spec.model_copy(update={"spacing_mm": (None, None, None)})
    model = Model(spec, model.sources, model.engines)
    labels = segment(Image.from_array(array, geometry), model).labels
    assert labels.geometry is geometry
    assert len(labels.tensor.unique()) > 1
    with pytest.raises(ComponentCount):
        segment(Image.from_array(array[:2], geometry), model)
