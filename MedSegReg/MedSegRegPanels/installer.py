"""The packages that are missing, installed while the window goes on: pip's plan, a question, the installation."""
# ruff: noqa: N802, N803 - Slicer's names are camelCase

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import slicer
from packaging.requirements import Requirement
from slicer.i18n import tr as _

from MedSegRegLib.errors import MedSegRegError

from .pip_process import PipProcess
from .resolver import installArguments, planArguments, readPlan

Done = Callable[[bool], None]


class Installer:
    """Runs pip, one installation at a time, without waiting for it, and keeps a log.

    What :meth:`install` and :meth:`reinstall` get as ``onDone`` is told whether all is installed; where it is not, the
    log says why, and the user has seen what went wrong. While it is busy, both do nothing.

    Attributes:
        lines: the log of the last installation.
        onChange: called when a line was added, and when an installation has begun or ended.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.onChange: Callable[[], None] = lambda: None
        self._pip: PipProcess | None = None
        self._cancelled = False
        self._onDone: Done = lambda done: None

    @property
    def busy(self) -> bool:
        """Whether pip is at work."""
        return self._pip is not None

    def log(self, line: str) -> None:
        """Add a line to the log."""
        self.lines.append(line)
        slicer.util.showStatusMessage(line, 4000)
        self.onChange()

    def install(
        self, wanted: Sequence[Requirement], onDone: Done, options: Sequence[str] = (), ask: bool = True
    ) -> None:
        """Install packages, none of which replaces one that is there.

        Args:
            options: further options of ``pip install``, such as where wheels lie.
            ask: whether the user is asked, with pip's plan; False where the user has agreed already.
        """
        if self.busy:
            return
        folder, said = tempfile.TemporaryDirectory(prefix="medsegreg-pip-"), list[str]()
        place = Path(folder.name)

        def onEnd(done: bool) -> None:
            folder.cleanup()
            onDone(done)

        def onPlanned(code: int) -> None:
            planned = readPlan(wanted, place, code, said)
            self.log(_("Would add: {packages}").format(packages=", ".join(planned)))
            if ask and not _agrees(planned):
                self._end(False, _("Nothing was installed: it was declined."))
            else:
                self._run(installArguments(wanted, place, options), self.log, self._onInstalled)

        self._begin(onEnd, _("Missing: {packages}").format(packages=", ".join(map(str, wanted))))
        self._run(planArguments(wanted, place, options), said.append, onPlanned)

    def reinstall(self, same: Sequence[str], onDone: Done) -> None:
        """Install packages ("name==version") anew, and nothing that they need."""
        if not self.busy:
            self._begin(onDone, _("Installing anew: {packages}").format(packages=", ".join(same)))
            self._run(["--force-reinstall", "--no-deps", *same], self.log, self._onInstalled)

    def cancel(self) -> None:
        """Stop pip. Nothing happens when it is not at work."""
        if self._pip is not None:
            self._cancelled = True
            self._pip.cancel()

    def _begin(self, onDone: Done, line: str) -> None:
        self.lines, self._onDone, self._cancelled = [], onDone, False
        self.log(line)

    def _run(self, arguments: Sequence[str], onLine: Callable[[str], None], then: Callable[[int], None]) -> None:
        """One run of pip; what comes ``then`` may start the next."""

        def onEnd(code: int) -> None:
            self._pip = None
            if self._cancelled:
                self._end(False, _("Stopped. What is missing can be installed again at any time."))
                return
            try:
                then(code)
            except MedSegRegError as error:
                self._fail(str(error))

        try:
            self._pip = PipProcess(arguments, onLine, onEnd)
        except (OSError, MedSegRegError) as error:
            self._fail(str(error))
        self.onChange()

    def _onInstalled(self, code: int) -> None:
        importlib.invalidate_caches()
        if code:
            text = _("A Python package could not be installed (pip ended with {code}). Check the network connection.")
            self._fail(text.format(code=code))
        else:
            self._end(True, _("Done."))

    def _fail(self, reason: str) -> None:
        self._end(False, reason)
        slicer.util.errorDisplay(reason, detailedText="\n".join(self.lines))

    def _end(self, done: bool, line: str) -> None:
        self.log(line)
        self._onDone(done)
        self.onChange()


def _agrees(planned: Sequence[str]) -> bool:
    question = _("MedSegReg needs these Python packages. Install them into Slicer's Python now?")
    return slicer.util.confirmOkCancelDisplay(question, "MedSegReg", detailedText="\n".join(planned))
