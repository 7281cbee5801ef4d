"""The state of a training on disk, as plain tensors: whole or not there, and never code."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ..errors import DamagedFile, InvalidSetting
from ..files.atomic import atomic_path
from ..files.model_package import require_weights_fit

Weights = dict[str, torch.Tensor]


@dataclass
class History:
    """What happened so far, an entry an epoch; ``step_losses`` are those of the epoch that is not yet over.

    ``steps`` counts the steps of that epoch, those without a finite loss too; ``scaler`` is the state of the loss's.
    """

    losses: list[float] = field(default_factory=list)
    validation_dice: list[list[float]] = field(default_factory=list)
    learning_rates: list[float] = field(default_factory=list)
    skipped_steps: int = 0
    steps: int = 0
    step_losses: list[float] = field(default_factory=list)
    scaler: dict[str, float] = field(default_factory=dict)

    @property
    def means(self) -> list[float]:
        """Mean validation Dice over the classes, an entry an epoch."""
        return [sum(scores) / len(scores) for scores in self.validation_dice]

    @property
    def best_epoch(self) -> int:
        """The first epoch of the highest mean validation Dice."""
        means = self.means
        return means.index(max(means))


@dataclass
class Training:
    """All that a training needs to go on exactly: what is random comes from the settings' seed and the step.

    Attributes:
        network: being trained.
        optimizer: of the network's weights.
        average: running mean of its weights, which is what is validated and shipped; None without one.
        scaler: of the loss, so that gradients in float16 do not vanish; disabled in other precisions.
        best: weights of the best epoch, empty before the first is over.
        history: so far.
    """

    network: torch.nn.Module
    optimizer: torch.optim.Optimizer
    average: torch.nn.Module | None = None
    scaler: torch.amp.GradScaler = field(default_factory=lambda: torch.amp.GradScaler("cpu", enabled=False))
    best: Weights = field(default_factory=dict)
    history: History = field(default_factory=History)


def save_checkpoint(path: Path, training: Training) -> None:
    """The whole state in one file that takes the place of the last one, which is kept as the generation before."""
    tensors = {f"network.{key}": value for key, value in training.network.state_dict().items()}
    if training.average is not None:
        tensors |= {f"average.{key}": value for key, value in training.average.state_dict().items()}
    tensors |= {f"best.{key}": value for key, value in training.best.items()}
    for number, state in training.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{key}": value for key, value in state.items()}
    copies = {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}
    training.history.scaler = training.scaler.state_dict()
    content = save(copies, {"history": json.dumps(asdict(training.history))})
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
        if path.exists():
            os.replace(path, generation_before(path))


def generation_before(path: Path) -> Path:
    """Where the checkpoint before the last one is."""
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def load_checkpoint(path: Path, training: Training) -> None:
    """Put the last whole state into ``training``: that of ``path``, or of the generation before, if there is either.

    Raises:
        DamagedFile: there are files, and none of them is a whole checkpoint.
        ModelMismatch: of another network.
        InvalidSetting: of another optimizer.
    """
    generations = [file for file in (path, generation_before(path)) if file.exists()]
    for number, file in enumerate(generations, start=1):
        try:
            history, tensors = _read(file)
        except DamagedFile:
            if number == len(generations):
                raise
            continue
        _restore(training, tensors, file.name)
        training.history = history
        if history.scaler and training.scaler.is_enabled():
            training.scaler.load_state_dict(history.scaler)
        return


def _read(path: Path) -> tuple[History, Weights]:
    try:
        with safe_open(path, "pt") as file:
            history = History(**json.loads((file.metadata() or {})["history"]))
            return history, {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (not a dict)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise DamagedFile(
            f"The checkpoint {path.name} cannot be read ({error})",
            "a whole checkpoint",
            "delete it to start this training again",
        ) from None


def _restore(training: Training, tensors: Weights, name: str) -> None:
    weights = _part(tensors, "network.")
    require_weights_fit(training.network, weights, name)
    state: dict[int, Weights] = {}
    for key, value in _part(tensors, "optimizer.").items():
        number, entry = key.split(".", 1)
        state.setdefault(int(number), {})[entry] = value
    if any(("momentum_buffer" in one) != isinstance(training.optimizer, torch.optim.SGD) for one in state.values()):
        raise InvalidSetting(
            f"The training in {name} was begun with another optimizer",
            "the same one",
            "change the settings back, or use a new output folder",
        )
    training.network.load_state_dict(weights)
    if training.average is not None:
        training.average.load_state_dict(_part(tensors, "average.") or weights)
    groups = training.optimizer.state_dict()["param_groups"]
    training.optimizer.load_state_dict({"state": state, "param_groups": groups})
    training.best = _part(tensors, "best.")


def _part(tensors: Weights, prefix: str) -> Weights:
    return {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}
