"""A pair under a flow on a grid of its own: what moves where, what counts, and where the force points."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from random_geometries import centred, itk_image, itk_transform
from register_phantoms import smooth_noise
from scipy.spatial.transform import Rotation

from MedSegRegLib import sampling
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.register.comparison import Comparison
from MedSegRegLib.register.deformable import flow_domain, flow_grid
from MedSegRegLib.register.displacement import to_displacement
from MedSegRegLib.register.pyramid import Pair, Study, everywhere
from MedSegRegLib.transform import Affine, Transform

FIELD_COARSENING = 2.0
OBLIQUE = Rotation.from_euler("xyz", [20, -15, 30], degrees=True).as_matrix()
SHEARED = np.array([[0.8, -0.3, 0.2], [0.6, 0.9, 0.0], [0.0, 0.3, -0.98]])
SHEARED = SHEARED / np.linalg.norm(SHEARED, axis=0)
NEAR_IDENTITY = np.array([[1.03, 0.06, 0.0, 1.0], [-0.05, 0.97, 0.04, -2.0], [0.0, -0.03, 1.02, 0.5], [0, 0, 0, 1]])


def study(geometry: Geometry, seed: int) -> Study:
    """Smooth random tissue, float64 for finite differences."""
    intensity = smooth_noise(geometry, 5.0, seed).double() / 6 + 0.5
    return Study(intensity, everywhere(intensity), geometry)


def compare(directions: np.ndarray, similarity: str = "ssd", neighbourhood_voxels: float = 1.5) -> Comparison:
    """An anisotropic fixed grid with these directions, and a larger oblique moving one about it."""
    image = centred(Geometry.from_spacing((20, 18, 12), (1.5, 1.2, 2.4), directions=directions), np.zeros(3))
    around = centred(Geometry.from_spacing((40, 36, 38), (1.6, 1.6, 1.6), directions=OBLIQUE.T), np.zeros(3))
    grid = flow_grid(flow_domain(image, FIELD_COARSENING), image, FIELD_COARSENING)
    pair = Pair(study(image, 1), study(around, 2))
    return Comparison(pair, NEAR_IDENTITY, grid, similarity, 2, neighbourhood_voxels)


def random_field(grid: Geometry) -> torch.Tensor:
    """[3, K, J, I] float64 in voxels of the grid, about half a voxel."""
    return 0.5 * smooth_noise(grid, 6.0, 3, 3).double()


def test_the_moved_image_is_the_one_that_simpleitk_makes_of_field_and_affine():
    comparison = compare(OBLIQUE)
    field = random_field(comparison.grid)
    ours = comparison.moved(field)[0].numpy()
    chain = Transform((to_displacement(field, comparison.grid), Affine(NEAR_IDENTITY)))
    fixed, moving = comparison.pair.fixed, comparison.pair.moving
    reference, image = (itk_image(side.intensity[0].numpy(), side.geometry) for side in (fixed, moving))
    theirs = sitk.GetArrayFromImage(sitk.Resample(image, reference, itk_transform(chain), sitk.sitkLinear, -9.0))
    inside = theirs > -9
    assert inside.mean() > 0.9
    assert np.abs(ours - theirs)[inside].max() < 1e-5


def test_the_moved_image_is_right_on_a_sheared_grid():
    comparison = compare(SHEARED)
    field = random_field(comparison.grid)
    chain = Transform((to_displacement(field, comparison.grid), Affine(NEAR_IDENTITY)))
    fixed, moving = comparison.pair.fixed, comparison.pair.moving
    voxels = np.stack(np.meshgrid(*(np.arange(n) for n in fixed.geometry.shape_kji), indexing="ij")[::-1], axis=-1)
    points = chain.map_points(fixed.geometry.map_voxels(voxels.reshape(-1, 3)))
    expected = moving.at(torch.from_numpy(moving.geometry.map_points(points)))
    torch.testing.assert_close(comparison.moved(field).flatten(), expected.flatten(), atol=1e-6, rtol=0)


def similarity_at(comparison: Comparison, field: torch.Tensor) -> float:
    return float(comparison.similarity.match(comparison.moved(field)).value)


@pytest.mark.parametrize("directions", [OBLIQUE, SHEARED], ids=["oblique", "sheared"])
@pytest.mark.parametrize("similarity", ["ssd", "lncc"])
def test_the_force_is_the_steepest_rise_of_the_similarity_in_millimetres(directions, similarity):
    comparison = compare(directions, similarity, neighbourhood_voxels=0.9)  # as wide as a linear interpolation
    grid, image = comparison.grid, comparison.pair.fixed.geometry
    field = random_field(grid)
    comparison.prepare(field)
    _, sums = comparison.gather(field)
    k, j, i = grid.shape_kji
    rng, step = np.random.default_rng(0), 0.05
    ours, slopes = [], []
    for node in zip(rng.integers(4, k - 4, 40), rng.integers(4, j - 4, 40), rng.integers(4, i - 4, 40), strict=True):
        slope = []
        for axis in range(3):
            nudge = torch.zeros_like(field)
            nudge[(axis, *node)] = step
            rise = similarity_at(comparison, field + nudge) - similarity_at(comparison, field - nudge)
            slope.append(rise / (2 * step))
        slopes.append(np.linalg.inv(grid.ijk_to_ras[:3, :3]).T @ slope)
        ours.append(image.directions @ sums[(slice(3), *node)].numpy())
    for axis in range(3):
        assert np.corrcoef(np.array(ours)[:, axis], np.array(slopes)[:, axis])[0, 1] > 0.9
    gains = [np.dot(a, b) / np.dot(b, b) for a, b in zip(np.array(ours).T, np.array(slopes).T, strict=True)]
    assert max(gains) < 1.5 * min(gains)  # a spacing forgotten makes it 2


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_force_over_steepness_is_the_lacking_shift_in_the_smallest_spacing(axis):
    image = Geometry.from_spacing((30, 28, 20), (1.0, 1.0, 3.0))
    grid = flow_grid(flow_domain(image, FIELD_COARSENING), image, FIELD_COARSENING)
    tissue = study(image, 4)
    matrix = np.eye(4)
    matrix[axis, 3] = 0.3
    comparison = Comparison(Pair(tissue, tissue), matrix, grid, "ssd", 2, 3.0)
    still = torch.zeros((3, *grid.shape_kji), dtype=torch.float64)
    comparison.prepare(still)
    _, sums = comparison.gather(still)
    motion = sums[:3].sum(dim=(1, 2, 3)) / sums[3].sum()
    expected = np.zeros(3)
    expected[axis] = -0.3 / 3  # one gradient direction of three sees a third of it
    np.testing.assert_allclose(motion.numpy(), expected, atol=0.03)


def test_slabs_of_few_planes_give_what_one_slab_gives(monkeypatch):
    field = random_field(compare(OBLIQUE).grid)
    answers = []
    for points in (1 << 19, 700):
        monkeypatch.setattr(sampling, "POINTS_AT_ONCE", points)
        comparison = compare(OBLIQUE, "lncc")
        comparison.prepare(field)
        value, sums = comparison.gather(field)
        answers.append((value, sums, comparison.moved(field)))
    for one, several in zip(*answers, strict=True):
        torch.testing.assert_close(several, one, atol=1e-9, rtol=1e-9)


def test_what_lies_outside_the_moving_image_does_not_count():
    comparison = compare(OBLIQUE)
    pair = comparison.pair
    matrix = NEAR_IDENTITY.copy()
    matrix[0, 3] = 40.0  # out at the right
    fixed = pair.fixed.geometry
    points = fixed.map_voxels(np.argwhere(np.ones(fixed.shape_kji))[:, ::-1]) @ matrix[:3, :3].T + matrix[:3, 3]
    ijk = pair.moving.geometry.map_points(points)
    outside = (ijk < -0.5).any(axis=1) | (ijk > np.array(pair.moving.geometry.size_ijk) - 0.5).any(axis=1)
    outside = torch.from_numpy(outside.reshape(fixed.shape_kji))
    assert 0.2 < float(outside.double().mean()) < 0.9
    answers = []
    for intensity in (pair.fixed.intensity, torch.where(outside, 5.0, pair.fixed.intensity)):
        changed = Pair(Study(intensity, pair.fixed.weight, fixed), pair.moving)
        shifted = Comparison(changed, matrix, comparison.grid, "ssd", 2, 1.5)
        field = torch.zeros((3, *comparison.grid.shape_kji), dtype=torch.float64)
        shifted.prepare(field)
        answers.append(shifted.gather(field))
    torch.testing.assert_close(answers[1], answers[0])


def test_the_reverse_moves_the_fixed_image_onto_the_moving_one_in_fixed_space():
    comparison = compare(OBLIQUE)
    still = torch.zeros((3, *comparison.grid.shape_kji), dtype=torch.float64)
    back = comparison.reversed()
    torch.testing.assert_close(back.pair.fixed.intensity, comparison.moved(still))
    torch.testing.assert_close(back.moved(still), comparison.pair.fixed.intensity)
    comparison.prepare(still)
    back.prepare(still)
    torch.testing.assert_close(back.gather(still)[0], comparison.gather(still)[0])
