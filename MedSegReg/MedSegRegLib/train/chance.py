"""Random numbers of a training. Training walk: seed -> [chance] -> warp and intensities of one example."""

from __future__ import annotations

from collections.abc import Sequence

import torch

HOST_STREAM = 1 << 32  # the two generators of one seed must not give the same bits


class Chance:
    """All that is random about one example, decided by a seed.

    Decisions are numbers on the host and noise is drawn on the device, so that nothing ever waits for the device.
    """

    def __init__(self, seed: int, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self._host = torch.Generator().manual_seed(seed + HOST_STREAM)
        self._noise = torch.Generator(self.device).manual_seed(seed)

    def uniform(self, low: float, high: float) -> float:
        """A number in low..high."""
        return low + (high - low) * float(torch.rand((), generator=self._host))

    def happens(self, probability: float) -> bool:
        """True with this probability."""
        return self.uniform(0, 1) < probability

    def pick(self, count: int) -> int:
        """A whole number in 0..count-1."""
        return int(torch.randint(count, (), generator=self._host))

    def uniform_noise(self, shape: Sequence[int]) -> torch.Tensor:
        """Numbers in 0..1 on the device."""
        return torch.rand(tuple(shape), generator=self._noise, device=self.device)

    def normal_noise(self, shape: Sequence[int]) -> torch.Tensor:
        """Numbers of the standard normal distribution on the device."""
        return torch.randn(tuple(shape), generator=self._noise, device=self.device)
