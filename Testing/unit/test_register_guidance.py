"""What a person adds to two images changes the result as it should, and is refused where it cannot."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from register_phantoms import CUBE, bent, distance_mm, make_bend, make_head, tissue_points

from MedSegRegLib.errors import EmptyVolume, GeometryMismatch, InputError
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Image, Labels
from MedSegRegLib.register.deformable import DeformableLevel
from MedSegRegLib.register.guidance import Guidance, label_study
from MedSegRegLib.register.run import Registration, register
from MedSegRegLib.register.settings import DeformableSettings, RegistrationSettings
from MedSegRegLib.resample import resample_labels
from MedSegRegLib.transform import Affine, Displacement, Transform

NOISE = 3.0  # as strong as the tissue


@pytest.fixture(scope="module")
def head() -> Image:
    """[1, 40, 40, 40], 1.5 mm."""
    return make_head()


@pytest.fixture(scope="module")
def bend() -> Displacement:
    """The truth, at most 4 mm."""
    return make_bend()


@pytest.fixture(scope="module")
def truth(bend) -> Transform:
    """Fixed to moving points."""
    return Transform((bend,))


@pytest.fixture(scope="module")
def bent_head(head, bend) -> Image:
    """The head under the truth."""
    return bent(head, bend)


@pytest.fixture(scope="module")
def noisy(head, bend) -> tuple[Image, Image]:
    """Fixed and moving, hardly to be seen."""
    own = NOISE * torch.randn(head.tensor.shape, generator=torch.Generator().manual_seed(8))
    return bent(head, bend, NOISE), head.with_tensor(head.tensor + own)


@pytest.fixture(scope="module")
def noisy_result(noisy) -> Registration:
    """By the images alone."""
    return register(*noisy, dense())


@pytest.fixture(scope="module")
def full_result(head, bent_head) -> Registration:
    """By the images alone."""
    return register(bent_head, head, dense())


def dense(**settings) -> RegistrationSettings:
    """Without a linear stage."""
    return RegistrationSettings(linear="none", deformable=DeformableSettings(**{"stiffness": 1.0, **settings}))


def ball(centre: tuple[float, float, float], radius: float) -> torch.Tensor:
    """[K, J, I] bool, in halves of the field of view."""
    k, j, i = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in CUBE.shape_kji), indexing="ij")
    return (i - centre[0]) ** 2 + (j - centre[1]) ** 2 + (k - centre[2]) ** 2 < radius**2


@pytest.fixture(scope="module")
def organs() -> Labels:
    """Of the moving image: two balls, values 1 and 2."""
    return Labels(ball((0.2, 0.0, 0.0), 0.25).to(torch.uint8) + 2 * ball((-0.35, 0.2, 0.0), 0.2).to(torch.uint8), CUBE)


@pytest.fixture(scope="module")
def bent_organs(organs, truth) -> Labels:
    """Of the fixed image."""
    return resample_labels(organs, CUBE, truth)


@pytest.fixture
def marks(head, truth) -> tuple[np.ndarray, np.ndarray]:
    """Eight pairs of points that belong together, [8, 3] RAS mm each."""
    points = tissue_points(head)
    chosen = points[np.random.default_rng(0).choice(len(points), 8, replace=False)]
    return chosen, truth.map_points(chosen)


@pytest.mark.parametrize("model", ["composition", "velocity"])
def test_landmarks_pull_the_flow_where_the_images_say_little(noisy, marks, model):
    result = register(*noisy, dense(model=model), guidance=Guidance(*marks))
    assert result.quality.landmarks_mm.before > 1
    assert result.quality.landmarks_mm.after < result.quality.landmarks_mm.before / 3
    assert result.quality.folding.voxels_any_corner == 0


def test_landmarks_win_over_images_that_contradict_them(head, marks):
    fixed = marks[0][:4]
    result = register(head, head, dense(), guidance=Guidance(fixed, fixed + np.array([2.5, 0.0, 0.0])))
    assert result.quality.landmarks_mm.before == pytest.approx(2.5)
    assert result.quality.landmarks_mm.after < 2.5 / 3


def test_landmarks_count_after_the_linear_part(head, bent_head, marks):
    shift = np.array([12.0, -7.0, 5.0])
    matrix = np.eye(4)
    matrix[:3, 3] = shift
    moving = Image(head.tensor, Geometry(CUBE.size_ijk, matrix @ CUBE.ijk_to_ras))
    guidance = Guidance(marks[0], marks[1] + shift)
    result = register(bent_head, moving, dense(), initial=Transform((Affine(matrix),)), guidance=guidance)
    assert result.quality.landmarks_mm.before == pytest.approx(np.linalg.norm(marks[0] - marks[1], axis=1).mean())
    assert result.quality.landmarks_mm.after < result.quality.landmarks_mm.before / 3


def test_labels_raise_the_overlap_above_what_the_images_give(noisy, noisy_result, organs, bent_organs):
    result = register(*noisy, dense(), guidance=Guidance(fixed_labels=bent_organs, moving_labels=organs))
    for value in (1, 2):
        carried = resample_labels(organs, CUBE, noisy_result.transform).tensor == value
        there = bent_organs.tensor == value
        alone = 2 * float((carried & there).sum()) / float(carried.sum() + there.sum())
        assert result.quality.dice[value].after > alone + 0.02
        assert result.quality.dice[value].after > result.quality.dice[value].before


def test_labels_on_grids_of_their_own_serve_as_well(noisy, organs, bent_organs):
    finer = CUBE.with_spacing((1.0, 1.2, 1.5))
    ours, theirs = (resample_labels(labels, finer) for labels in (bent_organs, organs))
    result = register(*noisy, dense(), guidance=Guidance(fixed_labels=ours, moving_labels=theirs))
    assert all(result.quality.dice[value].after > 0.9 for value in (1, 2))


def test_features_show_what_the_images_do_not(head, bent_head, noisy, noisy_result, truth):
    def channels(image: Image) -> Image:
        return image.with_tensor(torch.cat((image.tensor, (image.tensor - 6).abs())))

    guidance = Guidance(fixed_features=channels(bent_head), moving_features=channels(head))
    result = register(*noisy, dense(), guidance=guidance)
    points = tissue_points(head)
    alone, together = (distance_mm(r.transform, truth, points).mean() for r in (noisy_result, result))
    assert together < 0.7 * alone


@pytest.fixture(scope="module")
def bone() -> Labels:
    """A box of 15 mm in the middle of the fixed image."""
    box = torch.zeros(CUBE.shape_kji, dtype=torch.uint8)
    box[14:24, 14:24, 14:24] = 1
    return Labels(box, CUBE)


def stretched_mm(transform: Transform, bone: Labels) -> float:
    """By how much the distances between points of the box change at most."""
    points = CUBE.map_voxels(bone.tensor.nonzero().flip(1).numpy())[::23]
    gaps = [np.linalg.norm(p[:, None] - p, axis=-1) for p in (points, transform.map_points(points))]
    return float(np.abs(gaps[1] - gaps[0]).max())


@pytest.mark.parametrize("iterations", [(40, 30, 10), (40, 30, 0)], ids=["searched", "nothing-better-at-last"])
def test_a_rigid_region_keeps_its_distances_while_the_rest_deforms(head, bent_head, full_result, bone, iterations):
    result = register(bent_head, head, dense(iterations=iterations), guidance=Guidance(rigid=bone))
    assert stretched_mm(full_result.transform, bone) > 0.5
    assert stretched_mm(result.transform, bone) < 0.05
    assert result.quality.sdlogj > 0.01
    assert result.quality.largest_motion_mm > 2


def test_a_rigid_region_is_refused_where_it_cannot_be_kept(head, bone):
    for settings in (dense(model="velocity"), RegistrationSettings(deformable=None)):
        with pytest.raises(InputError, match="cannot keep them"):
            register(head, head, settings, guidance=Guidance(rigid=bone))


def test_an_artefact_in_an_ignored_region_changes_nothing(head, bent_head, full_result):
    spoilt = bent_head.tensor.clone()
    spoilt[0, 16:24, 16:24, 26:34] = 30.0
    ignored = torch.zeros(CUBE.shape_kji, dtype=torch.uint8)
    ignored[13:27, 13:27, 23:37] = 1
    points = CUBE.map_voxels(ignored.nonzero().flip(1).numpy())
    settings, guidance = dense(), Guidance(ignore=Labels(ignored, CUBE))
    clean, hidden = (
        register(bent_head.with_tensor(tensor), head, settings, guidance=guidance)
        for tensor in (bent_head.tensor, spoilt)
    )
    seen = register(bent_head.with_tensor(spoilt), head, settings)
    assert distance_mm(hidden.transform, clean.transform, points).max() < 1e-3
    assert distance_mm(seen.transform, full_result.transform, points).max() > 1


@pytest.mark.parametrize("model", ["composition", "velocity"])
def test_a_warm_start_stays_where_it_is_without_work(head, bent_head, model):
    first = register(bent_head, head, dense(model=model))
    still = dense(model=model, first_level=2, iterations=(0, 0, 1))
    again = register(bent_head, head, still, initial=first.transform)
    points = tissue_points(head)
    assert distance_mm(first.transform, Transform(), points).mean() > 1
    assert distance_mm(again.transform, first.transform, points).mean() < 0.1


def test_a_warm_start_keeps_its_linear_part(head, bent_head, full_result):
    matrix = np.eye(4)
    matrix[:3, 3] = (6.0, -4.0, 3.0)
    moving = Image(head.tensor, Geometry(CUBE.size_ijk, matrix @ CUBE.ijk_to_ras))
    initial = full_result.transform.then(Transform((Affine(matrix),)))
    again = register(bent_head, moving, dense(first_level=2), initial=initial)
    np.testing.assert_allclose(again.transform.stages[1].matrix, matrix, atol=1e-9)
    assert distance_mm(again.transform, initial, tissue_points(head)).mean() < 0.1


@pytest.mark.parametrize("stiffness", [1.0, "auto"])
def test_a_second_search_from_a_warm_start_takes_few_steps(head, bent_head, full_result, monkeypatch, stiffness):
    steps: list[int] = []
    step = DeformableLevel.step

    def counted(level, flow, squarings):
        steps[-1] += 1
        return step(level, flow, squarings)

    monkeypatch.setattr(DeformableLevel, "step", counted)
    for settings, initial in ((dense(stiffness=stiffness), None), (dense(first_level=2), full_result.transform)):
        chosen = settings.deformable.model_copy(update={"stiffness": stiffness})
        steps.append(0)
        register(bent_head, head, settings.model_copy(update={"deformable": chosen}), initial=initial)
    assert steps[1] < steps[0] / 3


POINTS = np.array([[0.0, 0.0, 0.0], [10.0, 5.0, -3.0]])
OTHER_GRID = Geometry.from_spacing((40, 40, 40), (1.5, 1.5, 1.6))


def labels(value: int, geometry: Geometry = CUBE) -> Labels:
    """The same value everywhere."""
    return Labels(torch.full(geometry.shape_kji, value, dtype=torch.uint8), geometry)


def features(channels: int) -> Image:
    """Nothing to see."""
    return Image(torch.zeros(channels, *CUBE.shape_kji), CUBE)


@pytest.mark.parametrize(
    ("guidance", "error", "message"),
    [
        (Guidance(fixed_points=POINTS), InputError, "Only the fixed points were given"),
        (Guidance(moving_points=POINTS), InputError, "Only the moving points were given"),
        (Guidance(moving_labels=labels(1)), InputError, "Only the moving labels were given"),
        (Guidance(fixed_features=features(1)), InputError, "Only the fixed features were given"),
        (Guidance(POINTS, POINTS[:1]), InputError, "2 fixed and 1 moving landmarks"),
        (Guidance(POINTS, POINTS * np.nan), InputError, "Moving landmark 1 is not finite"),
        (Guidance(POINTS[:, :2], POINTS), InputError, "fixed landmarks have shape (2, 2)"),
        (Guidance(POINTS[[0, 0]], POINTS), InputError, "same"),
        (Guidance(fixed_labels=labels(1), moving_labels=labels(2)), InputError, "no value in common"),
        (Guidance(fixed_labels=labels(0), moving_labels=labels(0)), InputError, "no value in common"),
        (Guidance(fixed_features=features(2), moving_features=features(3)), InputError, "2 and 3 channels"),
        (Guidance(rigid=labels(0)), EmptyVolume, "mask"),
        (Guidance(rigid=labels(1, OTHER_GRID)), GeometryMismatch, "differ"),
        (Guidance(ignore=labels(1, OTHER_GRID)), GeometryMismatch, "ignored region and fixed image"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_guidance_that_cannot_guide_is_refused(head, guidance, error, message):
    with pytest.raises(error, match=re.escape(message)):
        register(head, head, dense(), guidance=guidance)


def test_all_of_the_image_cannot_be_ignored(head):
    with pytest.raises(InputError):
        register(head, head, dense(), guidance=Guidance(ignore=labels(1)))


def test_label_channels_are_soft_and_keep_their_volume(organs):
    study = label_study(organs, [1, 2], 3.0, torch.device("cpu"))
    assert study.intensity.shape[0] == 2
    assert float(study.intensity.min()) >= 0
    assert float(study.intensity.max()) <= 1
    for channel, value in zip(study.intensity, (1, 2), strict=True):
        volume = float((organs.tensor == value).sum()) * CUBE.voxel_volume_mm3
        assert float(channel.sum()) * study.geometry.voxel_volume_mm3 == pytest.approx(volume, rel=0.05)
