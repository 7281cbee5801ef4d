"""Whether processes are there: for tests of what must end."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path


def running(process: int) -> bool:
    """Whether a process is there and not only waiting to be reaped."""
    try:
        return Path(f"/proc/{process}/stat").read_text("ascii").rsplit(")", 1)[1].split()[0] not in "ZX"
    except FileNotFoundError:
        if Path("/proc/self").exists():
            return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def gone_within(seconds: float, condition: Callable[[], bool]) -> bool:
    """Whether a condition ends in time."""
    end = time.monotonic() + seconds
    while condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True
