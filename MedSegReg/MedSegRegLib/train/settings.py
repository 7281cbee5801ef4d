"""How a training runs: one readable, checked description."""

from __future__ import annotations

from pydantic import Field, model_validator

from ..files.architectures import Strict
from ..files.model_spec import ModelSpec
from .augment import Augmentation
from .losses import LossName
from .synthesise import Synthesis


class TrainingSettings(Strict):
    """Everything that decides the result of a training, with the model that it makes.

    Attributes:
        model: description of the model; scores and sha256 are filled in at the end.
        epochs: passes over the training cases, or over ``steps_per_epoch`` generated batches.
        batch_size: patches a step.
        learning_rate: peak of Adam's rate; it warms up over the first epoch and follows a half cosine to zero.
        loss: see :func:`losses.segmentation_loss`; always at every resolution of the decoder.
        average: share of the running mean of the weights that a step keeps (Polyak averaging); 0 for none.
        validation, test: shares of the patients.
        folds, fold: of a cross-validation, from 0; the test patients are then those of the fold.
        seed: decides the split, the initial weights and all randomness.
        synthesis: how examples are made, where the data are label maps without images.
        steps_per_epoch, validation_examples: of generated examples.
    """

    model: ModelSpec
    epochs: int = Field(60, ge=1)
    batch_size: int = Field(2, ge=1)
    learning_rate: float = Field(2e-3, gt=0)
    weight_decay: float = Field(1e-5, ge=0)
    loss: LossName = "dice_cross_entropy"
    average: float = Field(0.0, ge=0, lt=1)
    validation: float = Field(0.1, gt=0, lt=1)
    test: float = Field(0.2, ge=0, lt=1)
    folds: int = Field(0, ge=0, le=100)
    fold: int = Field(0, ge=0)
    seed: int = 0
    augmentation: Augmentation = Augmentation()
    synthesis: Synthesis | None = None
    steps_per_epoch: int = Field(50, ge=1)
    validation_examples: int = Field(8, ge=1)

    @model_validator(mode="after")
    def _fold_exists(self) -> TrainingSettings:
        if self.folds == 1 or self.fold >= max(1, self.folds):
            raise ValueError("fold must be below folds, of which there are none or two and more")
        return self
