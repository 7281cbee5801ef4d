"""How a training runs: one readable, checked description."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from ..files.architectures import Strict
from ..files.model_spec import ModelSpec, ParentSpec
from .augment import Augmentation
from .losses import LossName
from .synthesise import Synthesis


class TrainingSettings(Strict):
    """Everything that decides the result of a training, with the model that it makes.

    Attributes:
        model: description of the model; scores and sha256 are filled in at the end.
        epochs: at most so many, each of ``steps_per_epoch`` batches.
        steps_per_epoch: None: as many as show every training case once; 50 where examples are generated.
        batch_size: patches a step, of all processes together.
        optimizer: AdamW, or stochastic gradient descent with Nesterov momentum 0.99 (nnU-Net's, with a rate of 0.01).
        learning_rate: its peak.
        warm_up_epochs: over which the rate rises to its peak.
        schedule: how it falls from the beginning to the last epoch: a half cosine, nnU-Net's polynomial, or not at all.
        loss: see :func:`losses.segmentation_loss`.
        deep_supervision: the loss is taken at every resolution of the decoder, where the network has several.
        precision: of the network; ``auto`` is bfloat16 on a CUDA device that has it, else float16, and float32 on a
            CPU. There bfloat16 is twice as fast where the processor has instructions for it; float16 is not used.
        average: share of the running mean of the weights that a step keeps (Polyak averaging); 0 for none.
        patience: the training ends after so many epochs without a better validation score; 0: never before ``epochs``.
        validation, test: shares of the patients, where the data say nothing of their own.
        folds: of a cross-validation, which tests every patient once.
        fold: the one that is trained, from 0; None: all, one after the other, and their ensemble.
        seed: decides the split, the initial weights and all randomness.
        synthesis: how examples are made, where the data are label maps without images.
        start: the model whose weights the network begins with, see :mod:`transfer`; else they are random.
        validation_examples: of generated examples.
    """

    model: ModelSpec
    epochs: int = Field(60, ge=1)
    steps_per_epoch: int | None = Field(None, ge=1)
    batch_size: int = Field(2, ge=1)
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = Field(2e-3, gt=0)
    warm_up_epochs: float = Field(1.0, ge=0)
    schedule: Literal["cosine", "polynomial", "constant"] = "cosine"
    weight_decay: float = Field(1e-5, ge=0)
    loss: LossName = "dice_cross_entropy"
    deep_supervision: bool = True
    precision: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    average: float = Field(0.0, ge=0, lt=1)
    patience: int = Field(0, ge=0)
    validation: float = Field(0.1, gt=0, lt=1)
    test: float = Field(0.2, ge=0, lt=1)
    folds: int = Field(0, ge=0, le=20)
    fold: int | None = Field(None, ge=0)
    seed: int = 0
    augmentation: Augmentation = Augmentation()
    synthesis: Synthesis | None = None
    start: ParentSpec | None = None
    validation_examples: int = Field(8, ge=1)

    @model_validator(mode="after")
    def _fold_exists(self) -> TrainingSettings:
        if self.folds == 1 or (self.fold is not None and self.fold >= max(1, self.folds)):
            raise ValueError("fold must be below folds, of which there are none or two and more")
        return self

    @model_validator(mode="after")
    def _channels_are_labels(self) -> TrainingSettings:
        if self.model.merged:
            raise ValueError("a model is trained with a label for each channel; 'merged' is written afterwards")
        return self
