"""The dense stage finds a known deformation, in both models, and does what its settings say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from register_phantoms import CUBE, bent, distance_mm, make_bend, make_head, smooth_noise, tissue_points

from MedSegRegLib.errors import Cancelled, InputError
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Image
from MedSegRegLib.progress import SILENT, Progress
from MedSegRegLib.register.deformable import (
    DeformableLevel,
    LevelReport,
    Part,
    border_taper,
    flow_domain,
    flow_grid,
    optimise_deformable,
)
from MedSegRegLib.register.flow import DisplacementField, Flow
from MedSegRegLib.register.pyramid import Pair, Study, prepare_study
from MedSegRegLib.register.run import Registration, register
from MedSegRegLib.register.settings import DeformableSettings, RegistrationSettings
from MedSegRegLib.register.solution import Solution
from MedSegRegLib.transform import Displacement, Transform

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def head() -> Image:
    """[1, 40, 40, 40], 1.5 mm."""
    return make_head()


@pytest.fixture(scope="module")
def bend() -> Displacement:
    """The truth, at most 4 mm."""
    return make_bend()


@pytest.fixture(scope="module")
def bent_head(head, bend) -> Image:
    """The head under the truth."""
    return bent(head, bend)


def dense(**settings) -> RegistrationSettings:
    """Without a linear stage, and with the stiffness given."""
    return RegistrationSettings(linear="none", deformable=DeformableSettings(**{"stiffness": 1.0, **settings}))


def left_over(result: Registration, bend: Displacement, head: Image) -> float:
    """Mean error in the tissue as a share of the motion."""
    points, truth = tissue_points(head), Transform((bend,))
    before = distance_mm(Transform(), truth, points).mean()
    assert before > 1
    return distance_mm(result.transform, truth, points).mean() / before


@pytest.mark.parametrize(
    ("settings", "limit"),
    [
        ({}, 0.3),
        ({"model": "velocity"}, 0.3),
        ({"model": "velocity", "symmetric": True}, 0.33),
        ({"mixed_with": {"ssd": 0.3}}, 0.33),
        ({"mixed_with": {"mind": 0.5}}, 0.35),
        ({"similarity": "ssd"}, 0.4),
        ({"similarity": "mi"}, 0.4),
        ({"similarity": "nmi"}, 0.35),
        ({"similarity": "lmi"}, 0.85),
        ({"similarity": "mind"}, 0.45),
        ({"search_reach_mm": 8.0}, 0.35),
    ],
    ids=str,
)
def test_a_known_deformation_is_found_without_folding(head, bent_head, bend, settings, limit):
    result = register(bent_head, head, dense(**settings))
    assert left_over(result, bend, head) < limit
    assert result.quality.folding.voxels_any_corner == 0


def test_swapping_the_images_gives_the_inverse_when_symmetric(head, bent_head):
    points, gaps = tissue_points(head), []
    for symmetric in (True, False):
        settings = dense(model="velocity", symmetric=symmetric)
        there, back = register(bent_head, head, settings), register(head, bent_head, settings)
        gaps.append(distance_mm(there.transform.then(back.transform), Transform(), points).mean())
    assert gaps[0] < 0.1
    assert gaps[0] < gaps[1] / 2


def test_levels_before_the_first_are_left_out(head, bent_head):
    reports: list[LevelReport] = []
    register(bent_head, head, dense(first_level=2), on_level=lambda transform, report: reports.append(report))
    assert [report.number for report in reports] == [2]


def test_a_level_reports_what_it_compared(head, bent_head):
    seen: list[tuple[Transform, LevelReport]] = []
    result = register(bent_head, head, dense(), on_level=lambda transform, report: seen.append((transform, report)))
    assert [report.number for _, report in seen] == [0, 1, 2]
    assert {report.levels for _, report in seen} == {3}
    np.testing.assert_allclose([report.spacing_mm for _, report in seen], [6.0, 3.0, 1.5])
    assert all(0 < report.similarity <= 1 for _, report in seen)
    spacings = [transform.stages[0].geometry.finest_spacing_mm for transform, _ in seen]
    np.testing.assert_allclose(spacings, [12.0, 6.0, 3.0])
    assert torch.equal(seen[-1][0].stages[0].vectors_ras_mm, result.transform.stages[0].vectors_ras_mm)


def test_the_stiffer_the_smoother(head, bent_head):
    roughness = [register(bent_head, head, dense(stiffness=value)).quality.sdlogj for value in (0.6, 1.2, 3.0)]
    assert roughness == sorted(roughness, reverse=True)
    assert roughness[0] > 1.5 * roughness[-1]


def test_the_stiffness_chosen_by_itself_does_not_follow_noise(head, bend):
    own = torch.randn(head.tensor.shape, generator=torch.Generator().manual_seed(9))
    fixed, moving = bent(head, bend, noise=1.0), head.with_tensor(head.tensor + own)
    auto, soft = (register(fixed, moving, dense(stiffness=stiffness)) for stiffness in ("auto", 0.85))
    assert left_over(auto, bend, head) < 0.8 * left_over(soft, bend, head)
    assert auto.quality.sdlogj < soft.quality.sdlogj / 2
    assert any("suits these images best" in finding.message for finding in auto.findings)
    assert not soft.findings


def test_images_that_are_all_noise_are_deformed_smoothly_and_it_is_said(head, bend):
    own = torch.randn(head.tensor.shape, generator=torch.Generator().manual_seed(9))
    fixed, moving = bent(head, bend, noise=40.0), head.with_tensor(head.tensor + 40 * own)
    auto, soft = (register(fixed, moving, dense(stiffness=stiffness)) for stiffness in ("auto", 0.85))
    assert any("voxels that it was not fitted to" in finding.message for finding in auto.findings)
    assert auto.quality.sdlogj < 0.5 * soft.quality.sdlogj
    assert auto.quality.mean_motion_mm < soft.quality.mean_motion_mm


def test_the_same_input_gives_the_same_bits(head, bent_head):
    short = {"coarsening": (4.0, 2.0), "iterations": (8, 6)}
    for settings in (dense(stiffness="auto", **short), dense(model="velocity", symmetric=True, **short)):
        one, other = (register(bent_head, head, settings).transform.stages[0].vectors_ras_mm for _ in range(2))
        assert torch.equal(one, other)


def test_a_cancel_inside_a_level_ends_the_run(head, bent_head):
    levels: list[int] = []
    asked: list[int] = []

    def in_the_second_level() -> bool:
        asked.append(len(levels))
        return asked.count(1) > 5

    progress = Progress(lambda fraction, message: None, in_the_second_level)
    with pytest.raises(Cancelled):
        register(
            bent_head, head, dense(), progress=progress, on_level=lambda transform, level: levels.append(level.number)
        )
    assert levels == [0]
    assert asked.count(1) == 6


@pytest.mark.parametrize("similarity", ["lncc", "mind", "mi", "nmi", "lmi", "ssd"])
def test_a_level_never_makes_it_less_alike(head, bent_head, similarity):
    settings = DeformableSettings(similarity=similarity, field_sigma_voxels=0.7)
    pair = Pair(*(prepare_study(image, None, CPU).coarsen(3.0) for image in (bent_head, head)))
    grid = flow_grid(flow_domain(pair.fixed.geometry, 2.0), pair.fixed.geometry, 2.0)
    level = DeformableLevel([Part(pair.fixed, pair.moving, np.eye(4), similarity)], [pair], grid, settings)
    still = DisplacementField(torch.zeros(3, *grid.shape_kji), grid)
    before = level.value(still)
    flow, value, findings = level.optimise(still, 20, SILENT)
    assert value > before
    assert level.value(flow) > before
    assert not findings


def test_images_of_two_channels_are_registered_by_both(head, bent_head):
    """One half of the head shows in each channel only."""
    left = (torch.arange(head.tensor.shape[3]) < head.tensor.shape[3] // 2).float()
    fixed, moving = (
        image.with_tensor(torch.cat((image.tensor * left, image.tensor * (1 - left)))) for image in (bent_head, head)
    )
    one = register(fixed.with_tensor(fixed.tensor[:1]), moving.with_tensor(moving.tensor[:1]), dense())
    both = register(fixed, moving, dense())
    points, whole = tissue_points(head), register(bent_head, head, dense())
    away = [distance_mm(result.transform, whole.transform, points).mean() for result in (one, both)]
    assert away[1] < 0.5 * away[0]


def test_images_of_different_numbers_of_channels_are_refused(head):
    two = head.with_tensor(torch.cat((head.tensor, 10 - head.tensor)))
    with pytest.raises(InputError, match="has 2 channels, the moving image 1"):
        register(two, head, dense())


def optimise(fixed: Study, moving: Study, **settings) -> Solution:
    """The dense stage alone."""
    chosen = DeformableSettings(**settings)

    def still(grid: Geometry) -> Flow:
        return DisplacementField(torch.zeros(3, *grid.shape_kji), grid)

    flow, _ = optimise_deformable(
        [Part(fixed, moving, np.eye(4), chosen.similarity)],
        chosen,
        fixed.geometry.finest_spacing_mm,
        start=still,
        progress=SILENT,
        on_level=lambda flow, report: None,
    )
    return Solution(np.eye(4), flow)


def test_a_second_channel_adds_what_the_first_does_not_show(bend):
    halves = make_head().tensor, make_head(seed=20).tensor
    right = torch.arange(CUBE.shape_kji[2]) > 19
    both = Image(torch.cat((torch.where(right, halves[0], 0), torch.where(right, 0, halves[1]))), CUBE)
    fixed, moving = (prepare_study(image, None, CPU) for image in (bent(both, bend), both))
    points = tissue_points(Image(both.tensor.sum(dim=0)[None], CUBE))
    left = points[points[:, 0] < -5]
    truth, errors = Transform((bend,)), []
    for channels in (slice(1), slice(2)):
        sides = (Study(side.intensity[channels], side.weight, side.geometry) for side in (fixed, moving))
        errors.append(distance_mm(optimise(*sides, similarity="ssd").transform, truth, left).mean())
    assert errors[1] < errors[0] / 2


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("similarity", ["lncc", "ssd"])
def test_a_slice_moves_within_its_plane_whichever_axis_it_lacks(axis, similarity):
    size, spacing = [64, 64, 64], [1.0, 1.0, 1.0]
    size[axis], spacing[axis] = 1, 5.0
    plane = Geometry.from_spacing(tuple(size), tuple(spacing))
    head = make_head(plane)
    vectors = smooth_noise(plane, 7.0, 11, 3)
    vectors[axis] = 0
    vectors = vectors * border_taper(plane, vectors)
    bend = Displacement(4 * vectors / vectors.norm(dim=0).max(), plane)
    fixed, moving = (prepare_study(image, None, CPU) for image in (bent(head, bend, 0.05), head))
    result = optimise(fixed, moving, similarity=similarity).transform
    points, truth = tissue_points(head), Transform((bend,))
    before, after = (distance_mm(found, truth, points).mean() for found in (Transform(), result))
    assert before > 0.8
    assert after < before / 2
    assert float(result.stages[0].vectors_ras_mm[axis].abs().max()) < 1e-6


def test_the_flow_is_zero_on_the_border_of_a_grid_wider_than_the_image(head, bent_head):
    dense_part = register(bent_head, head, dense()).transform.stages[0]
    vectors, grid = dense_part.vectors_ras_mm, dense_part.geometry
    for axis in (1, 2, 3):
        assert float(vectors.select(axis, 0).abs().max()) == 0
        assert float(vectors.select(axis, vectors.shape[axis] - 1).abs().max()) == 0
    assert (np.abs(grid.corners_ras()) > np.abs(CUBE.corners_ras())).all()
