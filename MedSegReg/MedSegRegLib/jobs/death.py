"""Why a child ended that should not have. Jobs walk: child -> [death] -> an error that names the likely cause."""

from __future__ import annotations

import re
import signal

from ..errors import MedSegRegError, MissingPackage, WorkerLost

AGAIN = "run it again"
MEMORY = "close other programs, choose a region, a smaller image or a coarser setting"
BROKEN = f"{AGAIN}; if it happens again, reinstall torch and the graphics driver, or choose the CPU"
SPACE = "free some space in the folder for temporary files"

SIGNALS = {
    "SIGKILL": ("was killed from outside: most likely the system ran out of memory", MEMORY),
    "SIGTERM": ("was ended from outside", AGAIN),
    "SIGSEGV": ("crashed (memory access violation) inside a library or a driver", BROKEN),
    "SIGABRT": ("was aborted by a library", BROKEN),
    "SIGBUS": ("lost a file or the disk that its data lay on: most likely the disk is full", SPACE),
    "SIGILL": ("met an instruction that this processor does not have", "install a torch that is built for it"),
    "SIGFPE": ("crashed (arithmetic fault) inside a library", BROKEN),
}
WINDOWS_STATUS = {
    0xC0000005: SIGNALS["SIGSEGV"],
    0xC0000017: ("ran out of memory", MEMORY),
    0xC000001D: SIGNALS["SIGILL"],
    0xC00000FD: ("crashed (stack overflow) inside a library", BROKEN),
    0xC0000135: ("could not load a library file (DLL)", "install or repair torch and its packages"),
    0xC0000409: ("was aborted by a library (a fault or no memory)", BROKEN),
}
FAULTS = {"Segmentation fault": "SIGSEGV", "Aborted": "SIGABRT", "Bus error": "SIGBUS", "Illegal instruction": "SIGILL"}
FAULT = re.compile(r"^Fatal Python error: (.+)$", re.MULTILINE)
HIDDEN_BY_LAUNCHER = "exit abnormally"
"""What Slicer's launcher writes when its child was ended by a signal; its own status is then 1."""
NO_MEMORY = re.compile(r"bad_alloc|MemoryError|[Cc]annot allocate memory|out of memory")
IMPORT = re.compile(r"^(?:ModuleNotFoundError|ImportError): (.+)$", re.MULTILINE)


def cause_of_death(status: int, log: str) -> MedSegRegError:
    """The error to show.

    Args:
        status: as ``Popen.returncode``; a launcher between may have turned signal n into 128 + n.
        log: what the child and its libraries wrote.
    """
    missing = IMPORT.findall(log)
    if missing and status == 1:
        return MissingPackage(
            f"The process that does the work cannot start ({missing[-1]})",
            "all packages that MedSegReg needs, in the Python that runs the work",
            "install or repair them (in Slicer: section Compute), then run again",
        )
    said, fix = _said(_signal_name(status, log), status)
    if NO_MEMORY.search(log):
        said, fix = "ran out of memory", MEMORY
    return WorkerLost(f"The process that did the work {said} (status {status})", "it to finish", fix)


def _signal_name(status: int, log: str) -> str:
    """Of the signal that ended it; empty where none did."""
    try:
        return signal.Signals(-status if status < 0 else status - 128).name
    except ValueError:
        if HIDDEN_BY_LAUNCHER not in log:
            return ""
    faults = FAULT.findall(log)
    return FAULTS.get(faults[-1], "SIGABRT") if faults else "SIGKILL"


def _said(name: str, status: int) -> tuple[str, str]:
    if name in SIGNALS:
        return SIGNALS[name]
    ended = "ended before its work was done", f"{AGAIN}; if it happens again, report it with the details"
    return WINDOWS_STATUS.get(status & 0xFFFFFFFF, ended)
