"""What the benchmarks share about measuring: CPU time and memory of the own process. No package is needed."""

from __future__ import annotations

import os
import resource
from pathlib import Path


def cpu_seconds() -> float:
    """User and system time of this process and of its finished children."""
    return sum(os.times()[:4])


def resident_mib() -> float:
    """Memory of this process now."""
    return _status("VmRSS")


def peak_mib() -> float:
    """Largest memory of this process so far."""
    return _status("VmHWM")


def child_peak_mib() -> float:
    """Largest memory of any finished child."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def _status(line: str) -> float:
    for text in Path("/proc/self/status").read_text().splitlines():
        if text.startswith(line):
            return int(text.split()[1]) / 1024
    raise OSError(f"/proc/self/status has no {line}")
