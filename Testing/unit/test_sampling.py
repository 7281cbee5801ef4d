"""Reading between voxels: the coordinates of ``grid_sample``, linear and nearest values, edges."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from random_geometries import FEW
from scipy.ndimage import map_coordinates
from torch.nn import functional

from MedSegRegLib.geometry import voxels_to_grid
from MedSegRegLib.sampling import (
    is_outside,
    map_affine,
    map_voxel_planes,
    plane_slabs,
    sample_linear,
    sample_nearest,
    voxel_coordinates,
)

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
SIZES = st.tuples(*[st.integers(1, 7)] * 3)
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


@pytest.fixture(params=DEVICES)
def device(request):
    return request.param


@DTYPES
@FEW
@given(size=SIZES)
def test_voxel_centres_are_the_identity_grid_of_torch(dtype, size):
    i, j, k = size
    identity = functional.affine_grid(torch.eye(3, 4, dtype=dtype)[None], [1, 1, k, j, i], align_corners=False)[0]
    ours = voxels_to_grid(voxel_coordinates(size, 0, k, torch.empty((), dtype=dtype)), size)
    torch.testing.assert_close(ours, identity, atol=1e-6, rtol=0)


@DTYPES
@FEW
@given(size=SIZES)
def test_reading_at_the_voxel_centres_gives_the_voxels(dtype, size):
    volume = torch.rand((2, *size[::-1]), dtype=dtype)
    ijk = voxel_coordinates(size, 0, size[2], volume)
    torch.testing.assert_close(sample_linear(volume, ijk, fill=-1.0), volume, atol=5e-6, rtol=0)
    assert torch.equal(sample_nearest(volume[0], ijk, fill=-1), volume[0])


@DTYPES
@FEW
@given(size=SIZES, seed=st.integers(0, 2**16))
def test_linear_values_agree_with_scipy(dtype, size, seed):
    rng = np.random.default_rng(seed)
    volume = rng.random(size[::-1])
    ijk = rng.uniform(-1.5, np.asarray(size) + 0.5, (200, 3))
    inside = ((ijk > -0.5) & (ijk < np.asarray(size) - 0.5)).all(axis=1)
    expected = np.where(inside, map_coordinates(volume, ijk.T[::-1], order=1, mode="nearest"), -7.0)
    points = torch.from_numpy(ijk).to(dtype)
    off_the_edge = np.abs(np.abs(ijk - (np.asarray(size) - 1) / 2) - np.asarray(size) / 2).min(axis=1) > 1e-3
    actual = sample_linear(torch.from_numpy(volume)[None].to(dtype), points, fill=-7.0)[0].numpy()
    tolerance = 2e-5 if dtype == torch.float32 else 1e-9
    np.testing.assert_allclose(actual[off_the_edge], expected[off_the_edge], atol=tolerance)


def test_any_shape_of_points_gives_the_same_values(device):
    volume = torch.rand((3, 5, 6, 7), device=device)
    ijk = torch.rand((4, 3, 2, 3), device=device) * 8 - 1
    flat = sample_linear(volume, ijk.reshape(-1, 3), fill=0.0)
    assert sample_linear(volume, ijk, fill=0.0).shape == (3, 4, 3, 2)
    torch.testing.assert_close(sample_linear(volume, ijk, fill=0.0).reshape(3, -1), flat)


@pytest.mark.parametrize("points_shape", [(6, 3), (2, 3, 1, 3)])
def test_gradients_reach_points_and_volume(points_shape):
    volume = torch.rand((2, 4, 4, 4), dtype=torch.float64, requires_grad=True)
    ijk = (torch.rand(points_shape, dtype=torch.float64) * 2 + 0.3).requires_grad_()
    assert torch.autograd.gradcheck(lambda v, x: sample_linear(v, x, fill=0.0), (volume, ijk), atol=1e-4)
    assert torch.autograd.gradcheck(lambda x: sample_linear(volume.detach(), x), (ijk,), atol=1e-4)


def test_without_a_fill_the_border_is_repeated():
    volume = torch.tensor([2.0, 4.0]).reshape(1, 1, 1, 2)
    far = torch.tensor([[-9.0, 0.0, 0.0], [9.0, 3.0, -3.0]])
    assert sample_linear(volume, far).tolist() == [[2.0, 4.0]]
    assert sample_linear(volume, far, fill=-1.0).tolist() == [[-1.0, -1.0]]


def test_half_a_voxel_around_the_centres_is_inside_and_the_upper_edge_is_not():
    i = torch.tensor([-0.6, -0.5, 0.0, 2.0, 2.49, 2.5, 2.6])
    points = torch.stack((i, torch.zeros(7), torch.zeros(7)), dim=-1)
    assert is_outside(points, (3, 1, 1)).tolist() == [True, False, False, False, False, True, True]


@pytest.mark.parametrize("noise", [0.0, 1e-5, -1e-5])
def test_half_way_labels_round_up_whatever_the_rounding_noise(noise):
    labels = torch.tensor([1, 2, 3], dtype=torch.uint8).reshape(1, 1, 3)
    points = torch.tensor([[0.5 + noise, 0.0, 0.0], [1.5 + noise, 0.0, 0.0]])
    assert sample_nearest(labels, points).tolist() == [2, 3]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64, torch.bool, torch.float64])
def test_nearest_values_keep_their_type(dtype, device):
    labels = torch.tensor([0, 1], dtype=dtype, device=device).reshape(1, 1, 2)
    values = sample_nearest(labels, torch.tensor([[1.2, 0.0, 0.0], [5.0, 0.0, 0.0]], device=device))
    assert values.dtype == dtype
    assert values.tolist() == [1, 0]


@DTYPES
@FEW
@given(size=SIZES, seed=st.integers(0, 2**16))
def test_an_affine_map_is_the_matrix_product(dtype, size, seed):
    matrix = torch.rand((4, 4), dtype=dtype, generator=torch.Generator().manual_seed(seed))
    ijk = voxel_coordinates(size, 0, size[2], matrix)
    homogeneous = torch.cat((ijk, torch.ones_like(ijk[..., :1])), dim=-1)
    expected = (homogeneous @ matrix.T)[..., :3]
    torch.testing.assert_close(map_affine(matrix, ijk), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(map_voxel_planes(matrix, size, 0, size[2]), expected, atol=1e-5, rtol=0)


def test_coordinates_run_along_i_in_the_last_array_axis():
    ijk = voxel_coordinates((3, 4, 5), 2, 4, torch.empty(()))
    assert ijk.shape == (2, 4, 3, 3)
    assert ijk[1, 2, 1].tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("points_at_once", [1, 24, 25, 1000])
def test_slabs_cover_every_plane_once(points_at_once, monkeypatch):
    monkeypatch.setattr("MedSegRegLib.sampling.POINTS_AT_ONCE", points_at_once)
    planes = [k for start, stop in plane_slabs((3, 4, 7)) for k in range(start, stop)]
    assert planes == list(range(7))
