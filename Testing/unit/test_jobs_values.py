"""What crosses between parent and child: the library's objects come out as they went in."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from MedSegRegLib.errors import InputError
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Code, Image, Labels, Structure
from MedSegRegLib.jobs.values import JobResult, as_value, read_values, write_values
from MedSegRegLib.transform import Affine, Displacement, Transform

OBLIQUE = Geometry.from_spacing(
    (4, 5, 6), (1.0, 0.5, 2.5), (7.0, -8.0, 9.0), Rotation.from_euler("xyz", (7, -12, 20), degrees=True).as_matrix()
)


def carried(thing, folder, mapped: bool = False) -> JobResult:
    """Written, described in JSON, and read again."""
    described = write_values({"it": as_value(thing)}, folder, "x-")
    assert any(folder.iterdir())
    values = read_values(described, folder, mapped=mapped)
    assert not any(folder.iterdir())
    return JobResult({}, values)


def test_labels_keep_values_names_colours_and_codes(tmp_path):
    liver = Structure(
        300, "Leber / 肝臓", (0.1, 0.2, 0.3), Code("SCT", "10200004", "Liver"), modifier=Code("SCT", "7771000", "Left")
    )
    array = np.zeros(OBLIQUE.shape_kji, np.int32)
    array[2:4, 1:3] = 300
    back = carried(Labels.from_array(array, OBLIQUE, (liver, Structure(1, "nothing")), "study"), tmp_path).labels("it")
    np.testing.assert_array_equal(back.numpy(), array)
    assert back.structures == (liver, Structure(1, "nothing"))
    assert back.name == "study"
    np.testing.assert_array_equal(back.geometry.ijk_to_ras, OBLIQUE.ijk_to_ras)


def test_an_image_of_several_channels_stays_the_same(tmp_path):
    tensor = torch.randn((2, *OBLIQUE.shape_kji), generator=torch.Generator().manual_seed(1))
    back = carried(Image(tensor, OBLIQUE, "study", ("T1", "T2")), tmp_path).image("it")
    assert torch.equal(back.tensor, tensor)
    assert back.channel_names == ("T1", "T2")


def test_a_transform_maps_points_as_before(tmp_path):
    field = torch.randn((3, *OBLIQUE.shape_kji), generator=torch.Generator().manual_seed(2))
    matrix = np.eye(4)
    matrix[:3, 3] = (1, 2, 3)
    transform = Transform((Displacement(field, OBLIQUE), Affine(matrix)))
    points = OBLIQUE.map_voxels(np.random.default_rng(3).uniform(0, 3, (20, 3)))
    back = carried(transform, tmp_path).transform("it")
    np.testing.assert_array_equal(back.map_points(points), transform.map_points(points))


def test_arrays_of_any_layout_are_written(tmp_path):
    array = np.arange(60, dtype=">i2").reshape(3, 4, 5)[::-1, :, ::2]
    np.testing.assert_array_equal(carried(array, tmp_path).array("it"), array)


@pytest.mark.skipif(sys.platform == "win32", reason="a mapped file cannot be removed there")
def test_a_mapped_array_outlives_its_file(tmp_path):
    array = np.arange(60.0)
    mapped = carried(array, tmp_path, mapped=True).array("it")
    np.testing.assert_array_equal(mapped, array)
    with pytest.raises(ValueError, match="read-only"):
        mapped[0] = 1


def test_says_what_is_there_when_something_else_is_asked_for(tmp_path):
    result = carried(np.zeros(3), tmp_path)
    with pytest.raises(InputError, match="'it' is ndarray"):
        result.labels("it")
    with pytest.raises(InputError, match="'labels' is missing among \\['it'\\]"):
        result.labels("labels")
