"""The training loop: batches -> network, with validation every epoch and the best weights kept."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from ..errors import DatasetError, Diverged
from ..progress import SILENT, Progress
from ..segment.network import build_network
from .batches import Batch, BatchSource
from .checkpoint import Training, load_checkpoint, save_checkpoint
from .dataset import Example
from .losses import deep_supervision_loss
from .record import Record
from .settings import TrainingSettings
from .validate import validate

MAX_SKIPPED_STEPS = 20
LARGEST_GRADIENT = 12.0
CHECKPOINT_SECONDS = 300.0


def train_network(
    source: BatchSource,
    validation: Sequence[Example],
    settings: TrainingSettings,
    folder: Path,
    *,
    device: torch.device | str = "cpu",
    stop_after_minutes: float = math.inf,
    progress: Progress = SILENT,
) -> Training:
    """Train, or go on where ``folder/checkpoint.safetensors`` stands (the result does not depend on a break).

    The loss is Dice + cross-entropy with deep supervision; Adam with warm-up and cosine decay. Steps whose loss or
    gradient is not finite are skipped and counted. A checkpoint is written every five minutes and after every epoch.

    Args:
        stop_after_minutes: the training stops after the step that this time ends in; a second call goes on.

    Returns:
        The training, over when it has as many losses as epochs; ``best`` are the weights of the best epoch by mean
        validation Dice.

    Raises:
        DatasetError: no examples to validate on.
        DamagedFile, ModelMismatch: no checkpoint is whole, or it is of another network.
        Diverged: more than 20 steps gave no finite loss.
        MissingPackage: of the extra ``train``.
        Cancelled: the last checkpoint stays.
    """
    if not validation:
        raise DatasetError("There are no validation cases", "at least one", "add cases, or raise their share")
    deadline = time.monotonic() + 60 * stop_after_minutes
    training = begin(settings, torch.device(device))
    checkpoint = folder / "checkpoint.safetensors"
    load_checkpoint(checkpoint, training)
    history = training.history
    with Record(folder) as record:
        for epoch in range(len(history.losses), settings.epochs):
            part = progress.part(epoch / settings.epochs, (epoch + 1) / settings.epochs)
            if not _run_epoch(training, source, settings, checkpoint, deadline=deadline, progress=part):
                break
            shown = training.average or training.network
            history.validation_dice.append(validate(shown, validation, settings.model, part))
            history.losses.append(_mean(history.step_losses))
            history.learning_rates.append(training.optimizer.param_groups[0]["lr"])
            history.steps, history.step_losses = 0, []
            if history.best_epoch == epoch:
                training.best = {key: value.detach().cpu().clone() for key, value in shown.state_dict().items()}
            save_checkpoint(checkpoint, training)
            record.write(history)
    return training


def begin(settings: TrainingSettings, device: torch.device) -> Training:
    """A training that has not done a step: random weights from the seed; the caller's random state stays as it is."""
    spec = settings.model
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = build_network(spec.architecture, len(spec.channels), spec.classes).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
    return Training(network, optimizer, copy.deepcopy(network) if settings.average else None)


def _run_epoch(
    training: Training,
    source: BatchSource,
    settings: TrainingSettings,
    checkpoint: Path,
    *,
    deadline: float,
    progress: Progress,
) -> bool:
    """The steps of the present epoch that are left. False when time was over before the last one."""
    history, epoch = training.history, len(training.history.losses)
    device = next(training.network.parameters()).device
    training.network.train()
    saved = time.monotonic()
    for batch in source.epoch(epoch, history.steps, device):
        now = time.monotonic()
        if now >= deadline or now - saved >= CHECKPOINT_SECONDS:
            save_checkpoint(checkpoint, training)
            saved = time.monotonic()
        if now >= deadline:
            return False
        means = f", Dice {history.means[-1]:.3f}" if history.means else ""
        progress.update(history.steps / source.steps, f"epoch {epoch + 1} of {settings.epochs}{means}")
        for group in training.optimizer.param_groups:
            group["lr"] = settings.learning_rate * _schedule(epoch + history.steps / source.steps, settings.epochs)
        _step(training, batch, settings)
        history.steps += 1
    return True


def _step(training: Training, batch: Batch, settings: TrainingSettings) -> None:
    """One step; without a finite loss and gradient it is counted and the weights stay."""
    images, labels = batch
    history, network = training.history, training.network
    with torch.autocast(images.device.type, torch.bfloat16, enabled=images.device.type == "cuda"):
        scores = network(images)
    loss = deep_supervision_loss(scores, labels, settings.loss)
    training.optimizer.zero_grad()
    loss.backward()
    gradient_norm = torch.nn.utils.clip_grad_norm_(network.parameters(), LARGEST_GRADIENT)
    if not torch.isfinite(loss + gradient_norm):
        history.skipped_steps += 1
        if history.skipped_steps > MAX_SKIPPED_STEPS:
            raise Diverged(
                f"{history.skipped_steps} steps gave no finite loss", "a falling loss", "lower the learning rate"
            )
        return
    training.optimizer.step()
    history.step_losses.append(loss.item())
    if training.average is not None:
        _follow(training.average, network, settings.average, len(history.losses), len(history.step_losses))


def _follow(mean: torch.nn.Module, network: torch.nn.Module, keep: float, epoch: int, step: int) -> None:
    """Move the running mean of the weights; in the first epoch it keeps less, to forget the random beginning."""
    keep = min(keep, step / (step + 10)) if epoch == 0 else keep
    with torch.no_grad():
        for average, value in zip(mean.parameters(), network.parameters(), strict=True):
            average.lerp_(value, 1 - keep)


def _schedule(epoch: float, epochs: int) -> float:
    """Share of the peak learning rate: linear over the first epoch, then a half cosine."""
    return min(1.0, 0.05 + epoch) * 0.5 * (1 + math.cos(math.pi * epoch / epochs))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan
