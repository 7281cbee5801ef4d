"""Cleaning labels by components, compared with scikit-image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.measure import label, regionprops

from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Labels
from MedSegRegLib.segment.components import component_roots
from MedSegRegLib.segment.postprocess import (
    filter_by_boxes,
    filter_by_roots,
    keep_largest_component,
    remove_islands,
)

VOXEL_MM3 = 0.5 * 0.5 * 4.0


@pytest.fixture
def speckled_labels() -> Labels:
    """Three labels in small random pieces, on voxels of 1 mm³."""
    array = np.random.default_rng(0).choice(4, (10, 20, 15), p=[0.55, 0.25, 0.15, 0.05])
    return Labels.from_array(array, Geometry.from_spacing((15, 20, 10), (0.5, 0.5, 4.0)), name="speckles")


def pieces(array: np.ndarray, value: int) -> list[np.ndarray]:
    """The components of one label, as masks."""
    components = label(array == value, connectivity=1)
    return [components == region.label for region in regionprops(components)]


def test_keeps_the_largest_component_of_each_label(speckled_labels):
    before, after = speckled_labels.numpy(), keep_largest_component(speckled_labels).numpy()
    for value in (1, 2, 3):
        kept = pieces(after, value)
        assert len(kept) == 1
        assert kept[0].sum() == max(piece.sum() for piece in pieces(before, value))
        assert (before[kept[0]] == value).all()


def test_removes_the_islands_below_a_volume(speckled_labels):
    limit_mm3 = 5 * VOXEL_MM3
    before, after = speckled_labels.numpy(), remove_islands(speckled_labels, limit_mm3).numpy()
    expected = np.zeros_like(before)
    for value in (1, 2, 3):
        for piece in pieces(before, value):
            if piece.sum() * VOXEL_MM3 >= limit_mm3:
                expected[piece] = value
    np.testing.assert_array_equal(after, expected)
    assert 0 < (after > 0).sum() < (before > 0).sum()


@pytest.mark.parametrize("clean", [keep_largest_component, lambda labels: remove_islands(labels, 1000.0)])
def test_cleaning_changes_neither_its_input_nor_the_rest_of_the_labels(clean, speckled_labels):
    before = speckled_labels.tensor.clone()
    after = clean(speckled_labels)
    assert torch.equal(speckled_labels.tensor, before)
    assert not torch.equal(after.tensor, before)
    assert (after.geometry, after.name, after.tensor.dtype) == (speckled_labels.geometry, "speckles", torch.uint8)


def test_a_label_above_255_is_cleaned_too():
    array = np.zeros((4, 4, 9), np.int32)
    array[1, 1, 1:4] = array[1, 1, 6] = 700
    after = keep_largest_component(Labels.from_array(array, Geometry.from_spacing((9, 4, 4)))).numpy()
    assert np.flatnonzero(after[1, 1]).tolist() == [1, 2, 3]


def test_labels_without_a_structure_stay_empty():
    empty = Labels.from_array(np.zeros((3, 4, 5), np.uint8), Geometry.from_spacing((5, 4, 3)))
    assert not keep_largest_component(empty).tensor.any()
    assert not remove_islands(empty, 10.0).tensor.any()


@pytest.mark.parametrize("keep", [lambda sizes: np.arange(len(sizes)) == sizes.argmax(), lambda sizes: sizes >= 3])
def test_tensor_operations_alone_find_the_components_of_scipy(speckled_labels, keep):
    by_roots = filter_by_roots(speckled_labels.tensor, keep)
    by_boxes = filter_by_boxes(speckled_labels.numpy().copy(), keep)
    np.testing.assert_array_equal(by_roots.numpy(), by_boxes)
    assert not np.array_equal(by_boxes, speckled_labels.numpy())


def test_a_component_that_winds_through_the_volume_has_one_root():
    array = np.zeros((9, 9, 40), np.uint8)
    array[::2, ::2] = 1
    array[:, ::2, 0] = array[::2, :, 39] = 1
    roots = component_roots(torch.from_numpy(array)).numpy()
    assert len(np.unique(roots[array == 1])) == label(array, connectivity=1).max()
