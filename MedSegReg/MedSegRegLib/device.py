"""Which device the work runs on, and how much memory there is."""

from __future__ import annotations

import os
import sys

import torch

from .errors import DeviceUnavailable, InvalidSetting
from .report import Finding

DEVICE_NAMES = ("auto", "cpu", "cuda", "mps")


def pick_device(name: str = "auto") -> torch.device:
    """``auto`` takes CUDA, then Apple's MPS, then the CPU; any other name is taken as it is or refused.

    Raises:
        InvalidSetting: not a device name.
        DeviceUnavailable: asked for by name, but it is not there.
    """
    kind = name.split(":", maxsplit=1)[0]
    if kind not in DEVICE_NAMES:
        raise InvalidSetting(f"The device is '{name}'", f"one of {', '.join(DEVICE_NAMES)}", "choose one of these")
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if kind == "auto":
        return torch.device(next(d for d in ("cuda", "mps", "cpu") if available[d]))
    if not available[kind]:
        raise DeviceUnavailable(
            f"The device '{name}' is not available with torch {torch.__version__}",
            "a device that torch can use",
            "choose 'auto' or 'cpu'",
        )
    return torch.device(name)


def describe_device(device: torch.device) -> Finding:
    """What the work runs on, in words."""
    if device.type == "cuda":
        return Finding.info(f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}")
    return Finding.info(f"{device.type} with {torch.get_num_threads()} threads, torch {torch.__version__}")


def free_host_bytes() -> int | None:
    """Memory that new allocations can use without swapping, or None where it cannot be asked."""
    if sys.platform == "linux":
        with open("/proc/meminfo", encoding="ascii") as file:
            fields = dict(line.split(":", 1) for line in file)
        return int(fields["MemAvailable"].split()[0]) * 1024
    names = getattr(os, "sysconf_names", {})
    if "SC_PAGE_SIZE" in names and "SC_PHYS_PAGES" in names:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    return None
