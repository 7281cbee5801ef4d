"""What a person does in the window, and how long Qt's event loop stands still meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import perf_counter
from typing import Any

from PySide6 import QtCore, QtWidgets

from .pythonqt import unwrap

PANEL_WIDTH = 350
THREADS = Path("/proc/self/task")


def busy_clock() -> float:
    """Seconds, less those in which a thread of this process was ready to go on but other processes had the cores.

    Linux tells them (schedstat: time on a core, time waited for a core, both in ns); elsewhere none are taken off.
    """
    waited = 0
    for path in THREADS.glob("*/schedstat"):
        with suppress(OSError):  # the thread has ended since
            waited += int(path.read_text(encoding="ascii").split()[1])
    return perf_counter() - waited * 1e-9


class EventLoop:
    """Runs Qt's event loop a while; a timer of 10 ms notices when it stands still by its own doing."""

    def __init__(self) -> None:
        self._longest = 0.0

    def longest_block(self) -> float:
        """Seconds without a turn of the event loop, at most, since the last time it was asked."""
        longest, self._longest = self._longest, 0.0
        return longest

    def click(self, button: Any) -> None:
        """Press a button, as a person can: it must be seen and enabled."""
        widget = unwrap(button)
        assert widget.isVisible(), f"{widget.objectName()} cannot be seen"
        assert widget.isEnabled(), f"{widget.objectName()} is disabled: {widget.toolTip()}"
        above = widget.parentWidget()
        while above is not None:
            assert not above.property("collapsed"), f"{widget.objectName()} is folded away in {above.objectName()}"
            above = above.parentWidget()
        start = busy_clock()
        widget.click()
        self._longest = max(self._longest, busy_clock() - start)

    def wait_until(self, condition: Callable[[], Any], seconds: float = 30.0) -> None:
        """Run the event loop until the condition holds.

        Raises:
            TimeoutError: it did not hold in time.
        """
        end, last = perf_counter() + seconds, busy_clock()

        def beat() -> None:
            nonlocal last
            now = busy_clock()
            self._longest, last = max(self._longest, now - last), now

        timer = QtCore.QTimer()
        timer.setTimerType(QtCore.Qt.PreciseTimer)
        timer.timeout.connect(beat)
        timer.start(10)
        while not condition():
            if perf_counter() > end:
                raise TimeoutError(f"nothing happened within {seconds} s")
            QtCore.QCoreApplication.processEvents(QtCore.QEventLoop.WaitForMoreEvents, 50)
        beat()
        timer.stop()

    def grab(self, widget: Any, path: Path | str) -> None:
        """Write a picture of a control, at the width of Slicer's module panel."""
        shown = unwrap(widget)
        top = shown.window()
        for _ in range(3):  # word-wrapped labels settle their height only after their width
            QtWidgets.QApplication.sendPostedEvents()
            height = max(top.sizeHint().height(), top.layout().totalHeightForWidth(PANEL_WIDTH))
            top.resize(PANEL_WIDTH, height)
            QtCore.QCoreApplication.processEvents()
        assert shown.grab().save(str(path)), f"{path} was not written"
