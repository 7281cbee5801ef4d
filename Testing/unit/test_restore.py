"""From scores on a model's grid to labels on the volume's own grid, compared with SimpleITK."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK
import torch
from hypothesis import given
from hypothesis import strategies as st
from random_geometries import FEW, geometries, grid_pairs, itk_image

from MedSegRegLib.geometry import Geometry
from MedSegRegLib.preprocess import model_grid
from MedSegRegLib.segment.restore import restore_labels

SEEDS = st.integers(0, 2**16)


def scores_on(geometry: Geometry, seed: int, classes: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 3, (classes, *geometry.shape_kji)).astype(np.float32)


@FEW
@given(geometry=geometries(), seed=SEEDS)
def test_on_the_same_grid_the_highest_score_wins(geometry, seed):
    scores = np.round(scores_on(geometry, seed)) + np.arange(4, dtype=np.float32)[:, None, None, None] / 8
    labels = restore_labels(torch.from_numpy(scores), geometry, geometry)
    np.testing.assert_array_equal(labels, scores.argmax(0))


@FEW
@given(grids=grid_pairs(), seed=SEEDS)
def test_labels_are_those_of_simpleitks_linear_resampling_of_each_class(grids, seed):
    volume, moving = grids
    scores = scores_on(moving, seed)
    reference = itk_image(np.zeros(volume.shape_kji, np.float32), volume)
    resampled = np.stack(
        [
            SimpleITK.GetArrayFromImage(
                SimpleITK.Resample(itk_image(channel, moving), reference, SimpleITK.Transform(), SimpleITK.sitkLinear)
            )
            for channel in scores
        ]
    )
    voxels = moving.map_points(volume.map_voxels(np.moveaxis(np.indices(volume.shape_kji), 0, -1)[..., ::-1]))
    beyond = (np.abs(voxels - (np.asarray(moving.size_ijk) - 1) / 2) - np.asarray(moving.size_ijk) / 2).max(-1)
    second, first = np.sort(resampled, axis=0)[-2:]
    settled = (first - second > 1e-2) & (np.abs(beyond) > 1e-3)  # no tie, and not on the edge of the field of view
    labels = restore_labels(torch.from_numpy(scores), moving, volume).numpy()
    np.testing.assert_array_equal(labels[settled & (beyond < 0)], resampled.argmax(0)[settled & (beyond < 0)])
    assert (labels[beyond > 1e-3] == 0).all()


def test_the_whole_of_a_sheared_volume_gets_labels():
    directions = np.eye(3)
    directions[:, 2] = (0.3, 0, np.sqrt(1 - 0.09))
    volume = Geometry.from_spacing((12, 14, 10), (1, 1, 2), directions=directions)
    grid = model_grid(volume, (1.5, 1.5, 1.5))
    scores = torch.stack((torch.zeros(grid.shape_kji), torch.ones(grid.shape_kji)))
    assert (restore_labels(scores, grid, volume) == 1).all()


@pytest.mark.parametrize(("classes", "dtype"), [(256, torch.uint8), (301, torch.int32)])
def test_the_highest_label_is_not_wrapped_around(classes, dtype):
    geometry = Geometry.from_spacing((3, 3, 3))
    scores = torch.zeros((classes, 3, 3, 3))
    scores[-1] = 1
    labels = restore_labels(scores, geometry, geometry)
    assert labels.dtype == dtype
    assert (labels == classes - 1).all()
