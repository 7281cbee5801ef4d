"""The only place where the window starts work. Window's walk: panel -> [runner] -> job system -> runner -> panel.

A job runs in a child process; a timer looks at what it has said. Nothing here waits, and nothing in the scene changes
until a panel writes the complete result.
"""
# ruff: noqa: N802, N803, N815 - Slicer's names are camelCase

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from MedSegRegLib.errors import MedSegRegError
from MedSegRegLib.jobs import Done, Failed, Intermediate, Progressed, Started, Supervisor

POLL_MS = 100
KEEPABLE = ("register", "correct")
"""Tasks that have something to keep when they are stopped early."""
BAR_STEPS = 1000


@dataclass(eq=False)
class Job:
    """What the runner remembers of the job that runs."""

    number: int
    title: str
    onDone: Callable[[Any], None]
    onEvent: Callable[[Any], None] | None
    watched: tuple[Any, ...]
    started: float
    cancelled: bool = False


class Runner:
    """Runs one job of the window at a time, and shows it in the status area.

    Args:
        ui: the named widgets of MedSegReg.ui.
        ready: whether torch and the other packages are there; asks the user before it installs any. Asked before each
            job, and by panels before they import what needs torch. False stops the work (the user has seen why).
        onChange: called when a job has begun or ended.
        makeSupervisor: gives the job system, when the first job is started.
    """

    def __init__(
        self,
        ui,
        ready: Callable[[], bool],
        onChange: Callable[[], None],
        makeSupervisor: Callable[[], Supervisor] = Supervisor,
    ) -> None:
        self.ui, self.ready, self._onChange = ui, ready, onChange
        self._makeSupervisor = makeSupervisor
        self._supervisor: Supervisor | None = None
        self._job: Job | None = None
        self._timer = qt.QTimer()
        self._timer.interval = POLL_MS
        self._timer.connect("timeout()", self.poll)
        ui.cancelButton.connect("clicked(bool)", self.cancel)
        ui.keepButton.connect("clicked(bool)", self.stopAndKeep)

    @property
    def busy(self) -> bool:
        """Whether a job of the window runs."""
        return self._job is not None

    def start(
        self,
        title: str,
        task: str,
        arguments: Mapping[str, Any],
        images: Mapping[str, Any],
        onDone: Callable[[Any], None],
        *,
        watched: Sequence[Any] = (),
        onEvent: Callable[[Any], None] | None = None,
    ) -> bool:
        """Start a job, unless one runs already.

        Args:
            title: what is done to what, for people.
            task, arguments, images: as for ``Supervisor.submit``: name, plain JSON, arrays or images by name.
            onDone: given the JobResult, when it is complete; writes the nodes. Not called after a cancel or an error.
            watched: nodes without which the result is worth nothing: when one is removed, the job is cancelled.
            onEvent: given each ``Intermediate`` on the way.

        Returns:
            False when it was not started; the user has seen why.
        """
        if self.busy:
            slicer.util.showStatusMessage(_("Another job is running. Wait for it, or cancel it."), 4000)
            return False
        if not self.ready():
            return False
        with showingErrors(title):
            self._supervisor = self._supervisor or self._makeSupervisor()
            number = self._supervisor.submit(task, dict(arguments), dict(images))
            self._job = Job(number, title, onDone, onEvent, tuple(watched), time.monotonic())
            self._showStart(title, task in KEEPABLE)
            self._timer.start()
            self._onChange()
        return self.busy

    def cancel(self, _checked: bool = False) -> None:
        """Ask the job to stop; the scene stays as it was. Nothing happens when none runs."""
        if self._job is not None:
            self._supervisor.cancel(self._job.number)
            self._job.cancelled = True
            self.ui.keepButton.enabled = self.ui.cancelButton.enabled = False
            self.ui.messageLabel.text = _("Stopping")

    def stopAndKeep(self, _checked: bool = False) -> None:
        """Ask the job to end with the best result so far."""
        if self._job is not None:
            self._supervisor.stop_and_keep(self._job.number)
            self.ui.keepButton.enabled = False
            self.ui.messageLabel.text = _("Stopping")

    def abandon(self, reason: str) -> None:
        """Cancel the job and drop whatever it still says, because what it would be written to is gone."""
        if self._job is not None:
            self._supervisor.cancel(self._job.number)
            self._end(reason)

    def release(self) -> None:
        """End the child process, if it has nothing to do: packages that were installed now are seen by the next one."""
        if self._supervisor is not None:
            self._supervisor.release()

    def close(self) -> None:
        """The window is closed: nothing of a job is left behind."""
        self._timer.stop()
        self._job = None
        if self._supervisor is not None:
            self._supervisor.close()
            self._supervisor = None

    def poll(self) -> None:
        """Look at what the job has said; called by the timer."""
        if self._job is not None and any(node.GetScene() is None for node in self._job.watched):
            self.abandon(_("What the job worked on was removed: the job was stopped."))
        for event in self._supervisor.poll():
            if self._job is not None and event.job == self._job.number:
                self._take(self._job, event)
        if self._job is None and not self._supervisor.busy:
            self._timer.stop()

    def _take(self, job: Job, event: Any) -> None:
        if job.cancelled:
            if isinstance(event, (Done, Failed)):  # it may have been complete before it heard of it
                self._end(_("Cancelled: the scene was not changed."))
        elif isinstance(event, Started):
            self.ui.messageLabel.text = _("Started")
        elif isinstance(event, Progressed):
            self._showProgress(event)
        elif isinstance(event, Intermediate) and job.onEvent is not None:
            with showingErrors(job.title):
                job.onEvent(event)
        elif isinstance(event, Done):
            self._end(_("Done in {duration}.").format(duration=duration(time.monotonic() - job.started)))
            with showingErrors(job.title):
                job.onDone(event.result)
            self._onChange()
        elif isinstance(event, Failed):
            self._fail(job, event)

    def _fail(self, job: Job, event: Failed) -> None:
        self._end(str(event.error))
        more = {"detailedText": event.details} if event.details else {}
        slicer.util.errorDisplay(str(event.error), windowTitle=job.title, **more)

    def _end(self, message: str) -> None:
        self._job = None
        for widget in (self.ui.progressBar, self.ui.keepButton, self.ui.cancelButton, self.ui.timeLabel):
            widget.visible = False
        self.ui.messageLabel.text = message
        slicer.util.showStatusMessage(message, 4000)
        self._onChange()

    def _showStart(self, title: str, keepable: bool) -> None:
        self.ui.statusFrame.visible = True
        self.ui.taskLabel.text = title
        self.ui.timeLabel.text = ""
        self.ui.messageLabel.text = _("Getting ready")
        self.ui.progressBar.maximum = 0  # moves without saying how far
        for widget in (self.ui.progressBar, self.ui.cancelButton, self.ui.timeLabel):
            widget.visible = True
        self.ui.keepButton.visible = keepable
        self.ui.keepButton.enabled = self.ui.cancelButton.enabled = True

    def _showProgress(self, event: Progressed) -> None:
        self.ui.progressBar.maximum = BAR_STEPS
        self.ui.progressBar.value = round(BAR_STEPS * event.fraction)
        self.ui.messageLabel.text = event.message
        left = event.seconds_left
        self.ui.timeLabel.text = "" if left is None else _("{duration} left").format(duration=duration(left))


@contextmanager
def showingErrors(title: str) -> Iterator[None]:
    """Tell the user what goes wrong inside; a fault of ours with what a report needs."""
    with slicer.util.tryWithErrorDisplay(_("This is a fault of MedSegReg. Please report the details below.")):
        try:
            yield
        except MedSegRegError as error:
            slicer.util.errorDisplay(str(error), windowTitle=title)


def duration(seconds: float) -> str:
    """A length of time for people."""
    if seconds < 90:
        return _("{count} s").format(count=max(round(seconds), 1))
    if seconds < 5400:
        return _("{count} min").format(count=round(seconds / 60))
    return _("{count} h").format(count=round(seconds / 3600))
