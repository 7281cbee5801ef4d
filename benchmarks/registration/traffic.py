"""What a registration asks of a GPU: how often each operation runs, how long it takes, and how many bytes it moves.

Bytes are counted, not measured: every operation reads each of its arguments and writes its result once. What a cache
saves, or a halo costs, shows as a share of the roofline that differs from what the memory really saw.
"""

from __future__ import annotations

import importlib
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

KERNELS = {
    "triton_kernels": ("_warp", "_compose", "_solve_inverse", "_slope_terms"),
    "triton_correlation": ("_coefficients", "_forces"),
}
COPY_BYTES = 1 << 28


@dataclass(frozen=True)
class Row:
    """One operation of a run.

    Attributes:
        name: of torch's operation, or of our kernel.
        share: of the time that the memory alone would need, of the time it took.
    """

    name: str
    calls: int
    milliseconds: float
    megabytes: float
    share: float


def profile_traffic(work: Callable[[], object], bandwidth: float) -> list[Row]:
    """Run twice, once to count and once to measure: rows by time, and before them their sum.

    Args:
        bandwidth: of the memory, bytes a second.
    """
    counted = count_bytes(work)
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as measured:
        work()
        torch.cuda.synchronize()
    own = {kernel for names in KERNELS.values() for kernel in names}
    rows = []
    for event in measured.key_averages():
        seconds = event.self_device_time_total * 1e-6
        if seconds > 0 and (event.key in own or event.key.startswith("aten::")):
            moved = counted.get(event.key, 0)
            rows.append(Row(event.key, event.count, 1e3 * seconds, moved / 1e6, moved / bandwidth / seconds))
    rows.sort(key=lambda row: -row.milliseconds)
    calls, milliseconds, megabytes = (
        sum(getattr(row, name) for row in rows) for name in ("calls", "milliseconds", "megabytes")
    )
    share = megabytes * 1e6 / bandwidth / (milliseconds * 1e-3) if milliseconds else 0.0
    return [Row("all", calls, milliseconds, megabytes, share), *rows]


def count_bytes(work: Callable[[], object]) -> dict[str, int]:
    """What a run moves, by operation."""
    counts: dict[str, int] = defaultdict(int)
    with _counted_kernels(counts), _CountedTorch(counts):
        work()
    return counts


def memory_bandwidth(device: torch.device) -> float:
    """Bytes a second: of the card's clock and bus where torch tells them, else of a measured copy."""
    card = torch.cuda.get_device_properties(device)
    clock, width = getattr(card, "memory_clock_rate", 0), getattr(card, "memory_bus_width", 0)
    if clock and width:
        return 2 * clock * 1e3 * width / 8
    source = torch.empty(COPY_BYTES, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    for event in (began, ended):
        target.copy_(source)
        event.record()
    torch.cuda.synchronize()
    return 2 * COPY_BYTES / (began.elapsed_time(ended) * 1e-3)


def as_text(rows: list[Row]) -> str:
    """A table in Markdown."""
    lines = ["| operation | calls | ms | MB | of the roofline |", "|---|---|---|---|---|"]
    lines += [
        f"| `{row.name}` | {row.calls} | {row.milliseconds:.2f} | {row.megabytes:.0f} | {100 * row.share:.0f} % |"
        for row in rows
    ]
    return "\n".join(lines)


class _CountedTorch(TorchDispatchMode):
    """Adds up what torch's own operations read and write; views move nothing."""

    def __init__(self, counts: dict[str, int]) -> None:
        super().__init__()
        self._counts = counts

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = operation(*args, **(kwargs or {}))
        if not operation.is_view:
            self._counts[operation._schema.name] += _tensor_bytes((args, kwargs, out))
        return out


class _CountedKernel:
    """Stands for a kernel and adds up what it is given."""

    def __init__(self, kernel: Any, name: str, counts: dict[str, int]) -> None:
        self._kernel, self._name, self._counts = kernel, name, counts

    def __getitem__(self, grid: Any) -> Callable[..., None]:
        def launch(*args: Any, **options: Any) -> None:
            self._counts[self._name] += _tensor_bytes(args)
            self._kernel[grid](*args, **options)

        return launch


@contextmanager
def _counted_kernels(counts: dict[str, int]):
    with ExitStack() as stack:
        for stem, names in KERNELS.items():
            try:
                module = importlib.import_module(f"MedSegRegLib.register.{stem}")
            except ModuleNotFoundError:  # no triton: torch does it, and counts it
                continue
            for name in names:
                stand_in = _CountedKernel(getattr(module, name), name, counts)
                stack.enter_context(patch.object(module, name, stand_in))
        yield


def _tensor_bytes(value: Any) -> int:
    """Of all tensors in nested containers, each once; an expanded axis is read from one place."""
    found: dict[tuple[int, ...], int] = {}

    def visit(item: Any) -> None:
        if isinstance(item, torch.Tensor):
            size = item.element_size()
            for length, stride in zip(item.shape, item.stride(), strict=True):
                size *= length if stride else min(length, 1)
            found[(item.data_ptr(), *item.shape)] = size
        elif isinstance(item, dict):
            visit(list(item.values()))
        elif isinstance(item, (list, tuple)):
            for part in item:
                visit(part)

    visit(value)
    return sum(found.values())
