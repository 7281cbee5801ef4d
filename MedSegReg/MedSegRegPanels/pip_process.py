"""pip in a process of its own: heard line by line, never waited for, and stopped when the user wants. Part of
``installer``.

Slicer's own ``pip_install(blocking=False)`` does not wait either, but gives nothing that it could be stopped by.
"""
# ruff: noqa: N803 - Slicer's names are camelCase

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress

import qt

from MedSegRegLib.interpreter import find_python

POLL_MS = 100
WINDOWS = sys.platform == "win32"
QUIET = ("--no-input", "--disable-pip-version-check", "--only-binary=:all:", "--progress-bar", "off")


class PipProcess:
    """Runs ``pip install`` with some arguments.

    Args:
        arguments: what follows the word install.
        onLine: given each line that pip says.
        onEnd: given pip's exit code when it has ended, also after :meth:`cancel`.

    Raises:
        OSError, MissingPackage: there is no Python that could be started.
    """

    def __init__(self, arguments: Sequence[str], onLine: Callable[[str], None], onEnd: Callable[[int], None]) -> None:
        self._onLine, self._onEnd = onLine, onEnd
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._process = subprocess.Popen(
            [find_python(), "-m", "pip", "install", *QUIET, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            start_new_session=not WINDOWS,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        threading.Thread(target=self._read, daemon=True).start()
        self._timer = qt.QTimer()
        self._timer.interval = POLL_MS
        self._timer.connect("timeout()", self._poll)
        self._timer.start()

    def cancel(self) -> None:
        """Stop pip, also behind Slicer's launcher; where it can, it takes back what it has begun."""
        if WINDOWS:
            command = ["taskkill", "/T", "/F", "/PID", str(self._process.pid)]
            subprocess.run(command, capture_output=True, check=False)
        else:
            with suppress(ProcessLookupError, PermissionError):  # it has ended by itself
                os.killpg(self._process.pid, signal.SIGINT)

    def _read(self) -> None:
        for line in self._process.stdout or ():
            self._lines.put(line.rstrip())
        self._process.wait()
        self._lines.put(None)

    def _poll(self) -> None:
        while True:
            try:
                line = self._lines.get_nowait()
            except queue.Empty:
                return
            if line is None:
                self._timer.stop()
                self._onEnd(self._process.returncode)
                return
            self._onLine(line)
