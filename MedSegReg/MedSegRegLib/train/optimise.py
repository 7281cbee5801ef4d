"""One step of a training. Training walk: batch -> network -> loss -> gradient -> [optimise] -> weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from ..errors import Diverged
from ..progress import SILENT, Progress
from .batches import Batch
from .checkpoint import Training
from .losses import deep_supervision_loss
from .settings import TrainingSettings
from .workers import ALONE, Workers

MAX_SKIPPED_STEPS = 20
LARGEST_GRADIENT = 12.0
MOMENTUM = 0.99
POLYNOMIAL_POWER = 0.9
WARM_UP_STEPS = 10
FIRST_RATE = 0.05  # share of the peak that the warm-up starts from
PRECISIONS = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


def make_optimizer(network: torch.nn.Module, settings: TrainingSettings) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter, ICLR 2019), or gradient descent with Nesterov momentum."""
    weights, rate, decay = network.parameters(), settings.learning_rate, settings.weight_decay
    if settings.optimizer == "sgd":
        return torch.optim.SGD(weights, rate, MOMENTUM, weight_decay=decay, nesterov=True)
    return torch.optim.AdamW(weights, rate, weight_decay=decay)


def learning_rate(settings: TrainingSettings, epoch: float) -> float:
    """The rate at a place in the training, counted in epochs: it needs no state of its own."""
    done = epoch / settings.epochs
    falling = {
        "cosine": 0.5 * (1 + math.cos(math.pi * done)),
        "polynomial": (1 - done) ** POLYNOMIAL_POWER,
        "constant": 1.0,
    }[settings.schedule]
    rising = min(1.0, FIRST_RATE + epoch / settings.warm_up_epochs) if settings.warm_up_epochs else 1.0
    return settings.learning_rate * rising * falling


def precision(settings: TrainingSettings, device: torch.device) -> torch.dtype:
    """What the network computes in on this device."""
    if device.type != "cuda":
        return torch.bfloat16 if device.type == "cpu" and settings.precision == "bfloat16" else torch.float32
    if settings.precision == "auto":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return PRECISIONS[settings.precision]


def take_step(
    training: Training,
    network: torch.nn.Module,
    batch: Batch,
    settings: TrainingSettings,
    workers: Workers = ALONE,
) -> None:
    """One step; without a finite loss and gradient it is counted and the weights stay.

    Args:
        network: that of the training, or what makes it work on several processes.

    Raises:
        Diverged: too many steps gave no finite loss.
    """
    images, labels = batch
    history, scaler = training.history, training.scaler
    dtype = precision(settings, images.device)
    with torch.autocast(images.device.type, dtype, enabled=dtype != torch.float32):
        scores = network(images)
    levels = [scores] if isinstance(scores, torch.Tensor) else scores
    loss = deep_supervision_loss(levels if settings.deep_supervision else levels[:1], labels, settings.loss, workers)
    training.optimizer.zero_grad()
    scaler.scale(loss).backward()
    scaler.unscale_(training.optimizer)
    norm = torch.nn.utils.clip_grad_norm_(training.network.parameters(), LARGEST_GRADIENT)
    if torch.isfinite(loss + norm):
        scaler.step(training.optimizer)
        history.step_losses.append(loss.item())
        if training.average is not None:
            _follow(training.average, training.network, settings.average, history.losses, history.step_losses)
    elif not (torch.isfinite(loss) and scaler.is_enabled() and scaler.get_scale() > 1):  # else the scale was too large
        history.skipped_steps += 1
        if history.skipped_steps > MAX_SKIPPED_STEPS:
            raise Diverged(
                f"{history.skipped_steps} steps gave no finite loss", "a falling loss", "lower the learning rate"
            )
    scaler.update()


def _follow(
    mean: torch.nn.Module, network: torch.nn.Module, keep: float, epochs: list[float], steps: list[float]
) -> None:
    """Move the running mean of the weights; in the first epoch it keeps less, to forget the random beginning."""
    keep = keep if epochs else min(keep, len(steps) / (len(steps) + 10))
    with torch.no_grad():
        for average, value in zip(mean.parameters(), network.parameters(), strict=True):
            average.lerp_(value, 1 - keep)


def descend(
    parameters: Sequence[torch.Tensor],
    loss_of: Callable[[int], torch.Tensor],
    steps: int,
    learning_rate: float,
    progress: Progress = SILENT,
    doing: str = "training",
) -> None:
    """A short training of a few minutes, without epochs or checkpoints, by AdamW without decay.

    Args:
        parameters: that are trained.
        loss_of: from the number of a step to its loss.
        learning_rate: its peak, after ten steps; a half cosine takes it to zero.
        doing: said with the progress.

    Raises:
        Diverged: the loss is not finite.
        Cancelled: between two steps.
    """
    optimizer = torch.optim.AdamW(parameters, learning_rate, weight_decay=0.0)
    for step in range(steps):
        progress.update(step / steps, f"{doing}, step {step + 1} of {steps}")
        rise = min(1.0, (step + 1) / WARM_UP_STEPS)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * rise * 0.5 * (1 + math.cos(math.pi * step / steps))
        loss = loss_of(step)
        if not torch.isfinite(loss):
            raise Diverged(f"Step {step + 1} gave no finite loss", "a falling loss", "look at the cases")
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, LARGEST_GRADIENT)
        optimizer.step()
