"""The battery as a whole: reading, replacing, passing on; and masks. Single faults are in faults/test_volumes.py."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from MedSegRegLib.check_image import Need, check_image, check_mask, check_same_grid, inspect_image, measure_intensities
from MedSegRegLib.errors import EmptyVolume, GeometryMismatch, NonFiniteVoxels, SpacingOutOfRange
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Image, Labels
from MedSegRegLib.report import Finding, Level

GRID = Geometry.from_spacing((9, 8, 7))


@pytest.fixture
def image():
    return Image.from_array(np.random.default_rng(0).normal(100, 20, GRID.shape_kji), GRID)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_reads_range_zeros_and_nonfinite_voxels_of_each_channel(dtype):
    tensor = torch.rand((3, 4, 5, 6)).to(dtype) + 1
    tensor[1, 0, 0, :3] = torch.tensor([np.nan, np.inf, -np.inf])
    tensor[1, 1, 0, 0], tensor[1, 2, 0, 0] = -5, 9
    tensor[2] = np.nan
    tensor[0, 0, 0, :4] = 0
    seen = measure_intensities(tensor)
    assert seen.lowest == (0.0, -5.0, np.inf)
    assert seen.highest == (float(tensor[0].max()), 9.0, -np.inf)
    assert (seen.nonfinite, seen.zeros, seen.total) == (123, 4, 360)


def test_a_good_image_passes_as_it_is(image):
    checked, findings = check_image(image, Need("segment"))
    assert checked is image
    assert findings == []


def test_what_reading_noticed_is_passed_on_first(image):
    noticed = Finding.warn("The series has a missing slice")
    image = Image(image.tensor, GRID.with_spacing((0.05,) * 3).window((0, 0, 0), GRID.size_ijk), findings=(noticed,))
    assert inspect_image(image, Need("segment")) == [noticed]
    refused = Image(image.tensor, GRID, findings=(Finding.refuse(EmptyVolume("nothing read")),))
    with pytest.raises(EmptyVolume, match="nothing read"):
        check_image(refused, Need("segment"))


def test_inspecting_lists_every_fault_and_checking_raises_the_first():
    tensor = torch.full((1, 4, 4, 4), np.nan)
    image = Image(tensor, Geometry.from_spacing((4, 4, 4), (1000.0, 1.0, 1.0)))
    errors = [type(finding.error) for finding in inspect_image(image, Need("register")) if finding.error]
    assert errors == [SpacingOutOfRange, NonFiniteVoxels]
    with pytest.raises(SpacingOutOfRange):
        check_image(image, Need("register"))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nonfinite_voxels_are_replaced_by_the_minimum_only_when_asked(image, bad):
    image.tensor[0, 1, 1, :2] = bad
    lowest = float(image.tensor[torch.isfinite(image.tensor)].min())
    checked, findings = check_image(image, Need("segment"), replace_nonfinite=True)
    assert checked.tensor[0, 1, 1, :2].tolist() == [lowest, lowest]
    assert [f.level for f in findings] == [Level.WARN]
    assert "2 of 504 voxels" in findings[0].message
    assert not torch.isfinite(image.tensor[0, 1, 1, 0])
    with pytest.raises(NonFiniteVoxels, match="replace them by the minimum"):
        check_image(image, Need("segment"))


def test_nothing_replaces_a_channel_without_any_finite_voxel(image):
    with pytest.raises(NonFiniteVoxels, match="504 of 504"):
        check_image(image.with_tensor(image.tensor * np.nan), Need("segment"), replace_nonfinite=True)


def test_grids_that_differ_are_named_with_their_numbers():
    check_same_grid(GRID, GRID.window((0, 0, 0), GRID.size_ijk), "a and b")
    with pytest.raises(GeometryMismatch, match=r"grids of a and b differ: 9 x 8 x 7 voxels of 1 x 1 x 1 mm.*9 x 8 x 6"):
        check_same_grid(GRID, GRID.window((0, 0, 0), (9, 8, 6)), "a and b")


def test_a_mask_must_have_voxels_on_the_grid_of_the_image(image):
    array = np.zeros(GRID.shape_kji, np.uint8)
    with pytest.raises(EmptyVolume, match="No voxel of the mask"):
        check_mask(Labels.from_array(array, GRID), image)
    array[3, 3, 3] = 1
    check_mask(Labels.from_array(array, GRID), image)
    with pytest.raises(GeometryMismatch, match="mask and image"):
        check_mask(Labels.from_array(array, GRID.window((1, 0, 0), GRID.size_ijk)), image)
