"""The training loop: batches -> network, with validation every epoch and the best weights kept."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import torch
from torch.nn import functional

from ..errors import DatasetError, InvalidSetting
from ..progress import SILENT, Progress
from ..segment.atlas_unet import AtlasUNet
from ..segment.network import build_network
from .batches import BatchSource
from .checkpoint import History, Training, Weights, load_checkpoint, save_checkpoint
from .dataset import Example
from .heads import fit_heads
from .optimise import learning_rate, make_optimizer, precision, take_step
from .record import Record
from .settings import TrainingSettings
from .validate import validate
from .workers import ALONE, Workers

CHECKPOINT_SECONDS = 300.0
RARE = 1e-3  # frequency that an atlas gives to what never was at a place


def train_network(
    source: BatchSource,
    validation: Sequence[Example],
    settings: TrainingSettings,
    folder: Path,
    *,
    device: torch.device | str = "cpu",
    initial: Weights | None = None,
    workers: Workers = ALONE,
    stop_after_minutes: float = math.inf,
    progress: Progress = SILENT,
) -> Training:
    """Train, or go on where ``folder/checkpoint.safetensors`` stands (the result does not depend on a break).

    Steps whose loss or gradient is not finite are skipped and counted. A checkpoint is written every five minutes and
    after every epoch. The number of processes may be another one when a training goes on.

    Args:
        initial: weights that the network begins with, by name; heads that are not among them are fitted, others random.
        workers: the processes that share the work; each has the same data, and all see the same ``folder``.
        stop_after_minutes: the training stops after the step that this time ends in; a second call goes on.

    Returns:
        The training, see :func:`is_over`; ``best`` are the weights of the best epoch by mean validation Dice.

    Raises:
        DatasetError: no examples to validate on.
        InvalidSetting: a batch that the processes cannot share evenly; another optimizer than the checkpoint's.
        DamagedFile, ModelMismatch: no checkpoint is whole, or it is of another network.
        OutputNotWritable: the disk is full; the checkpoint before stays.
        Diverged: more than 20 steps gave no finite loss.
        MissingPackage: of the extra ``train``.
        Cancelled: the last checkpoint stays.
    """
    _require_shares(validation, settings, workers)
    clock = Clock(60 * stop_after_minutes, settings.epochs * source.steps)
    checkpoint = folder / "checkpoint.safetensors"
    if initial and not checkpoint.exists():
        initial = fit_heads(initial, settings.model, source.epoch(0, 0, torch.device(device)), torch.device(device))
    training = begin(settings, torch.device(device), source.frequencies(), initial)
    load_checkpoint(checkpoint, training)
    network, history = workers.parallel(training.network, settings.deep_supervision), training.history
    with Record(folder) if workers.is_first else nullcontext() as record:
        while not is_over(history, settings):
            epoch = len(history.losses)
            part = progress.part(epoch / settings.epochs, (epoch + 1) / settings.epochs)
            if not _run_epoch(training, network, source, settings, checkpoint, clock, workers, part):
                break
            shown = training.average or training.network
            history.validation_dice.append(validate(shown, validation, settings.model, part, workers))
            history.losses.append(_mean(history.step_losses))
            history.learning_rates.append(training.optimizer.param_groups[0]["lr"])
            history.steps, history.step_losses = 0, []
            if history.best_epoch == epoch:
                training.best = {key: value.detach().cpu().clone() for key, value in shown.state_dict().items()}
            if record is not None:
                save_checkpoint(checkpoint, training)
                record.write(history)
    return training


def is_over(history: History, settings: TrainingSettings) -> bool:
    """Whether the last epoch is done, or validation has not become better for too long."""
    done = len(history.losses)
    waited = done - 1 - history.best_epoch if done else 0
    return done >= settings.epochs or 0 < settings.patience <= waited


def begin(
    settings: TrainingSettings,
    device: torch.device,
    frequencies: torch.Tensor | None = None,
    initial: Weights | None = None,
) -> Training:
    """A training that has not done a step: random weights from the seed; the caller's random state stays as it is.

    Args:
        frequencies: [classes, K, J, I], from which a network with an atlas starts.
        initial: weights in the place of random ones.
    """
    spec = settings.model
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = build_network(spec.architecture, len(spec.channels), spec.classes)
    if isinstance(network, AtlasUNet) and frequencies is not None:
        k, j, i = network.atlas.shape[1:]
        coarse = functional.adaptive_avg_pool3d(frequencies, (k, j, i))
        network.atlas.data = (coarse + RARE).log()
    network.load_state_dict({**network.state_dict(), **(initial or {})})
    network = network.to(device)
    return Training(
        network,
        make_optimizer(network, settings),
        copy.deepcopy(network) if settings.average else None,
        torch.amp.GradScaler(device.type, enabled=precision(settings, device) == torch.float16),
    )


class Clock:
    """When this call has to stop, when to save, and how long the whole will take at the speed so far."""

    def __init__(self, seconds: float, steps: int) -> None:
        self.now = self.saved = time.monotonic()
        self.deadline, self._steps = self.now + seconds, steps
        self._first: tuple[float, int] | None = None

    def tick(self, step: int) -> None:
        """Before each step, with its number in the training."""
        self.now = time.monotonic()
        self._first = self._first or (self.now, step)
        self._step = step

    @property
    def left(self) -> str:
        """Remaining time in words, once there is a speed."""
        start, first = self._first or (self.now, 0)
        if self._step <= first:
            return ""
        seconds = (self.now - start) / (self._step - first) * (self._steps - self._step)
        return f", {seconds / 3600:.1f} h left" if seconds > 7200 else f", {seconds / 60:.0f} min left"


def _run_epoch(
    training: Training,
    network: torch.nn.Module,
    source: BatchSource,
    settings: TrainingSettings,
    checkpoint: Path,
    clock: Clock,
    workers: Workers,
    progress: Progress,
) -> bool:
    """The steps of the present epoch that are left. False when time was over before the last one."""
    history, epoch = training.history, len(training.history.losses)
    device = next(training.network.parameters()).device
    training.network.train()
    for batch in source.epoch(epoch, history.steps, device, workers):
        clock.tick(epoch * source.steps + history.steps)
        over = math.isfinite(clock.deadline) and workers.decide(clock.now >= clock.deadline)
        if workers.is_first and (over or clock.now - clock.saved >= CHECKPOINT_SECONDS):
            save_checkpoint(checkpoint, training)
            clock.saved = clock.now
        if over:
            return False
        means = f", Dice {history.means[-1]:.3f}" if history.means else ""
        progress.update(history.steps / source.steps, f"epoch {epoch + 1} of {settings.epochs}{means}{clock.left}")
        for group in training.optimizer.param_groups:
            group["lr"] = learning_rate(settings, epoch + history.steps / source.steps)
        take_step(training, network, batch, settings, workers)
        history.steps += 1
    return True


def _require_shares(validation: Sequence[Example], settings: TrainingSettings, workers: Workers) -> None:
    if not validation:
        raise DatasetError("There are no validation cases", "at least one", "add cases, or raise their share")
    if settings.batch_size % workers.count:
        raise InvalidSetting(
            f"batch_size is {settings.batch_size}, and there are {workers.count} processes",
            "a batch that they can share evenly",
            "change batch_size in the settings, or the number of processes",
        )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan
