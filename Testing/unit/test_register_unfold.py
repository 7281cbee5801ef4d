"""The last folds are taken out, and nothing else is touched."""

from __future__ import annotations

import pytest
import torch
from register_phantoms import smooth_noise

from MedSegRegLib.evaluate.deformation import folding, smallest_corner_determinant
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.register.deformable import border_taper
from MedSegRegLib.register.displacement import to_displacement
from MedSegRegLib.register.flow import DisplacementField, VelocityField
from MedSegRegLib.register.unfold import LEAST_DETERMINANT, unfold

GRID = Geometry.from_spacing((28, 26, 24), (1.0, 1.5, 2.0))
FOLD = (slice(10, 13), slice(11, 14), slice(12, 15))


def smooth_vectors() -> torch.Tensor:
    """[3, 24, 26, 28] in voxels, at most 1, no folds."""
    vectors = smooth_noise(GRID, 8.0, 0, 3)
    return vectors / vectors.norm(dim=0).max() * border_taper(GRID, vectors)


def folded_vectors() -> torch.Tensor:
    """The same with a few vectors torn about."""
    vectors = smooth_vectors()
    vectors[(slice(None), *FOLD)] += 2.5 * torch.randn((3, 3, 3, 3), generator=torch.Generator().manual_seed(2))
    return vectors


@pytest.mark.parametrize("kind", [DisplacementField, VelocityField])
def test_a_folded_flow_comes_out_without_folds_and_unchanged_far_away(kind):
    flow = kind(folded_vectors() * (1 if kind is DisplacementField else 3), GRID)
    assert folding(to_displacement(flow.displacement(), GRID)).voxels_any_corner > 0
    mended = unfold(flow)
    displacement = to_displacement(mended.displacement(), GRID)
    assert float(smallest_corner_determinant(displacement).min()) >= LEAST_DETERMINANT
    far = torch.ones(GRID.shape_kji, dtype=torch.bool)
    far[4:19, 5:20, 6:21] = False
    assert torch.equal(mended.vectors[:, far], flow.vectors[:, far])
    assert not torch.equal(mended.vectors, flow.vectors)


def test_a_flow_without_folds_is_the_same_object():
    flow = DisplacementField(smooth_vectors(), GRID)
    assert unfold(flow) is flow


def test_a_flow_on_one_slice_is_unfolded():
    plane = Geometry.from_spacing((28, 26, 1), (1.0, 1.0, 5.0))
    vectors = torch.zeros(3, 1, 26, 28)
    vectors[:2, 0, 10:14, 10:14] = 2 * torch.randn((2, 4, 4), generator=torch.Generator().manual_seed(1))
    flow = DisplacementField(vectors, plane)
    assert folding(to_displacement(flow.displacement(), plane)).voxels_any_corner > 0
    assert folding(to_displacement(unfold(flow).displacement(), plane)).voxels_any_corner == 0
