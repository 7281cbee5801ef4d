"""From a row of a review to a place inside its structure."""

from __future__ import annotations

import numpy as np
import pytest

from MedSegRegLib.image import Labels, Structure
from MedSegRegLib.mrml.review_links import centre_of_segment, link_review, show_reviewed
from MedSegRegLib.mrml.segmentations import write_segmentation
from MedSegRegLib.mrml.tables import write_table


@pytest.fixture
def labels(any_grid):
    """A bow, whose centre of mass lies outside of it, and nothing."""
    array = np.zeros(any_grid.shape_kji, np.uint8)
    array[4, 2:10, 2:12] = 1
    array[4, 4:10, 4:10] = 0
    return Labels.from_array(array, any_grid, (Structure(1, "bow"), Structure(2, "nothing")))


@pytest.fixture
def segmentation(scene, labels):
    return write_segmentation(labels, scene, name="S")


def test_the_place_lies_in_the_structure(segmentation, labels):
    i, j, k = np.rint(labels.geometry.map_points(centre_of_segment(segmentation, "bow")[None]))[0].astype(int)
    assert labels.numpy()[k, j, i] == 1


def test_a_parent_transform_moves_the_place(segmentation, labels, a_linear_parent):
    from MedSegRegLib.mrml.volumes import world_matrix  # noqa: PLC0415

    before = centre_of_segment(segmentation, "bow")
    segmentation.SetAndObserveTransformNodeID(a_linear_parent.GetID())
    expected = world_matrix(segmentation) @ [*before, 1.0]
    np.testing.assert_allclose(centre_of_segment(segmentation, "bow"), expected[:3], atol=1e-9)


def test_nothing_and_unknown_names_have_no_place(segmentation):
    assert centre_of_segment(segmentation, "nothing") is None
    assert centre_of_segment(segmentation, "somebody else's") is None


def test_a_row_moves_all_slice_views_and_a_table_without_its_segmentation_none(scene, segmentation):
    view = scene.AddNewNodeByClass("vtkMRMLSliceNode")
    table = write_table(scene, "review", {"structure": ["nothing", "bow"], "confidence": [0.1, 0.9]})
    assert not show_reviewed(table, 1)
    link_review(table, segmentation)
    assert not show_reviewed(table, 0)
    assert show_reviewed(table, 1)
    place = [view.GetSliceToRAS().GetElement(row, 3) for row in range(3)]
    np.testing.assert_allclose(place, centre_of_segment(segmentation, "bow"), atol=1e-6)
    scene.RemoveNode(segmentation)
    assert not show_reviewed(table, 1)
