"""The processes of a training: one, or several that ``torchrun`` started. Training walk: run -> [workers] -> loop.

All processes hold the same weights and work on their share of each batch. Sums over a batch are made over all of them
before a loss is made of the sums, so that the result is that of one process with the whole batch.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from ..device import pick_device
from ..errors import DeviceUnavailable, WorkerLost

GIVEN_BY_TORCHRUN = {"RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}
PATIENCE = timedelta(hours=12)  # the others wait while the first one tests the model
Item = TypeVar("Item")


@dataclass(frozen=True)
class Workers:
    """This process among those of a training. The first one alone writes files."""

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """What of these this process works on."""
        return items[self.rank :: self.count]

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """Sum over all processes, of which each makes the same loss; :meth:`parallel` makes the gradients right."""
        return _Sum.apply(tensor) if self.count > 1 else tensor

    def decide(self, choice: bool) -> bool:
        """What the first process chose; all wait for it."""
        if self.count == 1:
            return choice
        device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
        decision = torch.tensor([choice], dtype=torch.uint8, device=device)
        distributed.broadcast(decision, 0)
        return bool(decision.item())

    def parallel(self, network: torch.nn.Module, all_used: bool = True) -> torch.nn.Module:
        """The network with gradients averaged over all processes; ``all_used``: every weight has one at every step."""
        if self.count == 1:
            return network
        return DistributedDataParallel(network, find_unused_parameters=not all_used)


class _Sum(torch.autograd.Function):
    """Its slope is that of the loss times the processes, because their gradients are averaged and not added."""

    @staticmethod
    def forward(ctx: object, tensor: torch.Tensor) -> torch.Tensor:
        total = tensor.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: object, slope: torch.Tensor) -> torch.Tensor:
        return slope * distributed.get_world_size()


ALONE = Workers()


def started_first() -> bool:
    """Whether this is the first process that torchrun started, or the only one; known without joining the others."""
    return started_alone() or os.environ["RANK"] == "0"


def started_alone() -> bool:
    """Whether there is one process: torchrun did not start any, or only this."""
    return not os.environ.keys() >= GIVEN_BY_TORCHRUN or os.environ["WORLD_SIZE"] == "1"


@contextmanager
def join_workers(device: str = "auto") -> Iterator[tuple[Workers, torch.device]]:
    """This process among those that torchrun started, and its device: a GPU each (NCCL), or the CPU (gloo).

    Raises:
        DeviceUnavailable: more processes than GPUs, or a device on which several processes cannot train.
        WorkerLost: inside the block, when another process has ended.
    """
    if started_alone():
        yield ALONE, pick_device(device)
        return
    chosen = _own_device(device, int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield Workers(distributed.get_rank(), distributed.get_world_size()), chosen
    except RuntimeError as error:
        if not isinstance(error, distributed.DistError) and "gloo" not in str(error):
            raise
        raise WorkerLost(
            "Another process of this training has ended",
            "all processes until the end of the training",
            "look at what the others said, and start the same command again: it goes on from the last checkpoint",
        ) from error
    finally:
        distributed.destroy_process_group()


def _own_device(device: str, number: int) -> torch.device:
    chosen = pick_device(device)
    if chosen.type == "cpu":
        return chosen
    if chosen.type != "cuda" or number >= torch.cuda.device_count():
        raise DeviceUnavailable(
            f"Process {number + 1} has no device of its own ({torch.cuda.device_count()} GPUs)",
            "a GPU for each process, or the CPU",
            "start fewer processes, or add --device cpu",
        )
    torch.cuda.set_device(number)
    return torch.device("cuda", number)
