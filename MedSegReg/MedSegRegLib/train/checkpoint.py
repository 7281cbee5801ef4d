"""The state of a training on disk, as plain tensors: whole or not there, and never code."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ..errors import DamagedFile
from ..files.atomic import atomic_path
from ..files.model_package import require_weights_fit


@dataclass
class History:
    """What happened so far, an entry an epoch."""

    losses: list[float] = field(default_factory=list)
    validation_dice: list[list[float]] = field(default_factory=list)
    learning_rates: list[float] = field(default_factory=list)
    skipped_steps: int = 0

    @property
    def means(self) -> list[float]:
        """Mean validation Dice over the classes, an entry an epoch."""
        return [sum(scores) / len(scores) for scores in self.validation_dice]

    @property
    def best_epoch(self) -> int:
        """The first epoch of the highest mean validation Dice."""
        means = self.means
        return means.index(max(means))


def save_checkpoint(
    path: Path,
    network: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    best: dict[str, torch.Tensor],
    history: History,
) -> None:
    """Network, optimiser, best weights and history, in one file that replaces the previous one when it is complete."""
    tensors = {f"network.{key}": value for key, value in network.state_dict().items()}
    tensors |= {f"best.{key}": value for key, value in best.items()}
    for number, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{key}": value for key, value in state.items()}
    copies = {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}
    content = save(copies, {"history": json.dumps(asdict(history))})
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def load_checkpoint(
    path: Path, network: torch.nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[dict[str, torch.Tensor], History]:
    """Put the saved state into ``network`` and ``optimizer``; return the best weights and the history.

    Raises:
        DamagedFile: not a whole checkpoint.
        ModelMismatch: of another network.
    """
    try:
        with safe_open(path, "pt") as file:
            history = History(**json.loads((file.metadata() or {})["history"]))
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (not a dict)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise DamagedFile(
            f"The checkpoint {path.name} cannot be read ({error})",
            "a whole checkpoint",
            "delete it to start this training again",
        ) from None
    weights = _part(tensors, "network.")
    require_weights_fit(network, weights, path.name)
    network.load_state_dict(weights)
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in _part(tensors, "optimizer.").items():
        number, name = key.split(".", 1)
        state.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return _part(tensors, "best."), history


def _part(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}
