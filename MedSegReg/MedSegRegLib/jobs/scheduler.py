"""Jobs in a queue and the child that does them, in one thread that owns both. Jobs walk: -> [scheduler] -> child.

It takes commands from a queue, put there by the supervisor and by the child's reader, so that no state is shared.
"""

from __future__ import annotations

import queue
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from .. import errors
from ..errors import Cancelled, MedSegRegError, OutputNotWritable
from ..interpreter import find_python
from .child import Child
from .events import Done, Event, Failed, Intermediate, Progressed, Started
from .values import JobResult, Value, read_values, write_values

PREFIX = "medsegreg-jobs-"
ABANDONED_SECONDS = 7 * 24 * 3600.0
"""A folder that old is of a parent and a child that were killed together: no child stays so long without a new job."""
LOADING = "loading the libraries"

Commands = queue.SimpleQueue[Callable[[], None] | None]


@dataclass(eq=False)
class Job:
    """What is known about a job that has not ended."""

    number: int
    task: str
    arguments: dict[str, Any]
    values: dict[str, Any]
    started: bool = False
    cancelled: bool = False


class Scheduler:
    """See :class:`.supervisor.Supervisor` for the arguments; all methods but ``run`` are called by ``run`` only.

    Args:
        commands: what to do next; None ends everything.
        tell: called with each event.
    """

    def __init__(
        self,
        python: str | Path | None,
        tasks: str,
        idle_seconds: float,
        patience_seconds: float,
        place: str | Path | None,
        commands: Commands,
        tell: Callable[[Event], None],
    ) -> None:
        self._python, self._tasks, self._place = python, tasks, place
        self._idle_seconds, self._patience_seconds = idle_seconds, patience_seconds
        self._commands, self._tell = commands, tell
        self._jobs: deque[Job] = deque()  # the first one runs
        self._child: Child | None = None
        self._folder: Path | None = None
        self._deadline: float | None = None

    def run(self) -> None:
        """Do what is commanded until the end."""
        while True:
            try:
                command = self._commands.get(timeout=self._seconds_to_deadline())
            except queue.Empty:
                command = self._at_deadline
            if command is None:
                break
            command()
            if self._seconds_to_deadline() == 0:
                self._at_deadline()
        self._end_child()
        for job in tuple(self._jobs):
            self._finish(job, Failed(job.number, Cancelled()))
        self._remove_folder()
        self._deadline = None

    def _seconds_to_deadline(self) -> float | None:
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def _at_deadline(self) -> None:
        """A cancel that was not answered, or a child that has been idle."""
        self._deadline = None
        if self._jobs:
            self._end_job_by_force()
        else:
            self.end_idle_child()

    def add(self, job: Job, values: dict[str, Value]) -> None:
        """Take a job into the queue, its values to the disk."""
        if not self._jobs and self._folder is not None and not self._folder.is_dir():
            self.end_idle_child()  # something that cleans up temporary files has taken its folder
        self._jobs.append(job)
        try:
            folder = self._make_folder() / str(job.number)
            folder.mkdir()
            job.values = write_values(values, folder, "value-")
        except (OSError, ValueError) as error:
            failure = OutputNotWritable(
                f"The input could not be handed over ({error})",
                "plain arrays, and space in the folder for temporary files",
                "free some space on that disk, then run it again",
            )
            self._finish(job, Failed(job.number, failure))
        if self._jobs == deque([job]) or not self._jobs:
            self._start_first()

    def _start_first(self) -> None:
        """Hand the first job to the child, which is started if there is none; without a job the wait for one begins."""
        self._deadline = None
        while self._jobs:
            job = self._jobs[0]
            try:
                child = self._child or self._start_child(job)
            except MedSegRegError as error:
                self._finish(job, Failed(job.number, error))
                continue
            child.forget_log()
            child.send({"job": job.number, "task": job.task, "arguments": job.arguments, "values": job.values})
            return
        self._deadline = time.monotonic() + self._idle_seconds

    def _start_child(self, job: Job) -> Child:
        python = str(self._python or find_python())
        self._child = Child(python, self._make_folder(), self._tasks, self._deliver)
        self._tell(Progressed(job.number, 0.0, LOADING, None))
        return self._child

    def cancel(self, number: int) -> None:
        """End a job without a result."""
        job = self._find(number)
        if job is None or job.cancelled:
            return
        job.cancelled = True
        if job is not self._jobs[0]:
            self._finish(job, Failed(number, Cancelled()))
        elif job.started and self._child is not None:
            self._child.send({"cancel": number})
            self._deadline = time.monotonic() + self._patience_seconds
        else:  # it still imports, which cannot be interrupted
            self._end_job_by_force()

    def stop(self, number: int) -> None:
        """Ask the running job to end with what it has."""
        if self._jobs and self._jobs[0].number == number and self._child is not None:
            self._child.send({"stop": number})

    def _find(self, number: int) -> Job | None:
        return next((job for job in self._jobs if job.number == number), None)

    def _end_job_by_force(self) -> None:
        self._end_child()
        self._finish(self._jobs[0], Failed(self._jobs[0].number, Cancelled()))
        self._start_first()

    def _finish(self, job: Job, event: Event) -> None:
        """The last event of a job; what it had on the disk is gone before."""
        self._jobs.remove(job)
        if self._folder is not None:
            shutil.rmtree(self._folder / str(job.number), ignore_errors=True)
        self._tell(event)

    def _deliver(self, child: Child, message: dict[str, Any] | None) -> None:
        """From the child's reader thread: values are read here, so that nobody else waits for the disk."""
        values: dict[str, Value] = {}
        result = None if message is None else message.get("result", message.get("so_far"))
        if message is not None and result is not None and self._folder is not None:
            try:
                values = read_values(result["values"], self._folder / str(message["job"]), mapped=False)
            except (OSError, ValueError, MemoryError) as error:
                found = f"The result could not be read ({error})"
                sentences = ["WorkerLost", found, "a whole result", "run it again"]
                message = {"job": message["job"], "error": sentences, "unusable": True}
        self._commands.put(partial(self._take, child, message, values))

    def _take(self, child: Child, message: dict[str, Any] | None, values: dict[str, Value]) -> None:
        """What the child said; of an earlier child nothing is taken."""
        if child is not self._child:
            return
        if message is None:
            self._bury(child)
            return
        job = self._find(message["job"])
        if job is None:
            return
        number = job.number
        if "started" in message:
            job.started = True
            self._tell(Started(number))
        elif "fraction" in message:
            self._tell(Progressed(number, message["fraction"], message["message"], message["seconds_left"]))
        elif "so_far" in message:
            self._tell(Intermediate(number, JobResult(message["so_far"]["data"], values)))
        else:
            if message.get("unusable"):
                self._end_child()
            self._finish(job, _last_event(job, message, values))
            self._start_first()

    def _bury(self, child: Child) -> None:
        """The child has ended by itself."""
        error, log = child.cause_of_death()
        self._end_child()
        if self._jobs:
            job = self._jobs[0]
            self._finish(job, Failed(job.number, Cancelled() if job.cancelled else error, log))
        self._start_first()

    def end_idle_child(self) -> None:
        """End the child if it has nothing to do."""
        if not self._jobs:
            self._end_child()
            self._remove_folder()

    def _end_child(self) -> None:
        if self._child is not None:
            self._child.end()
            self._child = None

    def _make_folder(self) -> Path:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=self._place))
            for old in self._folder.parent.glob(f"{PREFIX}*"):
                if time.time() - old.stat().st_mtime > ABANDONED_SECONDS:
                    shutil.rmtree(old, ignore_errors=True)
        return self._folder

    def _remove_folder(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None


def _last_event(job: Job, message: dict[str, Any], values: dict[str, Value]) -> Event:
    if job.cancelled:
        return Failed(job.number, Cancelled())
    if "result" in message:
        return Done(job.number, JobResult(message["result"]["data"], values))
    name, *sentences = message["error"]
    return Failed(job.number, getattr(errors, name)(*sentences), message.get("details", ""))
