"""The descriptors that let images of any two modalities be compared by squared differences."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch.nn import functional

from MedSegRegLib.geometry import Geometry, translation
from MedSegRegLib.register import window_sums
from MedSegRegLib.register.filters import filter_axes, gaussian_axes
from MedSegRegLib.register.pyramid import Study
from MedSegRegLib.register.self_similarity import (
    DILATION,
    MARGIN,
    PAIRS,
    describe_studies,
    describe_study,
    patch_distances,
)

GRID = Geometry.from_spacing((22, 20, 21))


@pytest.fixture
def study() -> Study:
    """Random tissue, [1, 21, 20, 22], 1 mm; a corner of it has no weight."""
    generator = torch.Generator().manual_seed(5)
    noise = torch.randn((1, *GRID.shape_kji), generator=generator, dtype=torch.float64)
    smooth = filter_axes(noise, gaussian_axes(GRID, 1.5, noise))
    weight = torch.ones(GRID.shape_kji, dtype=torch.float64)
    weight[:8, :, :7] = 0
    return Study((smooth - smooth.min()) / (smooth.max() - smooth.min()), weight, GRID)


def distances_as_defined(image: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Patch by patch and voxel by voxel of the patch."""
    image, weight = (functional.pad(volume, (MARGIN,) * 6) for volume in (image, weight))

    def read(volume: torch.Tensor, place: np.ndarray) -> torch.Tensor:
        return volume[tuple(slice(MARGIN + p, n - MARGIN + p) for p, n in zip(place, volume.shape, strict=True))]

    channels = []
    for (first, second, side), sign in itertools.product(PAIRS, (1, -1)):
        one, other = (
            sign * DILATION * np.eye(3, dtype=int)[first],
            sign * side * DILATION * np.eye(3, dtype=int)[second],
        )
        total = counts = torch.zeros(())
        for within in itertools.product((-1, 0, 1), repeat=3):
            shared = read(weight, one + within) * read(weight, other + within)
            total = total + shared * (read(image, one + within) - read(image, other + within)) ** 2
            counts = counts + shared
        channels.append(torch.where(counts > 1e-3, total / counts, 0))
    distances = torch.stack(channels)
    return distances - distances.amin(dim=0)


def test_patch_distances_are_those_of_the_definition(study):
    weight = study.weight * torch.rand(study.weight.shape, generator=torch.Generator().manual_seed(0))
    image, padded = study.intensity[0], (functional.pad(v, (MARGIN,) * 6) for v in (study.intensity[0], weight))
    torch.testing.assert_close(patch_distances(*padded), distances_as_defined(image, weight))


def test_a_descriptor_is_the_exponential_of_the_distances_by_the_noise_of_the_voxel(study):
    study = Study(study.intensity, torch.ones_like(study.weight), GRID)
    distances = distances_as_defined(study.intensity[0], study.weight)
    channels = describe_study(study, 1.0).intensity
    noisy = distances.mean(dim=0) > distances.mean()
    expected = torch.exp(-distances / distances.mean(dim=0))
    torch.testing.assert_close(channels[:, noisy], expected[:, noisy])
    assert channels.min() >= 0
    assert channels.max() <= 1


@pytest.mark.parametrize("spacing", [1.0, 2.0])
def test_what_is_masked_out_has_no_say(study, spacing):
    changed = study.intensity.clone()
    changed[:, study.weight == 0] = 0.3
    before, after = describe_study(study, spacing), describe_study(Study(changed, study.weight, GRID), spacing)
    assert before.geometry.spacing_mm == (spacing,) * 3
    torch.testing.assert_close(before.intensity, after.intensity)


@pytest.mark.parametrize("change", [lambda x: 1 - x, lambda x: 0.2 + 0.5 * x])
def test_a_descriptor_does_not_mind_brightness_contrast_or_inversion(study, change):
    other = describe_study(Study(change(study.intensity), study.weight, GRID), 2.0)
    torch.testing.assert_close(other.intensity, describe_study(study, 2.0).intensity)


def test_the_noise_of_an_empty_background_says_little(study):
    k, j, i = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in GRID.shape_kji), indexing="ij")
    tissue, empty = i**2 + j**2 + k**2 < 0.5, i**2 + j**2 + k**2 > 1.5
    generator = torch.Generator().manual_seed(0)

    def described() -> torch.Tensor:
        noise = 0.02 * torch.randn(GRID.shape_kji, generator=generator)
        everywhere = torch.ones_like(study.weight)
        return describe_study(Study(study.intensity * tissue + noise, everywhere, GRID), 1.0).intensity

    assert described()[:, tissue].std() > 2 * described()[:, empty].std()


def test_both_studies_are_described_on_one_grid_along_the_same_axes(study):
    turned = np.array([[0.0, -1, 0, 30], [1, 0, 0, -4], [0, 0, 1, 7], [0, 0, 0, 1]])
    moving = Study(study.intensity, study.weight, Geometry(GRID.size_ijk, turned @ GRID.ijk_to_ras))
    first, second = describe_studies(study, moving, turned, 2.0)
    assert first.geometry.size_ijk == second.geometry.size_ijk
    np.testing.assert_array_equal(first.geometry.ijk_to_ras, second.geometry.ijk_to_ras)
    torch.testing.assert_close(first.intensity, second.intensity, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(first.weight, second.weight)


def test_what_lies_outside_the_moving_image_has_no_weight(study):
    first, second = describe_studies(study, study, translation(np.array([12.0, 0, 0])), 1.0)
    for described in (first, second):
        assert (described.weight[..., 11:] == 0).all()
        assert described.weight[10, 10, 8] > 0


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_slice_is_described_by_the_pairs_that_lie_in_it(study, axis):
    plane = study.intensity[0].select(axis, 10)
    shape = tuple(1 if n == axis else length for n, length in enumerate(GRID.shape_kji))
    described = describe_study(
        Study(plane.reshape(1, *shape), torch.ones(shape, dtype=plane.dtype), Geometry.from_spacing(shape[::-1])), 1.0
    )
    assert described.intensity.shape == (4, *shape)
    assert described.intensity.std() > 0.1

    pairs = [pair for pair in PAIRS if axis not in pair[:2]]
    image, weight = (functional.pad(v.reshape(shape), (MARGIN,) * 6) for v in (plane, torch.ones_like(plane)))
    repeated = plane.unsqueeze(axis).expand(GRID.shape_kji)
    expected = distances_as_defined(repeated, torch.ones_like(repeated)).select(axis + 1, 10)
    expected = torch.cat([expected[2 * n : 2 * n + 2] for n in map(PAIRS.index, pairs)])
    differing = patch_distances(image, weight, pairs).squeeze(axis + 1) - expected
    torch.testing.assert_close(differing, differing[:1].expand_as(differing))  # the least is that of other pairs


def test_what_is_described_does_not_depend_on_the_size_of_the_slabs(study, monkeypatch):
    whole = describe_study(study, 2.0)
    monkeypatch.setattr(window_sums, "SLAB_VOXELS", 1)
    torch.testing.assert_close(describe_study(study, 2.0).intensity, whole.intensity)
