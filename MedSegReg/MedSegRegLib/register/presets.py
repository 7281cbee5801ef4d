"""Settings named for what a person has in hand."""

from __future__ import annotations

from .settings import DeformableSettings, RegistrationSettings

DIFFERENT_MODALITY = DeformableSettings(similarity="mind", working_voxels=1_200_000)

PRESETS: dict[str, RegistrationSettings] = {
    "rigid": RegistrationSettings(linear="rigid", linear_voxels=1_000_000, deformable=None),
    "affine": RegistrationSettings(linear_voxels=1_000_000, deformable=None),
    "deformable": RegistrationSettings(
        deformable=DeformableSettings(window_radius=2, iterations=(60, 50, 25), stiffness=1.4)
    ),
    "deformable-different-modality": RegistrationSettings(deformable=DIFFERENT_MODALITY),
    "brain-same-contrast": RegistrationSettings(deformable=DeformableSettings()),
    "brain-any-contrast": RegistrationSettings(
        deformable=DeformableSettings(similarity="lmi", mixed_with={"mind": 4.0})
    ),
    "ct-lung": RegistrationSettings(deformable=DeformableSettings(search_reach_mm=30.0)),
    "ct-abdomen": RegistrationSettings(deformable=DIFFERENT_MODALITY.model_copy(update={"search_reach_mm": 40.0})),
    "followup": RegistrationSettings(
        linear="rigid", deformable=DeformableSettings(model="velocity", symmetric=True, stiffness=2.0)
    ),
    "mr-ultrasound": RegistrationSettings(
        linear="rigid",
        linear_search=False,
        deformable=DIFFERENT_MODALITY.model_copy(update={"stiffness": 2.5}),
    ),
    "quick": RegistrationSettings(
        linear_voxels=100_000,
        deformable=DeformableSettings(coarsening=(4.0, 2.0), iterations=(30, 15), stiffness=1.0),
    ),
    "best": RegistrationSettings(
        deformable=DeformableSettings(
            coarsening=(8.0, 4.0, 2.0, 1.0), iterations=(60, 60, 50, 25), search_reach_mm=20.0
        )
    ),
}

PURPOSES: dict[str, str] = {
    "rigid": "one patient, any modalities: shift and turn only",
    "affine": "a first look at any two images: shift, turn, stretch and shear",
    "deformable": "anything of one modality",
    "deformable-different-modality": "anything of two modalities",
    "brain-same-contrast": "brains of two people, or a brain and a template, of one contrast",
    "brain-any-contrast": "the same of two contrasts, such as T1 and T2",
    "ct-lung": "lungs at two breathing states: large motion first, small vessels last",
    "ct-abdomen": "two people or two days: organs far apart and sliding, contrast agent in one of them",
    "followup": "one patient at two times: stiff, the same both ways round, with an exact inverse",
    "mr-ultrasound": "an organ before and during an intervention, tracked: nearly rigid, nothing looks alike",
    "quick": "a first result of one modality, in a fraction of the time",
    "best": "one modality, when time does not matter",
}

STIFFNESSES: dict[str, float] = {"soft": 0.7, "medium": 1.0, "stiff": 2.0}
