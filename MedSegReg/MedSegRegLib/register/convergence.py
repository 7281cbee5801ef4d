"""Has a level come to its end? Decided on the device; on a CPU heard of at once, from a GPU one check late."""

from __future__ import annotations

from dataclasses import replace

import torch

from .flow import Flow

LEAST_GAIN = 1e-4


class Convergence:
    """Keeps the best flow of a level without making the host wait for the device.

    Once a check finds no gain, or a value that is not finite, nothing later is kept: it does not matter how many
    iterations are under way before the host hears of it, and CPU and GPU return the same flow.

    Args:
        flow: to begin with.
        growth_voxels: by how much a vector may grow between two checks.

    Attributes:
        margin_voxels: by how much it may grow until an answer has been heard.
    """

    def __init__(self, flow: Flow, growth_voxels: float) -> None:
        self._best, self._on_gpu = flow, flow.vectors.is_cuda
        self._value = flow.vectors.new_full((), -torch.inf)
        self._over, self._failed = (torch.zeros((), dtype=torch.bool, device=flow.vectors.device) for _ in range(2))
        self._under_way: tuple[torch.Tensor, torch.cuda.Event] | None = None
        self.margin_voxels = growth_voxels * (2 if self._on_gpu else 1)

    def check(self, flow: Flow, value: torch.Tensor) -> tuple[bool, int] | None:
        """Look at a flow and its similarity.

        Returns:
            Whether the level is over, and the squarings to go on with; on a GPU those of the check before, None at
            the first.
        """
        better = (value > self._value) & ~self._over
        gained = value - self._value
        self._best = replace(flow, vectors=torch.where(better, flow.vectors, self._best.vectors))
        self._value = torch.where(better, value, self._value)
        self._failed = self._failed | (~torch.isfinite(value) & ~self._over)
        self._over = self._over | ~(gained >= LEAST_GAIN * self._value.abs())
        numbers = self._read(torch.stack((self._over.to(value), flow.longest(self.margin_voxels))))
        return None if numbers is None else (bool(numbers[0]), flow.squarings_of(numbers[1]))

    def result(self) -> tuple[Flow, float, bool]:
        """The best flow, its similarity, and whether one was not finite. Waits for the device."""
        value, failed = torch.stack((self._value, self._failed.to(self._value))).tolist()
        return self._best, value, bool(failed)

    def _read(self, numbers: torch.Tensor) -> list[float] | None:
        """On a GPU those of the call before: they have arrived while the iterations since were handed out."""
        if not self._on_gpu:
            return numbers.tolist()
        host = torch.empty(numbers.shape, pin_memory=True).copy_(numbers, non_blocking=True)
        event = torch.cuda.Event()
        event.record()
        before, self._under_way = self._under_way, (host, event)
        if before is None:
            return None
        before[1].synchronize()
        return before[0].tolist()
