"""One child process as the parent sees it. Jobs walk: supervisor -> [child] -> worker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import MedSegRegError, WorkerLost
from .death import cause_of_death
from .python import command

LOG = "log.txt"
LOG_END_CHARACTERS = 4000
WINDOWS = sys.platform == "win32"


class Child:
    """A worker, from its start to its end.

    Args:
        python: the executable.
        folder: of the supervisor.
        tasks: module of the tasks.
        deliver: called in a thread of its own with each message, at last with None.

    Raises:
        WorkerLost: it cannot be started.
    """

    def __init__(
        self, python: str, folder: Path, tasks: str, deliver: Callable[[Child, dict[str, Any] | None], None]
    ) -> None:
        self._log, self._deliver = folder / LOG, deliver
        try:
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(
                    command(python, folder, tasks),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    start_new_session=not WINDOWS,
                    creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
                )
        except OSError as error:
            raise WorkerLost(
                f"'{python}' cannot be started ({error.strerror})", "a Python executable", "choose another one"
            ) from error
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Of the process that was started."""
        return self._process.pid

    def send(self, message: dict[str, Any]) -> None:
        """Hand over a line of JSON; a child that is gone is told about by ``deliver``."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.write(json.dumps(message).encode("ascii") + b"\n")
            self._process.stdin.flush()

    def forget_log(self) -> None:
        """Begin the log anew."""
        os.truncate(self._log, 0)

    def end(self) -> None:
        """Kill it and all that it started, and wait until it is gone. Its ``deliver`` is not called any more then."""
        if WINDOWS:
            subprocess.run(["taskkill", "/T", "/F", "/PID", str(self.pid)], capture_output=True, check=False)
        else:
            with suppress(ProcessLookupError, PermissionError):  # macOS: the latter, of a group that is only a dead one
                os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            with suppress(OSError):  # what was not written yet is for nobody
                stream.close()

    def cause_of_death(self) -> tuple[MedSegRegError, str]:
        """Why it ended by itself, and the end of its log; to be asked before :meth:`end`."""
        status = self._process.wait()
        log = self._log.read_text("utf-8", "replace")[-LOG_END_CHARACTERS:]
        return cause_of_death(status, log), log

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._deliver(self, json.loads(line))
        self._deliver(self, None)
