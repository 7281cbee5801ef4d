"""Labels through a transform: smooth surfaces stay smooth, thin and small structures stay where they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from register_phantoms import make_bend
from scipy.spatial.transform import Rotation

from MedSegRegLib.errors import Cancelled
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Labels, Structure
from MedSegRegLib.progress import Progress
from MedSegRegLib.resample import resample_labels
from MedSegRegLib.transform import Affine, Transform
from MedSegRegLib.workflows import soft_labels
from MedSegRegLib.workflows.soft_labels import transfer_labels

pytestmark = pytest.mark.usefixtures("one_thread")

TURN = np.eye(4)
TURN[:3, :3] = Rotation.from_euler("xyz", (20, -35, 50), degrees=True).as_matrix()
TURNED = Transform((Affine(TURN),))


def grid(*spacing: float) -> Geometry:
    size = tuple(int(np.ceil(38 / mm)) for mm in spacing)
    return Geometry.from_spacing(size, spacing, tuple(-(n - 1) / 2 * mm for n, mm in zip(size, spacing, strict=True)))


def anatomy(geometry: Geometry, matrix: np.ndarray | None = None) -> Labels:
    """Two touching lobes (1, 7) inside a thin shell (300), by their equations, seen through a 4x4 matrix."""
    k, j, i = np.indices(geometry.shape_kji)
    points = geometry.map_voxels(np.stack((i, j, k), axis=-1))
    x, y, z = np.moveaxis(points if matrix is None else points @ matrix[:3, :3].T, -1, 0)
    labels = np.zeros(geometry.shape_kji, np.int32)
    radius = np.sqrt(x**2 + y**2 + z**2)
    labels[(radius > 15) & (radius < 17.5)] = 300
    labels[((x + 5) / 6) ** 2 + (y / 9) ** 2 + (z / 8) ** 2 < 1] = 1
    labels[((x - 5) / 7) ** 2 + (y / 7) ** 2 + (z / 9) ** 2 < 1] = 7
    return Labels.from_array(labels, geometry, (Structure(7, "lobe"),), "anatomy")


def dice(a: Labels, b: Labels, value: int) -> float:
    one, other = a.tensor == value, b.tensor == value
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


@pytest.mark.parametrize(
    ("source", "target", "gain"),
    [
        ((1, 1, 1), (1, 1, 1), 0.01),
        ((1, 1, 3), (1, 1, 1), 0.02),
        ((2, 2, 2), (1, 1, 1), 0.02),
        ((1, 1, 1), (2, 2, 2), 0.003),
    ],
)
def test_borders_are_nearer_to_the_truth_than_by_the_nearest_voxel(source, target, gain):
    drawn, truth = anatomy(grid(*source), np.linalg.inv(TURN)), anatomy(grid(*target))
    soft, nearest = (f(drawn, truth.geometry, TURNED) for f in (transfer_labels, resample_labels))
    for value in (1, 7, 300):
        assert dice(soft, truth, value) > dice(nearest, truth, value) + gain


def test_volumes_are_kept():
    drawn, truth = anatomy(grid(1, 1, 3), np.linalg.inv(TURN)), anatomy(grid(1, 1, 1))
    soft = transfer_labels(drawn, truth.geometry, TURNED)
    for value in (1, 7):
        assert int((soft.tensor == value).sum()) == pytest.approx(int((truth.tensor == value).sum()), rel=0.08)


def test_the_same_grid_changes_nothing():
    drawn = anatomy(grid(2, 2, 2))
    assert torch.equal(transfer_labels(drawn, drawn.geometry, Transform()).tensor, drawn.tensor)


def test_neighbours_leave_no_gap_between_them():
    halves = np.ones((12, 12, 12), np.uint8)
    halves[:, :6], halves[:, 6:, 6:] = 2, 3
    labels = Labels.from_array(halves, grid(3, 3, 3).window((0, 0, 0), (12, 12, 12)))
    fine = labels.geometry.with_spacing((1.0, 1.0, 1.0)).window((3, 3, 3), (30, 30, 30))
    assert bool((transfer_labels(labels, fine, Transform()).tensor > 0).all())


def test_a_line_of_single_voxels_is_kept():
    array = np.zeros((15, 15, 15), np.uint8)
    array[7, 7, 2:13] = 4
    labels = Labels.from_array(array, grid(2, 2, 2).window((0, 0, 0), (15, 15, 15)))
    fine = transfer_labels(labels, labels.geometry.with_spacing((1.0, 1.0, 1.0)), Transform())
    assert bool((fine.tensor[14:16, 14:16, 5:25] == 4).any(dim=0).any(dim=0).all())


def test_outside_the_source_is_background():
    everywhere = Labels.from_array(np.ones((6, 6, 6), np.uint8), grid(2, 2, 2).window((0, 0, 0), (6, 6, 6)))
    wide = everywhere.geometry.window((-3, -3, -3), (12, 12, 12))
    carried = transfer_labels(everywhere, wide, Transform())
    assert int(carried.tensor.sum()) == 6**3
    assert int(carried.tensor[3:9, 3:9, 3:9].sum()) == 6**3


def test_blocks_do_not_show(monkeypatch):
    drawn = anatomy(grid(2, 2, 2))
    bend = Transform((make_bend(drawn.geometry, largest_mm=4.0),))
    whole = transfer_labels(drawn, drawn.geometry, bend)
    monkeypatch.setattr(soft_labels, "BLOCK", 7)
    assert torch.equal(transfer_labels(drawn, drawn.geometry, bend).tensor, whole.tensor)


def test_values_structures_and_name_stay():
    drawn = anatomy(grid(2, 2, 2))
    carried = transfer_labels(drawn, grid(1.5, 1.5, 1.5), TURNED)
    assert set(carried.tensor.unique().tolist()) == {0, 1, 7, 300}
    assert (carried.structures, carried.name) == (drawn.structures, "anatomy")


def test_a_transfer_can_be_cancelled():
    with pytest.raises(Cancelled):
        transfer_labels(anatomy(grid(2, 2, 2)), grid(2, 2, 2), TURNED, Progress(should_cancel=lambda: True))
