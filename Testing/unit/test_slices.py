"""Which planes each slice needs and where its voxels lie, compared with the geometry point by point."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_geometries import FEW, geometries, grid_pairs

from MedSegRegLib.geometry import Geometry
from MedSegRegLib.sampling import ROUNDING_VOXELS
from MedSegRegLib.segment.slices import SliceMap
from streamed import CPU

SOME = settings(FEW, max_examples=20)


def slice_count(slices: SliceMap) -> int:
    return slices.slices_before(10**9)


def grid_coordinates(grid: Geometry, geometry: Geometry, slices: SliceMap) -> np.ndarray:
    """[slices, rows, columns, 3]: i, j, k in the grid of every voxel, in the order of the slices."""
    voxels = np.moveaxis(np.indices(geometry.shape_kji), 0, -1)[..., ::-1]
    points = torch.from_numpy(grid.map_points(geometry.map_voxels(voxels)))
    count = slice_count(slices)
    return np.stack([slices.ordered(slices.view(points[..., n], 0, count)).numpy() for n in range(3)], axis=-1)


@SOME
@given(grids=grid_pairs(sheared=True), nearest=st.sets(st.integers(0, 2)))
def test_voxels_lie_where_the_geometry_says(grids, nearest):
    geometry, grid = grids
    slices = SliceMap(grid, geometry, tuple(nearest))
    expected = grid_coordinates(grid, geometry, slices)
    place = slices.locate(0, slice_count(slices), 0, CPU)
    edges = np.abs(expected - (np.asarray(grid.size_ijk) - 1) / 2) - np.asarray(grid.size_ijk) / 2
    settled = np.abs(edges).min(-1) > 2 * ROUNDING_VOXELS
    np.testing.assert_array_equal(place.inside.numpy()[settled], (edges < 0).all(-1)[settled])
    for n, axis in enumerate(place.axes):
        low = axis.low.expand(place.inside.shape).numpy()
        wanted = np.clip(expected[..., n], 0, grid.size_ijk[n] - 1)
        assert axis.last == grid.size_ijk[n] - 1
        if n in nearest:
            assert axis.x is None
            assert np.abs(low - wanted).max() < 0.5 + 2 * ROUNDING_VOXELS
        elif axis.x is not None:
            np.testing.assert_allclose(axis.x.expand(low.shape).numpy(), wanted, atol=1e-6)
            assert ((low <= wanted + 1e-6) & (wanted - low < 1 + 1e-6)).all()
    assert set(slices.linear_axes).isdisjoint(nearest)


@SOME
@given(grids=grid_pairs(smallest=1, sheared=True))
def test_a_slice_is_complete_when_its_planes_have_arrived_and_not_much_later(grids):
    geometry, grid = grids
    slices, last = SliceMap(grid, geometry), grid.size_ijk[2] - 1
    planes = np.clip(grid_coordinates(grid, geometry, slices)[..., 2], 0, last).reshape(slice_count(slices), -1)
    first_needed, last_needed = np.floor(planes.min(1) + 1e-9), np.ceil(planes.max(1) - 1e-9)
    for arrived in range(grid.size_ijk[2] + 1):
        ready = slices.slices_before(arrived)
        assert (last_needed[:ready] <= arrived - 1).all()
        assert (last_needed[ready:] >= arrived - 2).all()
    for number in range(len(planes)):
        needed = first_needed[number:].min()
        assert needed - 2 < slices.first_plane(number) <= needed
    assert slices.first_plane(len(planes)) == grid.size_ijk[2]
    assert slices.slices_before(grid.size_ijk[2]) == len(planes)


@SOME
@given(grids=grid_pairs(smallest=1, sheared=True), step=st.integers(1, 4))
def test_slices_fill_the_volume_once_and_in_their_order(grids, step):
    geometry, grid = grids
    slices = SliceMap(grid, geometry)
    volume, count = torch.zeros(geometry.shape_kji, dtype=torch.int64), slice_count(slices)
    for start in range(0, count, step):
        stop = min(start + step, count)
        numbers = torch.arange(start, stop).reshape(-1, 1, 1).expand(-1, slices.slice_voxels, 1)
        part = slices.view(volume, start, stop)
        part += 1 + slices.ordered(numbers[:, : part[0].numel()].reshape(part.shape))
    k = torch.from_numpy(grid_coordinates(grid, geometry, slices)[..., 2])
    numbers = slices.ordered(slices.view(volume, 0, count))
    assert torch.equal(numbers, torch.arange(1, count + 1).reshape(-1, 1, 1).expand(numbers.shape))
    assert (k.diff(dim=0) > 0).all()


@SOME
@given(geometry=geometries(smallest=2, furthest_mm=1e4, sheared=True), order=st.permutations(range(3)))
def test_on_the_grids_own_voxels_nothing_is_interpolated(geometry, order):
    exchanged = geometry.exchanged(tuple(order))
    assert SliceMap(exchanged, geometry).linear_axes == ()
    assert SliceMap(geometry, geometry.window((1, 0, -2), (3, 2, 9))).linear_axes == ()


def test_along_an_axis_of_the_same_spacing_nothing_is_interpolated():
    grid = Geometry.from_spacing((20, 20, 20), (1.0, 1.0, 1.0))
    thin = Geometry.from_spacing((20, 20, 40), (1.0, 1.0, 0.5))
    assert SliceMap(grid, thin).linear_axes == (2,)
    shifted = Geometry.from_spacing((20, 20, 20), origin_ras=(0.0, 0.25, 0.0))
    assert SliceMap(grid, shifted).linear_axes == (1,)


def test_a_grid_and_a_volume_of_more_voxels_than_32_bits_count_are_indexed_exactly():
    grid = Geometry.from_spacing((70_000, 60_000, 50), (0.01, 0.01, 1.0))
    volume = Geometry.from_spacing((5, 4, 50), (175.0, 200.0, 1.0))  # 17500 and 20000 voxels of the grid apart
    slices = SliceMap(grid, volume)
    place = slices.locate(3, 5, 2, CPU)
    index = place.index(torch.Size((3, 60_000, 70_000)))
    expected = [
        [[((k - 2) * 60_000 + 20_000 * j) * 70_000 + 17_500 * i for i in range(4)] for j in range(3)] for k in (3, 4)
    ]
    assert index.dtype == torch.int64
    assert index[:, :3, :4].tolist() == expected
    assert expected[-1][-1][-1] > 2**32
    assert place.inside[:, :3, :4].all()
    assert not place.inside[:, 3:].any()
    assert not place.inside[:, :, 4:].any()
