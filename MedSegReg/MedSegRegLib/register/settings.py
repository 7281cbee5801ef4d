"""What a registration may be told, with the presets people choose from."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

LinearModel = Literal["none", "rigid", "similarity", "affine"]
SimilarityName = Literal["lncc", "mi", "ssd"]
DenseSimilarityName = Literal["lncc", "mind", "mi", "ssd"]


class DeformableSettings(BaseModel):
    """The dense stage.

    Attributes:
        similarity: ``lncc`` (local normalised cross-correlation) for the same modality, ``mind`` (squared differences
            of self-similarity descriptors) for different ones, ``mi`` (mutual information, global, which drifts when
            soft) where textures differ too, ``ssd`` only when equal tissue has equal intensity.
        window_radius: of the LNCC, in voxels of the level.
        coarsening: of the levels, coarsest first, in multiples of the working spacing.
        iterations: at most so many, one number a level.
        working_spacing_mm: voxel size of the finest level; None takes the fixed image's own, made coarser as a whole
            until at most ``working_voxels`` remain. The displacement lives on that grid, over the same field of view.
        working_voxels: see above.
        update_sigma_voxels: Gaussian that makes each update smooth (fluid regularisation).
        field_sigma_voxels: Gaussian on the velocity after each update (elastic regularisation).
        folding_limit_percent: more folded voxels than this refuse the result.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    similarity: DenseSimilarityName = "lncc"
    window_radius: int = Field(default=3, ge=1, le=10)
    coarsening: tuple[float, ...] = (4.0, 2.0, 1.0)
    iterations: tuple[int, ...] = (60, 40, 20)
    working_spacing_mm: float | None = Field(default=None, gt=0)
    working_voxels: int = Field(default=1_200_000, ge=1000)
    update_sigma_voxels: float = Field(default=2.0, ge=0, le=20)
    field_sigma_voxels: float = Field(default=0.7, ge=0, le=20)
    folding_limit_percent: float = Field(default=0.1, ge=0, le=100)

    @model_validator(mode="after")
    def _levels_fit(self) -> DeformableSettings:
        if len(self.coarsening) != len(self.iterations) or not self.coarsening:
            raise ValueError(f"{len(self.coarsening)} levels but {len(self.iterations)} iteration counts")
        if min(self.coarsening) < 1 or list(self.coarsening) != sorted(self.coarsening, reverse=True):
            raise ValueError(f"coarsening {self.coarsening} must go down to 1 or more")
        return self


class RegistrationSettings(BaseModel):
    """All settings of one registration.

    Attributes:
        linear: the largest linear model; smaller ones run before it. ``none`` keeps the initial transform.
        linear_similarity: measure of the linear stages; mutual information serves any pair of modalities.
        linear_voxels: the linear stages look at about so many regular samples of the fixed image.
        deformable: the dense stage, or None for a linear registration.

    >>> PRESETS["rigid"].deformable is None
    True
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    linear: LinearModel = "affine"
    linear_similarity: SimilarityName = "mi"
    linear_voxels: int = Field(default=200_000, ge=1000)
    deformable: DeformableSettings | None = DeformableSettings()


PRESETS: dict[str, RegistrationSettings] = {
    "rigid": RegistrationSettings(linear="rigid", deformable=None),
    "affine": RegistrationSettings(deformable=None),
    "deformable": RegistrationSettings(),
    "deformable-different-modality": RegistrationSettings(
        deformable=DeformableSettings(similarity="mind", update_sigma_voxels=4.0, field_sigma_voxels=1.0),
    ),
}
