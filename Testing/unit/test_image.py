"""Arrays of any type and layout become tensors on a grid: exact, copied, never wrapped around."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from random_geometries import FEW

from MedSegRegLib.errors import DimensionError, GeometryMismatch, InputError
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Image, Labels, Structure

GRID = Geometry.from_spacing((4, 3, 2))
SHAPE = (2, 3, 4)
REAL_TYPES = [
    "?",
    "i1",
    "u1",
    "<i2",
    ">i2",
    "<u2",
    ">u2",
    "<i4",
    ">i4",
    "<u4",
    ">i8",
    "<u8",
    "<f2",
    "<f4",
    ">f4",
    ">f8",
]
LAYOUTS = {
    "as it is": lambda a: a,
    "Fortran": np.asfortranarray,
    "negative stride": lambda a: a[:, ::-1],
    "every other voxel": lambda a: np.repeat(a, 2, axis=2)[:, :, ::2],
    "transposed": lambda a: np.ascontiguousarray(a.T).T,
}


def ramp(dtype: str) -> np.ndarray:
    return (np.arange(24) % (2 if dtype == "?" else 100)).reshape(SHAPE).astype(dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", REAL_TYPES)
def test_every_real_type_and_layout_keeps_its_values_and_is_copied(dtype, layout):
    array = LAYOUTS[layout](ramp(dtype))
    array.setflags(write=False)
    before = array.copy()
    for made in (Image.from_array(array, GRID), Labels.from_array(array, GRID)):
        assert made.tensor.is_contiguous()
        np.testing.assert_array_equal(made.numpy().reshape(SHAPE).astype(np.float64), before.astype(np.float64))
        made.tensor.zero_()
        np.testing.assert_array_equal(array, before)


@FEW
@given(arrays.arrays(np.float64, SHAPE, elements=st.floats(-1e30, 1e30)))
def test_float64_is_rounded_to_the_nearest_float32(array):
    np.testing.assert_array_equal(Image.from_array(array, GRID).numpy()[0], array.astype(np.float32))


def test_float64_beyond_float32_becomes_infinite_for_the_battery_to_refuse():
    assert np.isinf(Image.from_array(np.full(SHAPE, 1e300), GRID).numpy()).all()


@pytest.mark.parametrize(("value", "warns"), [(2**24, False), (2**24 + 1, True), (-(2**24) - 1, True), (2**63, True)])
def test_warns_of_integers_that_float32_cannot_all_hold(value, warns):
    image = Image.from_array(np.full(SHAPE, value, np.int64 if value < 2**63 else np.uint64), GRID)
    assert [str(abs(value)) in finding.message for finding in image.findings] == [True] * warns


@pytest.mark.parametrize(
    ("highest", "dtype"),
    [(255, torch.uint8), (256, torch.int32), (300, torch.int32), (70000, torch.int32), (2**31 - 1, torch.int32)],
)
@pytest.mark.parametrize("given_as", [np.int64, np.uint32, np.float64])
def test_labels_are_never_wrapped_around(highest, dtype, given_as):
    array = np.zeros(SHAPE, given_as)
    array[1, 2, 3] = highest
    labels = Labels.from_array(array, GRID, (Structure(1, "one"),))
    assert labels.tensor.dtype == dtype
    assert int(labels.tensor[1, 2, 3]) == highest


@pytest.mark.parametrize("value", [-1, 2**31, 0.5, np.nan, np.inf, -np.inf, 1e300])
def test_refuses_labels_that_are_no_whole_numbers_from_0_to_int32(value):
    array = np.zeros(SHAPE)
    array[0, 0, 0] = value
    with pytest.raises(InputError, match=r"whole numbers|0 to 2147483647"):
        Labels.from_array(array, GRID)


def test_refuses_voxels_that_are_not_real_numbers():
    with pytest.raises(InputError, match="complex128"):
        Image.from_array(np.zeros(SHAPE, complex), GRID)
    with pytest.raises(InputError, match="complex128"):
        Labels.from_array(np.zeros(SHAPE, complex), GRID)


@pytest.mark.parametrize("shape", [(3, 4), (1, 1, 2, 3, 4)])
def test_refuses_arrays_that_are_no_volume(shape):
    with pytest.raises(DimensionError, match="choose one frame or one volume"):
        Image.from_array(np.zeros(shape), GRID)


def test_refuses_voxels_and_grid_that_do_not_belong_together():
    with pytest.raises(GeometryMismatch, match=r"\(4, 3, 2\)"):
        Image.from_array(np.zeros((4, 3, 2)), GRID)
    with pytest.raises(GeometryMismatch, match="label map"):
        Labels.from_array(np.zeros((4, 3, 2), int), GRID)


def test_images_hold_floats_and_labels_hold_integers():
    with pytest.raises(InputError, match="int16"):
        Image(torch.zeros((1, *SHAPE), dtype=torch.int16), GRID)
    with pytest.raises(InputError, match="float32"):
        Labels(torch.zeros(SHAPE), GRID)


def test_values_are_an_array_until_a_tensor_is_asked_for_and_share_its_memory():
    image = Image.from_array(np.ones((4, 3, 2)), Geometry.from_spacing((2, 3, 4)))
    array = image.numpy()
    assert image.numpy() is array
    image.tensor[0, 0, 0, 0] = 7
    assert array[0, 0, 0, 0] == 7
    assert np.shares_memory(image.numpy(), array)


@pytest.mark.parametrize("writeable", [False, True])
def test_an_array_that_is_turned_or_cannot_be_written_becomes_a_tensor_of_its_own(writeable):
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4, 1)
    array.setflags(write=writeable)
    image = Image(np.moveaxis(array, -1, 0), Geometry.from_spacing((4, 3, 2)))
    assert image.tensor.is_contiguous()
    image.tensor.zero_()
    assert (array.sum() == 0) == writeable  # one channel lies in order either way


def test_other_intensities_keep_place_name_and_findings():
    image = Image.from_array(ramp("<i2"), GRID, "scan", ("T1",))
    other = image.with_tensor(image.tensor + 1)
    assert (other.geometry, other.name, other.channel_names) == (GRID, "scan", ("T1",))
    assert torch.equal(other.tensor - 1, image.tensor)
