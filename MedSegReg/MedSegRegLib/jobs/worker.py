"""The child: one request at a time, with everything that was loaded kept for the next. Jobs walk: child -> [worker].

Requests come as lines of JSON on standard input, answers leave as lines of JSON on what was standard output; whatever
libraries print goes to the log instead. Standard input ends when the parent does: then the child removes the temporary
folder and ends its whole process group. Only a supervisor starts this, as the leader of a group.
"""

from __future__ import annotations

import faulthandler
import inspect
import json
import os
import queue
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import InvalidSetting, MedSegRegError, MissingPackage, OutputNotWritable, TooLarge
from ..progress import Progress
from .values import JobResult, as_value, read_values, write_values
from .work import Work

REPORT_SECONDS = 0.1
ESTIMATE_FROM_FRACTION, ESTIMATE_FROM_SECONDS = 0.02, 1.0
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory")

Task = Callable[..., JobResult]


def main() -> None:
    """Serve requests until standard input ends. Arguments: the temporary folder, the module of the tasks."""
    folder, tasks = Path(sys.argv[2]), sys.argv[3]
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    faulthandler.enable()
    worker = Worker(folder, tasks, answers)
    threading.Thread(target=worker.listen, args=(sys.stdin.buffer,), daemon=True).start()
    worker.serve()


class Worker:
    """Reads requests in one thread, and does them in another, the main one.

    Args:
        folder: of the supervisor; job n finds its values in ``<n>`` there, and leaves its results there.
        tasks: module with ``find_task(name)``.
        answers: where messages go.
    """

    def __init__(self, folder: Path, tasks: str, answers: BinaryIO) -> None:
        self._folder, self._tasks, self._answers = folder, tasks, answers
        self._requests: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._cancelled: set[int] = set()
        self._stopped: set[int] = set()
        self._writing = threading.Lock()

    def listen(self, requests: BinaryIO) -> None:
        """Take requests and wishes until the parent is gone, then end everything."""
        for line in requests:
            message = json.loads(line)
            if "cancel" in message:
                self._cancelled.add(message["cancel"])
            elif "stop" in message:
                self._stopped.add(message["stop"])
            else:
                self._requests.put(message)
        for _ in range(10):  # the main thread may be writing a file meanwhile
            shutil.rmtree(self._folder, ignore_errors=True)
            if not self._folder.exists():
                break
        if hasattr(os, "killpg"):
            os.killpg(os.getpgrp(), signal.SIGKILL)
        os._exit(1)

    def serve(self) -> None:
        """Do one request after the other; one that fails in a way nobody foresaw is the last."""
        while True:
            request = self._requests.get()
            try:
                answer = self._run(request)
            except MedSegRegError as error:
                answer = {"error": _described(error)}
            except Exception as error:  # noqa: BLE001 - the process is not used again: GPU and libraries may be in any state
                answer = {"error": _described(_typed(error)), "details": traceback.format_exc(), "unusable": True}
            self._send({"job": request["job"], **answer})

    def _run(self, request: dict[str, Any]) -> dict[str, Any]:
        number, arguments = request["job"], request["arguments"]
        task = import_module(self._tasks).find_task(request["task"])
        _require_arguments(task, request["task"], arguments)
        self._send({"job": number, "started": True})
        folder = self._folder / str(number)
        told = 0

        def tell(data: dict[str, Any], values: Mapping[str, Any]) -> None:
            nonlocal told
            told += 1
            self._send({"job": number, "so_far": self._leave(data, values, folder, f"so-far-{told}-")})

        work = Work(
            read_values(request["values"], folder, mapped=sys.platform != "win32"),
            folder,
            self._progress(number),
            tell,
        )
        work.progress.check_cancelled()
        result = task(work, **arguments)
        return {"result": self._leave(result.data, result.values, folder, "result-")}

    @staticmethod
    def _leave(data: dict[str, Any], values: Mapping[str, Any], folder: Path, prefix: str) -> dict[str, Any]:
        """Put a result where the parent finds it."""
        carried = {name: as_value(value) for name, value in values.items()}
        try:
            return {"data": data, "values": write_values(carried, folder, prefix)}
        except OSError as error:
            raise OutputNotWritable(
                f"The result could not be handed over ({error.strerror})",
                "space in the folder for temporary files",
                "free some space on that disk, then run it again",
            ) from error

    def _progress(self, number: int) -> Progress:
        began, last = time.monotonic(), 0.0

        def report(fraction: float, message: str) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last >= REPORT_SECONDS:
                last, spent = now, now - began
                known = fraction >= ESTIMATE_FROM_FRACTION and spent >= ESTIMATE_FROM_SECONDS
                left = spent * (1 - fraction) / fraction if known else None
                self._send({"job": number, "fraction": fraction, "message": message, "seconds_left": left})

        return Progress(report, lambda: number in self._cancelled, lambda: number in self._stopped)

    def _send(self, message: dict[str, Any]) -> None:
        line = json.dumps(message).encode("ascii") + b"\n"
        with self._writing:
            self._answers.write(line)
            self._answers.flush()


def _require_arguments(task: Task, name: str, arguments: dict[str, Any]) -> None:
    try:
        inspect.signature(task).bind(None, **arguments)
    except TypeError as error:
        names = ", ".join(list(inspect.signature(task).parameters)[1:])
        raise InvalidSetting(
            f"The task '{name}' was given {sorted(arguments)}: {error}", f"arguments among: {names}", "correct them"
        ) from None


def _described(error: MedSegRegError) -> list[str]:
    return [type(error).__name__, error.found, error.expected, error.fix]


def _typed(error: Exception) -> MedSegRegError:
    """What a user can make of an error that no task foresaw."""
    said = f"{type(error).__name__}: {error}".strip().splitlines()[0][:300]
    if isinstance(error, ImportError):
        return MissingPackage(
            f"A Python package is missing or cannot be loaded ({said})",
            "all packages that MedSegReg needs, in the Python that runs the work",
            "install or repair it (in Slicer: section Compute), then run again",
        )
    if isinstance(error, MemoryError) or any(words in str(error).lower() for words in OUT_OF_MEMORY):
        return TooLarge(
            f"Memory ran out ({said})",
            "enough memory for this image",
            "close other programs, choose a region or the CPU, or crop the image",
        )
    return MedSegRegError(
        f"The work failed in a way that was not foreseen ({said})",
        "",
        "run it again, on the CPU if it ran on a GPU; if it fails again, report it with the details",
    )
