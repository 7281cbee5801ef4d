"""The training loop: examples -> network, with validation every epoch and the best weights kept."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from pathlib import Path

import torch
from torch.nn import functional

from ..errors import DatasetError, Diverged
from ..files.model_package import ModelSpec
from ..progress import SILENT, Progress
from ..segment.network import PlainConvUNet, build_network
from ..segment.tiles import predict_scores
from .augment import augment
from .checkpoint import History, load_checkpoint, save_checkpoint
from .dataset import Example
from .record import Record
from .settings import TrainingSettings

MAX_SKIPPED_STEPS = 20


def train_network(
    examples: Sequence[Example],
    validation: Sequence[Example],
    settings: TrainingSettings,
    folder: Path,
    *,
    device: torch.device | str = "cpu",
    progress: Progress = SILENT,
) -> tuple[dict[str, torch.Tensor], History]:
    """Train, or go on where ``folder/checkpoint.safetensors`` stands (an epoch's result does not depend on a break).

    The loss is Dice + cross-entropy with deep supervision; Adam with warm-up and cosine decay. Steps whose loss or
    gradient is not finite are skipped and counted.

    Returns:
        The weights of the best epoch by mean validation Dice, and the history.

    Raises:
        DatasetError: no examples on one side, or a label that no training example has.
        DamagedFile, ModelMismatch: the checkpoint is not whole, or of another network.
        Diverged: more than 20 steps gave no finite loss.
        MissingPackage: of the extra ``train``.
        Cancelled: the checkpoint of the last epoch stays.
    """
    _require_labels(examples, validation, settings.model)
    network = _initial_network(settings).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
    checkpoint = folder / "checkpoint.safetensors"
    best: dict[str, torch.Tensor] = {}
    history = History()
    if checkpoint.exists():
        best, history = load_checkpoint(checkpoint, network, optimizer)
    with Record(folder) as record:
        for epoch in range(len(history.losses), settings.epochs):
            part = progress.part(epoch / settings.epochs, (epoch + 1) / settings.epochs)
            loss = _run_epoch(network, optimizer, examples, settings, epoch=epoch, history=history, progress=part)
            history.losses.append(loss)
            history.learning_rates.append(optimizer.param_groups[0]["lr"])
            history.validation_dice.append(validate(network, validation, settings, part))
            if history.best_epoch == epoch:
                best = {key: value.detach().cpu().clone() for key, value in network.state_dict().items()}
            save_checkpoint(checkpoint, network, optimizer, best, history)
            record.write(history)
    return best, history


def validate(
    network: torch.nn.Module, examples: Sequence[Example], settings: TrainingSettings, progress: Progress = SILENT
) -> list[float]:
    """Mean Dice of each class over whole examples; a class missed or invented scores 0, absent in both is left out."""
    spec = settings.model
    network.eval()
    device = next(network.parameters()).device
    dice: list[list[float]] = [[] for _ in spec.labels]
    for example in examples:
        progress.check_cancelled()
        scores = predict_scores(network, example.image.to(device), spec.tile_ijk[::-1], spec.tile_overlap)
        predicted = scores.argmax(0).cpu()
        for number, values in enumerate(dice, start=1):
            a, b = predicted == number, example.labels == number
            if (size := int(a.sum()) + int(b.sum())) > 0:
                values.append(2 * int((a & b).sum()) / size)
    return [sum(values) / max(1, len(values)) for values in dice]


def _require_labels(examples: Sequence[Example], validation: Sequence[Example], spec: ModelSpec) -> None:
    if not examples or not validation:
        raise DatasetError(
            f"{len(examples)} training and {len(validation)} validation cases", "at least one of each", "add cases"
        )
    values = {value for example in examples for value in example.labels.unique().tolist()}
    if missing := [label.name for label in spec.labels if label.value not in values]:
        raise DatasetError(
            f"In no training case: {', '.join(missing)}",
            "every label of the model in one or more",
            "add cases, or leave these labels out of the model and renumber the others",
        )


def _initial_network(settings: TrainingSettings) -> PlainConvUNet:
    """Random weights from the seed; the caller's random state stays as it is."""
    spec = settings.model
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        return build_network(spec.architecture, len(spec.channels), spec.classes)


def _run_epoch(
    network: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    examples: Sequence[Example],
    settings: TrainingSettings,
    *,
    epoch: int,
    history: History,
    progress: Progress,
) -> float:
    """One pass over the examples; all randomness comes from (seed, epoch). Returns the mean loss, NaN if none."""
    rng = torch.Generator().manual_seed(settings.seed * 100_003 + epoch)
    order = random.Random(settings.seed * 100_003 + epoch).sample(range(len(examples)), len(examples))
    batches = [order[n : n + settings.batch_size] for n in range(0, len(order), settings.batch_size)]
    device = next(network.parameters()).device
    network.train()
    total, counted = 0.0, 0
    for number, batch in enumerate(batches):
        means = f", Dice {history.means[-1]:.3f}" if history.means else ""
        progress.update(number / len(batches), f"epoch {epoch + 1} of {settings.epochs}{means}")
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * _schedule(epoch + number / len(batches), settings.epochs)
        pairs = [
            augment(
                examples[n].image.to(device),
                examples[n].labels.to(device),
                settings.model.tile_ijk[::-1],
                settings.augmentation,
                rng,
            )
            for n in batch
        ]
        images, labels = (torch.stack(tensors) for tensors in zip(*pairs, strict=True))
        loss = deep_supervision_loss(network(images), labels)
        optimizer.zero_grad()
        loss.backward()
        gradient_norm = torch.nn.utils.clip_grad_norm_(network.parameters(), 12.0)
        if not torch.isfinite(loss + gradient_norm):
            history.skipped_steps += 1
            if history.skipped_steps > MAX_SKIPPED_STEPS:
                raise Diverged(
                    f"{history.skipped_steps} steps gave no finite loss", "a falling loss", "lower the learning rate"
                )
            continue
        optimizer.step()
        total, counted = total + loss.item(), counted + 1
    return total / counted if counted else math.nan


def _schedule(epoch: float, epochs: int) -> float:
    """Share of the peak learning rate: linear over the first epoch, then a half cosine."""
    return min(1.0, 0.05 + epoch) * 0.5 * (1 + math.cos(math.pi * epoch / epochs))


def deep_supervision_loss(scores: list[torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
    """Dice + cross-entropy at every resolution, each coarser one counting half of the finer.

    Args:
        scores: [N, classes, K, J, I] and coarser ones, finest first.
        labels: [N, K, J, I].
    """
    from monai.losses import DiceCELoss  # noqa: PLC0415  (seconds to import, needed by training only)

    loss = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, batch=True)
    total, weights = scores[0].new_zeros(()), 0.0
    for level, level_scores in enumerate(scores):
        target = functional.interpolate(labels[:, None].float(), level_scores.shape[2:], mode="nearest")
        total = total + loss(level_scores, target) * 0.5**level
        weights += 0.5**level
    return total / weights
