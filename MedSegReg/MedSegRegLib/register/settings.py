"""What a registration may be told, with the presets people choose from."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

LinearModel = Literal["none", "rigid", "similarity", "affine"]
SimilarityName = Literal["lncc", "mi", "nmi", "ssd"]
DenseSimilarityName = Literal["lncc", "mind", "mi", "nmi", "lmi", "ssd"]


class DeformableSettings(BaseModel):
    """The dense stage.

    Attributes:
        similarity: ``lncc`` (local normalised cross-correlation) for the same modality, ``mind`` (squared differences
            of self-similarity descriptors) for different ones, ``lmi`` / ``mi`` / ``nmi`` (local, global, normalised
            mutual information; the global ones drift when soft), ``ssd`` only when equal tissue has equal intensity.
        mixed_with: further similarities and what they count beside the first, which counts 1.
        window_radius: of the LNCC, in voxels of the level.
        coarsening: of the levels, coarsest first, in multiples of the working spacing.
        iterations: at most so many, one number a level.
        first_level: levels before it are left out: for a start that is already near.
        working_spacing_mm: voxel size of the finest level; None takes the fixed image's own, made coarser as a whole
            until at most ``working_voxels`` remain.
        working_voxels: see above.
        field_coarsening: voxel size of the motion, in voxels of the level's images.
        update_sigma_voxels: Gaussian neighbourhood whose voxels move together in a step (fluid regularisation).
        field_sigma_voxels: Gaussian on the motion after each step (elastic regularisation).
        stiffness: multiplies both sigmas: 0.7 is soft, 2 is stiff. ``auto`` chooses between 0.85 and 1.5 by voxels
            that are held out (see ``stiffness``), and takes 1 where a dense initial transform is given.
        model: ``composition`` of small displacements, the most accurate; or a stationary ``velocity``, whose inverse
            is exact.
        symmetric: moves both images towards each other, so that swapping them gives the inverse; needs ``velocity``.
        search_reach_mm: first try all displacements up to this length along each axis, for large motions.
        label_weight: what labels and features given as guidance count beside the images, which count 1.
        folding_limit_percent: more folded voxels than this refuse the result.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    similarity: DenseSimilarityName = "lncc"
    mixed_with: dict[DenseSimilarityName, float] = Field(default_factory=dict)
    window_radius: int = Field(default=3, ge=1, le=10)
    coarsening: tuple[float, ...] = (4.0, 2.0, 1.0)
    iterations: tuple[int, ...] = (40, 30, 10)
    first_level: int = Field(default=0, ge=0)
    working_spacing_mm: float | None = Field(default=None, gt=0)
    working_voxels: int = Field(default=8_000_000, ge=1000)
    field_coarsening: float = Field(default=2.0, ge=1, le=8)
    update_sigma_voxels: float = Field(default=1.75, gt=0, le=20)
    field_sigma_voxels: float = Field(default=0.75, ge=0, le=20)
    stiffness: Literal["auto"] | float = "auto"
    model: Literal["composition", "velocity"] = "composition"
    symmetric: bool = False
    search_reach_mm: float | None = Field(default=None, gt=0, le=100)
    label_weight: float = Field(default=1.0, gt=0)
    folding_limit_percent: float = Field(default=0.1, ge=0, le=100)

    @property
    def similarities(self) -> dict[DenseSimilarityName, float]:
        """All of them, and what each counts."""
        return {self.similarity: 1.0, **self.mixed_with}

    def scaled(self, stiffness: float) -> DeformableSettings:
        """With both sigmas so many times as wide, and nothing left to choose."""
        sigmas = {"update_sigma_voxels": self.update_sigma_voxels, "field_sigma_voxels": self.field_sigma_voxels}
        wider = {name: sigma * stiffness for name, sigma in sigmas.items()}
        return self.model_copy(update={**wider, "stiffness": 1.0})

    @model_validator(mode="after")
    def _levels_fit(self) -> DeformableSettings:
        if len(self.coarsening) != len(self.iterations) or not self.coarsening:
            raise ValueError(f"{len(self.coarsening)} levels but {len(self.iterations)} iteration counts")
        if min(self.coarsening) < 1 or list(self.coarsening) != sorted(self.coarsening, reverse=True):
            raise ValueError(f"coarsening {self.coarsening} must go down to 1 or more")
        if min(self.iterations) < 0 or max(self.iterations) == 0:
            raise ValueError(f"iterations {self.iterations} must be 0 or more, and not all 0")
        if self.first_level >= len(self.coarsening):
            raise ValueError(f"first_level {self.first_level} but {len(self.coarsening)} levels, counted from 0")
        if self.symmetric and self.model != "velocity":
            raise ValueError("symmetric needs the model 'velocity'")
        if any(weight <= 0 for weight in self.mixed_with.values()) or self.similarity in self.mixed_with:
            raise ValueError("mixed_with takes other similarities, with weights above 0")
        if self.stiffness != "auto" and not 0.1 <= self.stiffness <= 10:
            raise ValueError(f"stiffness {self.stiffness} must lie between 0.1 and 10")
        return self


class RegistrationSettings(BaseModel):
    """All settings of one registration.

    Attributes:
        linear: the largest linear model; smaller ones run before it. ``none`` keeps the initial transform.
        linear_search: False begins where the headers place the images, and nowhere else.
        linear_similarity: measure of the linear stages; mutual information serves any pair of modalities.
        linear_voxels: the linear stages look at about so many regular samples of the fixed image.
        deformable: the dense stage, or None for a linear registration.

    >>> RegistrationSettings().deformable.similarities
    {'lncc': 1.0}
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    linear: LinearModel = "affine"
    linear_search: bool = True
    linear_similarity: SimilarityName = "mi"
    linear_voxels: int = Field(default=200_000, ge=1000)
    deformable: DeformableSettings | None = DeformableSettings()
