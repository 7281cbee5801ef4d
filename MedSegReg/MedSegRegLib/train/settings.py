"""How a training runs: one readable, checked description."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from ..files.model_package import ModelSpec
from .augment import Augmentation


class TrainingSettings(BaseModel):
    """Everything that decides the result of a training, with the model that it makes.

    Attributes:
        model: description of the model; scores and sha256 are filled in at the end.
        epochs: passes over the training cases.
        batch_size: patches a step.
        learning_rate: peak of Adam's rate; it warms up over the first epoch and follows a half cosine to zero.
        validation, test: shares of the patients.
        seed: decides the split, the initial weights and all randomness.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    model: ModelSpec
    epochs: int = Field(60, ge=1)
    batch_size: int = Field(2, ge=1)
    learning_rate: float = Field(2e-3, gt=0)
    weight_decay: float = Field(1e-5, ge=0)
    validation: float = Field(0.1, gt=0, lt=1)
    test: float = Field(0.2, ge=0, lt=1)
    seed: int = 0
    augmentation: Augmentation = Augmentation()
