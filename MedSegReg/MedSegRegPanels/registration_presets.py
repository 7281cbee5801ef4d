"""Settings of a registration as the window names them; the same as ``register.presets``, whose reading needs more."""

from __future__ import annotations

from enum import Enum

from slicer.i18n import tr as _


class Preset(Enum):
    """What a person has in hand, in words."""

    def label(self) -> str:
        """As shown in the window."""
        return {
            "auto": _("Automatic"),
            "rigid": _("Rigid"),
            "affine": _("Affine"),
            "deformable": _("Deformable, same modality"),
            "deformable-different-modality": _("Deformable, different modality"),
            "brain-same-contrast": _("Brain, same contrast"),
            "brain-any-contrast": _("Brain, any contrast"),
            "ct-lung": _("CT lung"),
            "ct-abdomen": _("CT abdomen"),
            "followup": _("Follow-up of one patient"),
            "mr-ultrasound": _("MR and ultrasound"),
            "quick": _("Quick"),
            "best": _("Best"),
        }[self.value]

    def purpose(self) -> str:
        """When to take it."""
        return {
            "auto": _("Aligns the studies roughly, then chooses by what both show."),
            "rigid": _("One patient, any modalities: shift and turn only."),
            "affine": _("A first look at any two images: shift, turn, stretch and shear."),
            "deformable": _("Anything of one modality."),
            "deformable-different-modality": _("Anything of two modalities."),
            "brain-same-contrast": _("Brains of two people, or a brain and a template, of one contrast."),
            "brain-any-contrast": _("Brains of two people, or a brain and a template, such as T1 and T2."),
            "ct-lung": _("Lungs at two breathing states: large motion first, small vessels last."),
            "ct-abdomen": _("Two people or two days: organs far apart and sliding, contrast agent in one of them."),
            "followup": _("One patient at two times: stiff, the same both ways round, with an exact inverse."),
            "mr-ultrasound": _("An organ before and during an intervention, tracked: nearly rigid."),
            "quick": _("A first result of one modality, in a fraction of the time."),
            "best": _("One modality, when time does not matter."),
        }[self.value]


class RegistrationPreset(Preset):
    """The presets of a registration."""

    RIGID = "rigid"
    AFFINE = "affine"
    DEFORMABLE = "deformable"
    DIFFERENT_MODALITY = "deformable-different-modality"
    BRAIN_SAME_CONTRAST = "brain-same-contrast"
    BRAIN_ANY_CONTRAST = "brain-any-contrast"
    CT_LUNG = "ct-lung"
    CT_ABDOMEN = "ct-abdomen"
    FOLLOWUP = "followup"
    MR_ULTRASOUND = "mr-ultrasound"
    QUICK = "quick"
    BEST = "best"


PresetOrAutomatic = Preset("PresetOrAutomatic", {"AUTO": "auto", **{one.name: one.value for one in RegistrationPreset}})
"""The same, or let the images choose."""
