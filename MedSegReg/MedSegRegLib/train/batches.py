"""What the network is shown, step by step. Training walk: examples or label maps -> [batches] -> loop."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Protocol

import torch

from ..errors import DatasetError
from .augment import augment
from .chance import Chance
from .dataset import Example, require_labels
from .label_maps import LabelMaps
from .settings import TrainingSettings
from .synthesise import mean_labels, synthesise
from .workers import ALONE, Workers

Batch = tuple[torch.Tensor, torch.Tensor]
SEEDS_PER_EPOCH = 1 << 20
EPOCHS_PER_SEED = 100_003
GENERATED_STEPS = 50
NO_EPOCH = EPOCHS_PER_SEED - 1  # of examples to validate on


class BatchSource(Protocol):
    """Batches of an epoch, the same whenever the same epoch is asked for."""

    @property
    def steps(self) -> int:
        """Batches an epoch."""

    def frequencies(self) -> torch.Tensor | None:
        """How often each class is at each voxel of a patch, [classes, K, J, I], where all patches lie at one place."""

    def epoch(self, number: int, first_step: int, device: torch.device, workers: Workers = ALONE) -> Iterator[Batch]:
        """Images [N, C, K, J, I] float32 and labels [N, K, J, I] long: this process's share, from a step on."""


class AugmentedBatches:
    """Random patches of random variants of examples; all examples in random order, again and again.

    Raises:
        DatasetError: no examples, or a label that none of them has.
    """

    def __init__(self, examples: Sequence[Example], settings: TrainingSettings) -> None:
        require_labels(examples, settings.model)
        self._examples, self._settings = examples, settings

    @property
    def steps(self) -> int:
        """Batches an epoch."""
        return self._settings.steps_per_epoch or -(-len(self._examples) // self._settings.batch_size)

    def frequencies(self) -> None:
        """Patches lie anywhere."""

    def epoch(self, number: int, first_step: int, device: torch.device, workers: Workers = ALONE) -> Iterator[Batch]:
        """Batches of an epoch, from a step on."""
        order = self._order(number)
        for step in range(first_step, self.steps):
            places = workers.share(_places(self._settings, step))
            variants = [self._variant(order[n], _seed(self._settings, number, n), device) for n in places]
            yield stack(variants, self._settings.model.architecture.dimensions)

    def _order(self, epoch: int) -> list[int]:
        """The example at each place of an epoch."""
        dice, count = random.Random(self._settings.seed * EPOCHS_PER_SEED + epoch), len(self._examples)
        rounds = -(-self.steps * self._settings.batch_size // count)
        return [example for _ in range(rounds) for example in dice.sample(range(count), count)]

    def _variant(self, example: int, seed: int, device: torch.device) -> Batch:
        chosen, settings = self._examples[example], self._settings
        image, labels = chosen.image.to(device), chosen.labels.to(device)
        return augment(image, labels, settings.model.tile_ijk[::-1], settings.augmentation, Chance(seed, device))


class SyntheticBatches:
    """Examples made from label maps: no two are alike."""

    def __init__(self, maps: LabelMaps, settings: TrainingSettings) -> None:
        if settings.synthesis is None:
            raise DatasetError("The settings have no 'synthesis'", "how examples are made from label maps", "add it")
        self._maps, self._settings, self._synthesis = maps, settings, settings.synthesis

    @property
    def steps(self) -> int:
        """Batches an epoch."""
        return self._settings.steps_per_epoch or GENERATED_STEPS

    def frequencies(self) -> torch.Tensor | None:
        """Of a model in a template's space."""
        model = self._settings.model
        if model.standard is None:
            return None
        return mean_labels(self._maps, model.tile_ijk[::-1], model.spacing_mm, model.classes)  # type: ignore[arg-type]

    def epoch(self, number: int, first_step: int, device: torch.device, workers: Workers = ALONE) -> Iterator[Batch]:
        """Batches of an epoch, from a step on."""
        self._maps = self._maps.to(device)
        for step in range(first_step, self.steps):
            seeds = (_seed(self._settings, number, n) for n in workers.share(_places(self._settings, step)))
            yield stack([self.example(Chance(seed, device)) for seed in seeds])

    def example(self, chance: Chance) -> Batch:
        """Image [1, K, J, I] and labels [K, J, I]."""
        model = self._settings.model
        return synthesise(self._maps, self._synthesis, model.tile_ijk[::-1], model.spacing_mm, chance)  # type: ignore[arg-type]


def synthetic_examples(maps: LabelMaps, settings: TrainingSettings, count: int) -> list[Example]:
    """Examples to validate on: always the same for the same maps and settings, none of them of the training."""
    source = SyntheticBatches(maps, settings)
    pairs = [source.example(Chance(_seed(settings, NO_EPOCH, n))) for n in range(count)]
    return [Example(f"synthetic {n + 1}", image, labels) for n, (image, labels) in enumerate(pairs)]


def _places(settings: TrainingSettings, step: int) -> range:
    """Numbers in the epoch of a batch's patches."""
    return range(step * settings.batch_size, (step + 1) * settings.batch_size)


def _seed(settings: TrainingSettings, epoch: int, number: int) -> int:
    return (settings.seed * EPOCHS_PER_SEED + epoch) * SEEDS_PER_EPOCH + number


def stack(pairs: Sequence[Batch], dimensions: int = 3) -> Batch:
    """One batch of patches; for a network of two dimensions images [N, C, J, I] and labels [N, J, I]."""
    images, labels = (torch.stack(parts) for parts in zip(*pairs, strict=True))
    return (images.squeeze(2), labels.squeeze(1)) if dimensions == 2 else (images, labels)
