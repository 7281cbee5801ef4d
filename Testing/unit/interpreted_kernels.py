"""The kernels against plain torch. ``test_register_triton_kernels`` runs this file in a process of its own: in triton's
interpreter where there is no GPU, and compiled where there is one."""

from __future__ import annotations

import importlib
from types import ModuleType

import numpy as np
import pytest
import torch

from MedSegRegLib.geometry import Geometry
from MedSegRegLib.register.comparison import Comparison
from MedSegRegLib.register.correlation import LocalCorrelation
from MedSegRegLib.register.displacement import compose, grid_coordinates, solve_inverse
from MedSegRegLib.register.pyramid import Pair, Study, everywhere
from MedSegRegLib.sampling import sample_linear

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TILTED = np.array([[0.8, -0.6, 0.1, 3.0], [0.6, 0.8, -0.1, -2.0], [-0.1, 0.1, 1.1, 1.5], [0, 0, 0, 1]])


@pytest.fixture
def kernels(monkeypatch):
    """Call it to decide what is used from then on."""

    def use(wanted: bool) -> None:
        for module in ("comparison", "displacement", "similarity"):
            monkeypatch.setattr(f"MedSegRegLib.register.{module}.use_kernels", lambda tensor: wanted)

    return use


@pytest.fixture
def fused() -> ModuleType:
    """Imported late: collecting this file must not need triton."""
    return importlib.import_module("MedSegRegLib.register.triton_correlation")


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def border_weight(*shape: int) -> torch.Tensor:
    """0 in two columns, 0.5 in the next, 1 elsewhere."""
    weight = torch.ones(shape, device=DEVICE)
    weight[..., :2] = 0
    weight[..., 2] = 0.5
    return weight


@pytest.mark.parametrize(
    ("radius", "shape", "weighted"),
    [(1, (5, 3, 33), False), (1, (5, 3, 33), True), (2, (1, 9, 11), True), (3, (5, 3, 7), False), (3, (2, 5, 7), True)],
)
def test_local_correlation_and_its_forces_are_torchs(radius, shape, weighted, fused, monkeypatch):
    monkeypatch.setattr(fused, "SLAB_VOXELS", 4 * shape[1] * shape[2])
    fixed, other = random(1, *shape, seed=1), random(1, *shape, seed=2)
    moved = 0.6 * fixed + 0.4 * other
    weight = border_weight(*shape) if weighted else everywhere(fixed)
    expected = LocalCorrelation(fixed.double(), weight.double(), radius).match(moved.double())
    found = fused.FusedCorrelation(fixed, weight, radius).match(moved)
    for name in ("value", "gradient", "curvature"):
        theirs, ours = getattr(expected, name), getattr(found, name).double()
        assert (ours - theirs).abs().max() < 1e-5 * theirs.abs().max()


def test_a_constant_background_pulls_at_nothing(fused):
    fixed, moved = random(1, 2, 3, 30, seed=1), random(1, 2, 3, 30, seed=2)
    fixed[..., 12:] = moved[..., 12:] = 0
    match = fused.FusedCorrelation(fixed, everywhere(fixed), 2).match(moved)
    assert (match.gradient[..., 17:] == 0).all()
    assert (match.curvature >= 0).all()


@pytest.fixture
def pair() -> Pair:
    """Two channels on different grids, the fixed one with odd sizes and a moving mask."""
    fixed = Geometry((11, 7, 5), np.diag([1.0, 1.2, 1.5, 1.0]))
    moving = Geometry.from_spacing((9, 8, 10), (1.1, 0.9, 1.0), origin_ras=(-2.0, 1.0, -1.0))
    images = random(2, *fixed.shape_kji, seed=1), random(2, *moving.shape_kji, seed=2)
    return Pair(
        Study(images[0], everywhere(images[0]), fixed), Study(images[1], border_weight(*moving.shape_kji), moving)
    )


def comparison(pair: Pair) -> tuple[Comparison, torch.Tensor]:
    """The pair on a grid of 2 mm, and a displacement on it that leaves the moving image."""
    image = pair.fixed.geometry
    grid = image.window((-2, -2, -2), tuple(n + 4 for n in image.size_ijk)).with_spacing((2.0, 2.2, 2.1))
    return Comparison(pair, TILTED, grid, "ssd", 2, 1.5), 3 * random(3, *grid.shape_kji, seed=3) - 1.5


def test_the_moved_image_and_its_weight_are_torchs(pair, kernels):
    compared, field = comparison(pair)
    answers = []
    for wanted in (False, True):
        kernels(wanted)
        compared.prepare(field)
        answers.append((compared.moved(field), compared.similarity._weight))
    for theirs, ours in zip(*answers, strict=True):
        assert 0.1 < float(theirs.float().mean()) < 0.9
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_what_an_image_wants_is_torchs(pair, kernels):
    compared, field = comparison(pair)
    answers = []
    for wanted in (False, True):
        kernels(wanted)
        compared.prepare(field)
        answers.append(compared.gather(field))
    for theirs, ours in zip(*answers, strict=True):
        assert (ours - theirs).abs().max() < 2e-5 * theirs.abs().max()


@pytest.mark.parametrize("directions", [np.eye(3), np.array([[0.8, -0.6, 0.3], [0.6, 0.8, 0.0], [0.0, 0.0, 0.95]])])
@pytest.mark.parametrize("shape", [(5, 7, 11), (1, 6, 9)])
def test_slopes_times_forces_are_torchs(shape, directions, kernels):
    k, j, i = shape
    geometry = Geometry.from_spacing((i, j, k), (1.0, 0.8, 1.4), directions=directions)
    image = random(1, *shape, seed=1)
    study = Study(image, everywhere(image), geometry)
    compared = Comparison(Pair(study, study), np.eye(4), geometry, "ssd", 2, 1.5)
    moved = random(1, *shape, seed=2)
    compared.prepare(torch.zeros((3, *shape), device=DEVICE))
    match = compared.similarity.match(moved)
    answers = []
    for wanted in (False, True):
        kernels(wanted)
        answers.append(compared._terms(moved, match, k // 3, k))
    torch.testing.assert_close(answers[1], answers[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shape", [(5, 7, 11), (1, 6, 9), (9, 1, 4)])
def test_composed_fields_are_torchs(shape, kernels):
    outer, inner = 6 * random(3, *shape, seed=1) - 3, 6 * random(3, *shape, seed=2) - 3
    answers = []
    for wanted in (False, True):
        kernels(wanted)
        answers.append(compose(outer, inner, grid_coordinates(outer)))
    torch.testing.assert_close(answers[1], answers[0], atol=1e-5, rtol=0)


def test_inverses_are_torchs(kernels):
    field = 0.8 * random(3, 4, 5, 6, seed=1) - 0.4
    places = 3 * random(2, 5, 3, seed=2)
    start, answers = torch.zeros_like(places), []
    for wanted in (False, True):
        kernels(wanted)
        answers.append(solve_inverse(field, places, start, 12))
    torch.testing.assert_close(answers[1], answers[0], atol=3e-3, rtol=0)
    back = answers[1] + sample_linear(field, places + answers[1]).movedim(0, -1)
    assert back.norm(dim=-1).max() <= 1e-3


def test_a_vector_that_is_not_a_number_reads_no_memory_of_others(kernels):
    kernels(True)
    outer, inner = random(3, 3, 4, 5), torch.full((3, 3, 4, 5), torch.nan, device=DEVICE)
    assert torch.isnan(compose(outer, inner, grid_coordinates(outer))).all()
