"""What a window or a script sees of the job system. Jobs walk: window -> [supervisor] -> scheduler -> child.

Its methods only put commands into the scheduler's queue and take events from another.
"""

from __future__ import annotations

import atexit
import itertools
import json
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import InvalidSetting
from .events import Done, Event, Failed
from .scheduler import Commands, Job, Scheduler
from .values import JobResult, as_value

TASKS = "MedSegRegLib.jobs.tasks"
YIELD_SECONDS = 0.002
"""Where the window holds Python's lock between two polls, as Slicer does, the threads here run only during a poll."""


class Supervisor:
    """Runs tasks in a child process, one after the other. The package's page says what each method does.

    Args:
        python: executable of the child; None: see :func:`MedSegRegLib.interpreter.find_python`.
        tasks: module, in the child, with ``find_task(name)``.
        idle_seconds: after so long without a job the child is ended.
        patience_seconds: after so long without an answer to a cancel the child is killed.
        folder: where the temporary folder is made; None: where the system keeps them.
    """

    def __init__(
        self,
        python: str | Path | None = None,
        *,
        tasks: str = TASKS,
        idle_seconds: float = 600.0,
        patience_seconds: float = 4.0,
        folder: str | Path | None = None,
    ) -> None:
        self._numbers = itertools.count(1)
        self._commands: Commands = queue.SimpleQueue()
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._held: list[Event] = []
        self._open: set[int] = set()
        self._thread: threading.Thread | None = None
        self._scheduler = Scheduler(python, tasks, idle_seconds, patience_seconds, folder, self._commands, self._tell)

    def submit(
        self, task: str, arguments: Mapping[str, Any] | None = None, values: Mapping[str, Any] | None = None
    ) -> int:
        """Queue a job and give its number.

        Raises:
            InvalidSetting: arguments that JSON cannot hold.
            InputError: a value that cannot be handed over.
        """
        try:
            plain = json.loads(json.dumps(dict(arguments or {})))
        except (TypeError, ValueError) as error:
            raise InvalidSetting(
                f"The arguments of '{task}' are not plain JSON ({error})",
                "numbers, texts, lists and dictionaries",
                "convert arrays by tolist(), or give them as values",
            ) from None
        carried = {name: as_value(value) for name, value in (values or {}).items()}
        job = Job(next(self._numbers), task, plain, {})
        self._open.add(job.number)
        if self._thread is None:
            self._thread = threading.Thread(target=self._scheduler.run, name="MedSegReg jobs", daemon=True)
            self._thread.start()
            atexit.register(self.close)
        self._commands.put(partial(self._scheduler.add, job, carried))
        return job.number

    def poll(self) -> list[Event]:
        """Events since the last call."""
        time.sleep(YIELD_SECONDS)
        events, self._held = self._held, []
        while not self._events.empty():
            events.append(self._events.get())
        return events

    def wait(self, job: int, on_event: Callable[[Event], None] | None = None) -> JobResult:
        """Block until a job has ended.

        Raises:
            MedSegRegError: the job's.
            InvalidSetting: no such job, or its end was told before.
        """
        others: list[Event] = []
        seen: deque[Event] = deque()
        try:
            while True:
                ended = job not in self._open  # asked first: the last event is told before the job is closed
                seen.extend(self.poll() or self._next_event())
                while seen:
                    event = seen.popleft()
                    if event.job != job:
                        others.append(event)
                    elif isinstance(event, Done):
                        return event.result
                    elif isinstance(event, Failed):
                        raise event.error
                    elif on_event is not None:
                        on_event(event)
                if ended:
                    raise InvalidSetting(f"There is no job {job} to wait for", "a running one", "submit it again")
        finally:
            self._held = [*others, *seen]

    def _tell(self, event: Event) -> None:
        self._events.put(event)
        if isinstance(event, (Done, Failed)):
            self._open.discard(event.job)

    def _next_event(self) -> list[Event]:
        try:
            return [self._events.get(timeout=0.5)]  # bounded, so that Ctrl-C comes through on every system
        except queue.Empty:
            return []

    @property
    def busy(self) -> bool:
        """Whether a job is queued or running."""
        return bool(self._open)

    def cancel(self, job: int) -> None:
        """Stop a job, if need be by force."""
        self._commands.put(partial(self._scheduler.cancel, job))

    def stop_and_keep(self, job: int) -> None:
        """End a job as soon as it has something to keep."""
        self._commands.put(partial(self._scheduler.stop, job))

    def release(self) -> None:
        """End the child if it has nothing to do."""
        self._commands.put(self._scheduler.end_idle_child)

    def close(self) -> None:
        """End everything, at once, and leave nothing behind; a later job starts anew."""
        thread, self._thread = self._thread, None
        if thread is not None:
            atexit.unregister(self.close)
            self._commands.put(None)
            thread.join()

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
