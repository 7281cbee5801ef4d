"""Rows 49-58 of the catalogue of faults: bad starts, bad inputs, bad runs of a registration."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from MedSegRegLib.errors import (
    Diverged,
    EmptyVolume,
    FoldingError,
    GeometryMismatch,
    InputError,
    InvalidGeometry,
    NoContrast,
    NoOverlap,
    TooFewVoxels,
)
from MedSegRegLib.geometry import Geometry, translation
from MedSegRegLib.image import Image, Labels
from MedSegRegLib.register import deformable, dense
from MedSegRegLib.register.filters import filter_axes, gaussian_axes
from MedSegRegLib.register.flow import DisplacementField
from MedSegRegLib.register.guidance import Guidance
from MedSegRegLib.register.presets import PRESETS
from MedSegRegLib.register.run import register
from MedSegRegLib.register.settings import DeformableSettings, RegistrationSettings
from MedSegRegLib.register.similarity import LocalCorrelation, Match, MutualInformation
from MedSegRegLib.transform import Affine, Displacement, Transform

GRID = Geometry.from_spacing((32, 30, 28), (1.2, 1.2, 1.5))
QUICK = RegistrationSettings(deformable=DeformableSettings(coarsening=(2.0, 1.0), iterations=(10, 5), stiffness=1.0))


@pytest.fixture
def blob() -> Image:
    """Random tissue inside an ellipsoid, [1, 28, 30, 32]."""
    noise = torch.randn(GRID.shape_kji, generator=torch.Generator().manual_seed(0))
    texture = filter_axes(noise, gaussian_axes(GRID, 2.5, noise))
    k, j, i = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in GRID.shape_kji), indexing="ij")
    inside = (i**2 + j**2 + k**2 < 0.7).float()
    return Image((inside * (5 + 2 * texture / texture.std()))[None], GRID, "blob")


def shifted(image: Image, offset_mm: tuple[float, float, float]) -> Image:
    matrix = translation(np.array(offset_mm)) @ image.geometry.ijk_to_ras
    return Image(image.tensor, Geometry(image.geometry.size_ijk, matrix), "far blob")


@pytest.mark.parametrize("bad", [np.zeros((4, 4)), np.full((4, 4), np.nan), np.diag([1.0, 1.0, 0.0, 1.0])])
def test_row_49_a_singular_or_nan_initial_transform_cannot_be_made(bad):
    with pytest.raises(InvalidGeometry, match="linear transform"):
        Affine(bad)


def test_row_50_images_that_are_apart_are_centred_with_a_warning(blob):
    result = register(blob, shifted(blob, (500.0, 0.0, -300.0)), PRESETS["rigid"])
    assert any("share 0.0 %" in finding.message for finding in result.findings)
    np.testing.assert_allclose(result.transform.map_points(np.zeros((1, 3))), [[500.0, 0.0, -300.0]], atol=0.1)


def test_row_50_an_initial_transform_without_overlap_is_refused(blob):
    far = Transform((Affine(translation(np.array([400.0, 0, 0]))),))
    with pytest.raises(NoOverlap, match=r"share 0\.0 %"):
        register(blob, blob, PRESETS["rigid"], initial=far)


@pytest.mark.parametrize("preset", PRESETS)
def test_row_51_an_image_onto_itself_is_the_identity(blob, preset):
    result = register(blob, blob, PRESETS[preset])
    points = GRID.map_voxels(np.random.default_rng(0).uniform(0, 27, (200, 3)))
    assert np.abs(result.transform.map_points(points) - points).max() < 1e-4


def test_row_52_squared_differences_between_modalities_are_warned_of(blob):
    inverted = blob.with_tensor(torch.where(blob.tensor > 0, 12 - blob.tensor, 12))
    dense = QUICK.deformable.model_copy(update={"similarity": "ssd"})
    settings = RegistrationSettings(linear="rigid", deformable=dense)
    result = register(blob, inverted, settings)
    assert any("do not look alike" in finding.message for finding in result.findings)
    assert not any("do not look alike" in finding.message for finding in register(blob, blob, settings).findings)


def test_row_53_a_folded_result_is_refused(blob, monkeypatch):
    def fold(parts, settings, spacing_mm, *, start, landmarks, rigid, progress, on_level):
        vectors = torch.zeros(3, *GRID.shape_kji)
        vectors[0, 10:20, 10:20, 10:20] = 6 * torch.rand((10, 10, 10), generator=torch.Generator().manual_seed(0))
        return DisplacementField(vectors, GRID), []

    monkeypatch.setattr(dense, "optimise_deformable", fold)  # the real one takes folds out
    with pytest.raises(FoldingError, match="% of the voxels fold"):
        register(blob, blob, QUICK)
    generous = QUICK.deformable.model_copy(update={"folding_limit_percent": 100.0})
    told = register(blob, blob, QUICK.model_copy(update={"deformable": generous})).quality.folding
    assert told.voxels_any_corner > told.voxels > 0


def test_row_54_a_nan_similarity_in_the_linear_stage_is_an_error(blob, monkeypatch):
    monkeypatch.setattr(MutualInformation, "match", nan_match)
    with pytest.raises(Diverged, match="NaN in the linear stage"):
        register(blob, blob, PRESETS["rigid"])


def test_row_54_a_nan_similarity_in_the_dense_stage_keeps_the_last_good_state_and_says_so(blob, monkeypatch):
    monkeypatch.setattr(LocalCorrelation, "match", nan_match)
    result = register(blob, blob.with_tensor(blob.tensor.flip(1)), QUICK)
    assert any("last good state" in finding.message for finding in result.findings)
    assert result.transform.stages[0].vectors_ras_mm.abs().max() == 0


def nan_match(measure, moved: torch.Tensor) -> Match:
    return Match(moved.new_tensor(torch.nan), torch.zeros_like(moved), torch.ones_like(moved))


def test_row_55_updates_that_make_it_worse_are_not_kept(blob, monkeypatch):
    right_step = deformable.DeformableLevel.step

    def wrong_step(level, flow, squarings):
        value, update = right_step(level, flow, squarings)
        return value, torch.full_like(update, 0.5)

    monkeypatch.setattr(deformable.DeformableLevel, "step", wrong_step)
    noise = torch.randn(blob.tensor.shape, generator=torch.Generator().manual_seed(1))
    result = register(blob, blob.with_tensor(blob.tensor + 0.2 * noise), QUICK.model_copy(update={"linear": "none"}))
    assert np.abs(result.transform.stages[0].vectors_ras_mm.numpy()).max() == 0


def test_row_56_a_displacement_with_nan_cannot_be_made():
    vectors = torch.zeros(3, *GRID.shape_kji)
    vectors[1, 2, 3, 4] = torch.nan
    with pytest.raises(InputError, match="not finite"):
        Displacement(vectors, GRID)


def test_row_57_the_linear_result_puts_landmarks_where_they_are_in_the_moving_image(blob):
    result = register(blob, shifted(blob, (3.0, -5.0, 2.0)), PRESETS["rigid"])
    landmarks = GRID.map_voxels(np.array([[8.0, 9.0, 10.0], [20.0, 15.0, 12.0]]))
    np.testing.assert_allclose(result.transform.map_points(landmarks), landmarks + np.array([3.0, -5.0, 2.0]), atol=0.1)


def test_row_58_an_empty_mask_is_refused(blob):
    with pytest.raises(EmptyVolume, match="mask"):
        register(blob, blob, PRESETS["rigid"], fixed_mask=Labels(torch.zeros(GRID.shape_kji, dtype=torch.uint8), GRID))


def test_row_58_a_mask_on_another_grid_is_refused(blob):
    other = Geometry.from_spacing((32, 30, 28), (1.2, 1.2, 1.6))
    mask = Labels(torch.ones(other.shape_kji, dtype=torch.uint8), other)
    with pytest.raises(GeometryMismatch, match="mask"):
        register(blob, blob, PRESETS["rigid"], moving_mask=mask)


def test_row_58_an_empty_initial_field_is_no_motion(blob):
    dot = Displacement(torch.zeros(3, 1, 1, 1), Geometry.from_spacing((1, 1, 1)))
    result = register(blob, blob, QUICK, initial=Transform((dot,)))
    assert float(result.transform.stages[0].vectors_ras_mm.abs().max()) < 1e-4


def test_row_58_a_region_on_another_grid_is_refused(blob):
    other = Geometry.from_spacing((32, 30, 28), (1.2, 1.2, 1.6))
    region = Labels(torch.ones(other.shape_kji, dtype=torch.uint8), other)
    for guidance in (Guidance(rigid=region), Guidance(ignore=region)):
        with pytest.raises(GeometryMismatch, match="differ"):
            register(blob, blob, QUICK, guidance=guidance)


def test_row_10_one_slice_is_refused_with_a_way_out(blob):
    slice_only = Image(blob.tensor[:, 14:15], Geometry.from_spacing((32, 30, 1), (1.2, 1.2, 1.5)))
    with pytest.raises(TooFewVoxels, match="one slice"):
        register(slice_only, blob)


def test_row_5_an_image_without_contrast_is_refused(blob):
    with pytest.raises(NoContrast):
        register(blob, blob.with_tensor(torch.ones_like(blob.tensor)))
