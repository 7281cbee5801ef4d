"""Every preset runs, and settings that contradict each other are refused."""

from __future__ import annotations

import pytest
from pydantic import ValidationError
from register_phantoms import bent, distance_mm, make_bend, make_head, tissue_points

from MedSegRegLib.register.presets import PRESETS
from MedSegRegLib.register.run import register
from MedSegRegLib.register.settings import DeformableSettings, RegistrationSettings
from MedSegRegLib.transform import Transform

DENSE = [name for name, settings in PRESETS.items() if settings.deformable]


def test_presets_are_named_for_what_a_person_has_in_hand():
    asked = {"brain-same-contrast", "brain-any-contrast", "ct-lung", "ct-abdomen", "followup", "mr-ultrasound"}
    assert asked | {"quick", "best", "rigid", "affine", "deformable"} <= set(PRESETS)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_survives_being_written_and_read(name):
    assert RegistrationSettings.model_validate_json(PRESETS[name].model_dump_json()) == PRESETS[name]


@pytest.mark.parametrize("name", DENSE)
def test_the_dense_stage_of_a_preset_finds_a_known_deformation(name):
    head, bend = make_head(), make_bend()
    settings = PRESETS[name].model_copy(update={"linear": "none"})
    result = register(bent(head, bend), head, settings)
    points, truth = tissue_points(head), Transform((bend,))
    before, after = (distance_mm(found, truth, points).mean() for found in (Transform(), result.transform))
    assert after < 0.6 * before
    assert result.quality.folding.voxels_any_corner == 0
    assert result.quality.inverse_consistency.mean_mm < 0.05 * 1.5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"coarsening": (2.0, 1.0)}, "2 levels but 3 iteration counts"),
        ({"coarsening": (), "iterations": ()}, "0 levels"),
        ({"coarsening": (1.0, 2.0, 4.0)}, "must go down to 1 or more"),
        ({"coarsening": (2.0, 1.0, 0.5)}, "must go down to 1 or more"),
        ({"first_level": 3}, "first_level 3 but 3 levels"),
        ({"first_level": -1}, "greater than or equal to 0"),
        ({"iterations": (10, -1, 5)}, "iterations"),
        ({"iterations": (0, 0, 0)}, "iterations"),
        ({"symmetric": True}, "symmetric needs the model 'velocity'"),
        ({"mixed_with": {"ssd": 0.0}}, "weights above 0"),
        ({"mixed_with": {"lncc": 0.5}}, "takes other similarities"),
        ({"mixed_with": {"sad": 0.5}}, "mixed_with"),
        ({"similarity": "sad"}, "similarity"),
        ({"stiffness": 0.05}, "must lie between 0.1 and 10"),
        ({"stiffness": 11}, "must lie between 0.1 and 10"),
        ({"stiffness": float("nan")}, "must lie between 0.1 and 10"),
        ({"stiffness": "hard"}, "stiffness"),
        ({"window_radius": 0}, "window_radius"),
        ({"field_coarsening": 0.5}, "field_coarsening"),
        ({"update_sigma_voxels": 0}, "update_sigma_voxels"),
        ({"search_reach_mm": 0}, "search_reach_mm"),
        ({"working_spacing_mm": 0}, "working_spacing_mm"),
        ({"label_weight": 0}, "label_weight"),
        ({"model": "spline"}, "model"),
        ({"unknown": 1}, "Extra inputs are not permitted"),
    ],
    ids=str,
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        DeformableSettings(**settings)


def test_settings_cannot_be_changed_once_made():
    with pytest.raises(ValidationError, match="frozen"):
        PRESETS["rigid"].linear = "affine"


def test_a_scaled_stiffness_widens_both_sigmas_and_leaves_nothing_to_choose():
    settings = DeformableSettings(update_sigma_voxels=2.0, field_sigma_voxels=0.5).scaled(1.5)
    assert (settings.update_sigma_voxels, settings.field_sigma_voxels, settings.stiffness) == (3.0, 0.75, 1.0)
