"""Examples of random contrast from label maps: image and labels agree, sides are right, and only the seed decides."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from label_map_phantoms import ROLES, write_heads

from MedSegRegLib.train.chance import Chance
from MedSegRegLib.train.dataset import find_label_maps
from MedSegRegLib.train.label_maps import LabelMaps, read_label_maps
from MedSegRegLib.train.synthesise import Synthesis, synthesise

SIDE = 44
STILL = {
    "mirror_probability": 0,
    "rotation_degrees": 0,
    "scale": 0,
    "shear": 0,
    "shift_mm": 0,
    "velocity_mm": 0,
    "cropped_probability": 0,
}
CLEAR = {
    "deviations": (0, 0),
    "kindred_probability": 0,
    "black_background_probability": 1,
    "removed_probability": 0,
    "bias_field": 0,
    "gamma": 0,
    "low_resolution_probability": 0,
    "noise": 0,
    "percentiles": 0,
}


@pytest.fixture(scope="module")
def maps(tmp_path_factory) -> LabelMaps:
    folder = write_heads(tmp_path_factory.mktemp("maps"), ["a"])
    return read_label_maps([case.labels for case in find_label_maps(folder)], ROLES, 1.0)


def example(maps: LabelMaps, seed: int, **changes) -> tuple[torch.Tensor, torch.Tensor]:
    settings = Synthesis(roles=ROLES, **changes)
    return synthesise(maps, settings, (SIDE,) * 3, (1.0, 1.0, 1.0), Chance(seed))


def centre_i(labels: torch.Tensor, label: int) -> float:
    return float((labels == label).nonzero()[:, 2].double().mean())


def test_without_any_change_the_labels_are_those_of_the_map(maps):
    _, labels = example(maps, 0, **STILL)
    wanted = maps.targets[maps.volumes[0].long()]
    assert labels.flatten().bincount(minlength=4)[1:].tolist() == wanted.flatten().bincount(minlength=4)[1:].tolist()


@pytest.mark.parametrize("seed", range(6))
def test_left_stays_left_mirrored_or_not(maps, seed):
    _, labels = example(maps, seed, mirror_probability=seed % 2, rotation_degrees=10)
    assert centre_i(labels, 1) < centre_i(labels, 2)


def test_a_mirrored_example_is_the_mirror_image_with_sides_exchanged(maps):
    _, plain = example(maps, 3, **STILL)
    _, mirrored = example(maps, 3, **{**STILL, "mirror_probability": 1})
    exchanged = torch.tensor([0, 2, 1, 3])[mirrored.flip(2)]
    assert (exchanged != plain).float().mean() < 0.02
    assert centre_i(plain, 3) > SIDE / 2 > centre_i(mirrored, 3)


@pytest.mark.parametrize("seed", range(4))
def test_each_tissue_has_its_own_intensity_where_its_labels_are(maps, seed):
    image, labels = example(maps, seed, **STILL, **CLEAR)
    for label in (1, 2, 3):
        inside = torch.nn.functional.avg_pool3d((labels == label)[None].float(), 3, 1, 1)[0] > 0.99
        assert image[0][inside].std() < 0.02
    left, right = (float(image[0][labels == label].median()) for label in (1, 2))
    assert left == pytest.approx(right, abs=0.02)


def test_contrasts_differ_between_examples(maps):
    ranks = set()
    for seed in range(12):
        image, labels = example(maps, seed, **{**CLEAR, "black_background_probability": 0})
        ranks.add(tuple(np.argsort([float(image[0][labels == label].median()) for label in (0, 1, 3)])))
    assert len(ranks) > 2


def test_surroundings_are_removed_where_asked(maps):
    image, labels = example(maps, 1, **{**CLEAR, "removed_probability": 1})
    far = torch.nn.functional.max_pool3d((labels > 0)[None].float(), 15, 1, 7)[0] == 0
    assert far.any()
    assert image[0][far].max() == 0
    assert image[0][labels > 0].min() > 0


def test_a_cropped_example_has_neither_image_nor_labels_beyond_a_plane(maps):
    image, labels = example(maps, 5, cropped_probability=1, cropped=0.5, black_background_probability=0)
    empty = [
        [n for n in range(SIDE) if not image[0].select(axis, n).any() and not labels.select(axis, n).any()]
        for axis in range(3)
    ]
    assert sorted(map(len, empty))[-1] > 0
    _, whole = example(maps, 5, cropped_probability=0, black_background_probability=0)
    assert (labels > 0).sum() < (whole > 0).sum()


@pytest.mark.parametrize("seed", range(8))
def test_intensities_are_finite_and_between_0_and_1(maps, seed):
    image, labels = example(maps, seed)
    assert image.shape == (1, SIDE, SIDE, SIDE)
    assert labels.shape == (SIDE, SIDE, SIDE)
    assert labels.dtype == torch.long
    assert torch.isfinite(image).all()
    assert image.min() >= 0
    assert image.max() <= 1
    assert image.std() > 0.01


def test_slices_may_be_thick(maps):
    def roughness(image: torch.Tensor) -> list[float]:
        return [float(image.diff(dim=axis).abs().mean()) for axis in (1, 2, 3)]

    how = {**STILL, **CLEAR, "slice_mm": 9.0, "voxel_mm": 1.0, "low_resolution_probability": 1}
    ratios = []
    for seed in range(8):
        rough = roughness(example(maps, seed, **how)[0])
        ratios.append(max(rough) / min(rough))
    assert max(ratios) > 1.5


def test_the_seed_decides_everything_and_the_global_random_state_is_kept(maps):
    before = torch.get_rng_state()
    (first, first_labels), (again, again_labels), (other, other_labels) = (example(maps, n) for n in (5, 5, 6))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, again)
    assert torch.equal(first_labels, again_labels)
    assert not torch.equal(first, other)
    assert not torch.equal(first_labels, other_labels)


def test_the_maps_are_not_changed(maps):
    before = maps.volumes[0].clone()
    example(maps, 2, cropped_probability=1, removed_probability=1)
    assert torch.equal(maps.volumes[0], before)


def test_voxels_of_the_example_may_be_larger_than_those_of_the_map(maps):
    settings = Synthesis(roles=ROLES, **STILL)
    _, labels = synthesise(maps, settings, (22, 22, 22), (2.0, 2.0, 2.0), Chance(0))
    _, fine = example(maps, 0, **STILL)
    assert int((labels > 0).sum()) * 8 == pytest.approx(int((fine > 0).sum()), rel=0.05)
