"""A device that really computes. Engines walk: device's name -> [usable device] -> engine."""

from __future__ import annotations

import torch

from ...device import pick_device
from ...errors import DeviceUnavailable
from ...report import Finding

CPU = torch.device("cpu")


def usable_device(name: str = "auto") -> tuple[torch.device, tuple[Finding, ...]]:
    """The device of that name, tried: a card can be there and too old for torch, or its driver broken.

    Returns:
        The device, and for ``auto`` a warning where the CPU replaces a GPU that does not compute.

    Raises:
        InvalidSetting: not a device name.
        DeviceUnavailable: asked for by name, and it is not there or does not compute.
    """
    device = pick_device(name)
    reason = _why_not(device)
    if reason is None:
        return device, ()
    error = DeviceUnavailable(
        f"The device '{device}' does not compute with torch {torch.__version__} ({reason})",
        "a device that torch can use",
        "choose the CPU, or install a torch that is built for this card and driver",
    )
    if name != "auto":
        raise error
    return CPU, (Finding.warn(f"{error.found}; the CPU is used instead", "Install a torch that is built for it."),)


def _why_not(device: torch.device) -> str | None:
    """The first line of what torch says when the device is used, or None where it works."""
    try:
        works = (torch.ones(2, device=device) + 1).sum().item() == 4
    except torch.OutOfMemoryError:
        return None  # it is only full, which is dealt with while it runs
    except (RuntimeError, AssertionError) as error:  # AssertionError: this torch was built without CUDA
        return str(error).strip().splitlines()[0][:200]
    return None if works else "1 + 1 is not 2"
