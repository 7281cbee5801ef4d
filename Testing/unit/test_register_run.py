"""Whole registrations of phantoms with a known answer, and of real patients."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from random_geometries import centred, itk_image, itk_transform
from register_phantoms import CUBE, bent, distance_mm, make_bend, make_head, tissue_points
from scipy.spatial.transform import Rotation

from MedSegRegLib.errors import Cancelled
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Image, Labels
from MedSegRegLib.progress import Progress
from MedSegRegLib.register.deformable import LevelReport
from MedSegRegLib.register.presets import PRESETS
from MedSegRegLib.register.run import register
from MedSegRegLib.register.settings import DeformableSettings, RegistrationSettings
from MedSegRegLib.resample import resample_image, resample_labels
from MedSegRegLib.transform import Affine, Displacement, Transform

HIPPOCAMPUS = Path(__file__).parents[2].parent / "shared" / "data" / "hippocampus"
TILT = Rotation.from_euler("xyz", [20, -15, 30], degrees=True).as_matrix()
QUICK = RegistrationSettings(deformable=DeformableSettings(stiffness=1.0))


@pytest.fixture(scope="module")
def head() -> Image:
    """[1, 40, 40, 40], 1.5 mm, an ellipsoid of random tissue of about 42 x 48 x 45 mm."""
    return make_head()


@pytest.fixture(scope="module")
def bend() -> Displacement:
    """A smooth known deformation of at most 4 mm, zero at the border."""
    return make_bend()


@pytest.fixture(scope="module")
def bent_head(head, bend) -> Image:
    """What the head looks like from a fixed space where x_moving = x + bend(x)."""
    return bent(head, bend)


@pytest.fixture(scope="module")
def bent_result(bent_head, head):
    return register(bent_head, head, QUICK)


def linear_truth(scale: float) -> Transform:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", [7, -5, 9], degrees=True).as_matrix() * scale
    matrix[:3, 3] = (6.0, -4.0, 5.0)
    return Transform((Affine(matrix),))


@pytest.mark.parametrize(
    ("preset", "scale", "invert"), [("rigid", 1.0, False), ("affine", 1.06, False), ("affine", 0.95, True)]
)
def test_a_known_linear_motion_is_found_on_an_oblique_and_an_anisotropic_grid(head, preset, scale, invert):
    truth = linear_truth(scale)
    oblique = centred(Geometry.from_spacing((38, 40, 40), (1.6, 1.6, 1.6), directions=TILT), np.zeros(3))
    fixed = resample_image(head, oblique, truth)
    if invert:
        fixed = fixed.with_tensor(torch.where(fixed.tensor > 1, 14 - fixed.tensor, fixed.tensor))
    moving = resample_image(head, CUBE.with_spacing((1.5, 1.5, 2.5)))
    result = register(fixed, moving, PRESETS[preset])
    corners = np.array([[x, y, z] for x in (-22, 22) for y in (-27, 27) for z in (-25, 25)])
    error = distance_mm(result.transform, truth, corners)
    assert error.max() < 0.4 * 1.6  # voxels
    assert result.quality.inverse_consistency.max_mm < 1e-3


def test_a_known_deformation_is_found_without_folding(bent_head, head, bend, bent_result):
    points, truth = tissue_points(bent_head), Transform((bend,))
    before, after = (distance_mm(found, truth, points).mean() for found in (Transform(), bent_result.transform))
    assert before > 1
    assert after < before / 3
    assert bent_result.quality.folding.voxels_any_corner == 0
    assert bent_result.quality.after > bent_result.quality.before


ANY_MODALITY = PRESETS["deformable-different-modality"]


def other_modality(image: Image) -> Image:
    """Neither rising nor falling with the intensity: empty space is grey, tissue goes from bright to dark to bright."""
    return image.with_tensor(8 * torch.cos(image.tensor * (2 * torch.pi / 9)).add(0.4).abs())


def test_a_known_deformation_is_found_in_an_image_of_another_modality(bent_head, head, bend):
    result = register(bent_head, other_modality(head), ANY_MODALITY)
    points, truth = tissue_points(bent_head), Transform((bend,))
    before, after = distance_mm(Transform(), truth, points).mean(), distance_mm(result.transform, truth, points).mean()
    assert after < before / 2
    assert result.quality.folding.voxels_any_corner == 0
    assert result.quality.similarity == "mi"
    assert result.quality.after > result.quality.before


def test_aligned_images_of_two_modalities_stay_where_they_are(head):
    result = register(head, other_modality(head), ANY_MODALITY)
    assert distance_mm(result.transform, Transform(), tissue_points(head)).mean() < 0.4 * 1.5  # voxels


def test_the_inverse_leads_back(bent_head, bent_result):
    points = tissue_points(bent_head)
    assert distance_mm(bent_result.transform.then(bent_result.inverse), Transform(), points).mean() < 0.05
    assert bent_result.quality.inverse_consistency.mean_mm < 0.05


def test_a_landmark_of_the_fixed_image_goes_to_its_place_in_the_moving_image(head):
    shift = np.array([9.0, 0.0, -4.0])
    moved = Image(head.tensor, centred(CUBE, CUBE.centre_ras + shift), "moved head")
    result = register(head, moved, PRESETS["rigid"])
    landmark = np.array([[10.0, 5.0, -3.0]])
    np.testing.assert_allclose(result.transform.map_points(landmark), landmark + shift, atol=0.1)
    np.testing.assert_allclose(result.inverse.map_points(landmark + shift), landmark, atol=0.1)
    assert result.sentence.startswith("Moves moved head onto head: a shift of 9.8 mm at the centre, a rotation of 0.0")


def test_the_moved_image_is_the_one_that_simpleitk_makes(bent_head, head, bent_result):
    ours = resample_image(head, CUBE, bent_result.transform).numpy()[0]
    image = sitk.Resample(itk_image(head.numpy()[0], CUBE), itk_transform(bent_result.transform), sitk.sitkLinear, 0.0)
    theirs = sitk.GetArrayFromImage(image)
    assert np.abs(ours - theirs).max() < 1e-3 * np.ptp(theirs)


def test_the_same_input_gives_the_same_bits(bent_head, head, bent_result):
    again = register(bent_head, head, QUICK)
    assert torch.equal(again.transform.stages[0].vectors_ras_mm, bent_result.transform.stages[0].vectors_ras_mm)
    assert np.array_equal(again.transform.stages[1].matrix, bent_result.transform.stages[1].matrix)


def test_what_the_mask_leaves_out_does_not_steer_the_result(head):
    with_tumour = head.tensor.clone()
    with_tumour[0, 16:25, 16:25, 26:33] = 25.0
    mask = torch.ones(CUBE.shape_kji, dtype=torch.uint8)
    mask[13:28, 13:28, 23:36] = 0
    moving, dense_only = head.with_tensor(with_tumour), QUICK.model_copy(update={"linear": "none"})
    assert register(head, moving, dense_only).quality.largest_motion_mm > 3
    masked = register(head, moving, dense_only, moving_mask=Labels(mask, CUBE))
    assert masked.quality.largest_motion_mm < 2
    assert masked.quality.mean_motion_mm < 0.1


def test_levels_are_told_as_they_are_done_and_the_last_is_the_result(bent_head, head, bent_result):
    seen: list[tuple[Transform, LevelReport]] = []
    register(bent_head, head, QUICK, on_level=lambda transform, level: seen.append((transform, level)))
    assert [level.number for _, level in seen] == [0, 1, 2]
    assert distance_mm(seen[-1][0], bent_result.transform, tissue_points(bent_head)).max() == 0


def test_a_cancel_inside_a_level_ends_the_run(bent_head, head):
    levels, fractions = [], []

    def second_level_has_begun() -> bool:
        return len(levels) == 1 and len(fractions) > at_level[0] + 3

    at_level = [0]

    def on_level(transform: Transform, level: LevelReport) -> None:
        levels.append(level.number)
        at_level[0] = len(fractions)

    progress = Progress(lambda fraction, message: fractions.append(fraction), second_level_has_begun)
    with pytest.raises(Cancelled):
        register(bent_head, head, QUICK, progress=progress, on_level=on_level)
    assert levels == [0]
    assert fractions == sorted(fractions)


def test_an_initial_transform_is_where_the_search_begins(head):
    upside_down = np.diag([-1.0, 1.0, -1.0, 1.0])
    moving = Image(head.tensor, Geometry(CUBE.size_ijk, upside_down @ CUBE.ijk_to_ras), "turned")
    result = register(head, moving, PRESETS["rigid"], initial=Transform((Affine(upside_down),)))
    assert distance_mm(result.transform, Transform((Affine(upside_down),)), CUBE.corners_ras()).max() < 1e-3


def test_real_hippocampi_overlap_after_registration():
    images = sorted((HIPPOCAMPUS / "images").glob("*.nii.gz"))[:3]
    if not images:
        pytest.skip("the hippocampus images are not beside the repository")
    dices = []
    for fixed_path, moving_path in itertools.pairwise(images):
        (fixed, fixed_labels), (moving, moving_labels) = (read_case(path) for path in (fixed_path, moving_path))
        result = register(fixed, moving)
        carried = resample_labels(moving_labels, fixed.geometry, result.transform).tensor
        for value in (1, 2):
            a, b = fixed_labels.tensor == value, carried == value
            dices.append(2 * float((a & b).sum()) / float(a.sum() + b.sum()))
        assert result.quality.folding.voxels_any_corner == 0
    assert np.mean(dices) > 0.7


def read_case(path: Path) -> tuple[Image, Labels]:
    volume, labels = (sitk.ReadImage(str(p)) for p in (path, path.parents[1] / "labels" / path.name))
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(volume.GetDirection()).reshape(3, 3) * np.array(volume.GetSpacing())
    matrix[:3, 3] = volume.GetOrigin()
    geometry = Geometry(volume.GetSize(), np.diag([-1.0, -1.0, 1.0, 1.0]) @ matrix)
    return (
        Image.from_array(sitk.GetArrayFromImage(volume), geometry, path.name),
        Labels.from_array(sitk.GetArrayFromImage(labels), geometry),
    )
