"""The choice how two volumes are compared in the slice views, and what changes them in time."""
# ruff: noqa: N803 - Slicer's names are camelCase

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

import qt
from slicer.i18n import tr as _

from MedSegRegLib.mrml.comparison import Comparison

FLICKER_MS = 500


class ComparisonView(Enum):
    """What the slice views show."""

    OFF = "off"
    BLEND = "blend"
    CHECKERBOARD = "checkerboard"
    FLICKER = "flicker"

    def label(self) -> str:
        """As shown in the window."""
        return {
            "off": _("As the views are"),
            "blend": _("Blend"),
            "checkerboard": _("Checkerboard"),
            "flicker": _("Flicker"),
        }[self.value]


class Comparing:
    """Shows two volumes as chosen, until it is ended.

    Args:
        isSeen: whether the person can see the choice; the views do not flicker while another module is open.
    """

    def __init__(self, isSeen: Callable[[], bool]) -> None:
        self._isSeen = isSeen
        self._comparison = Comparison()
        self._shown: tuple = ()
        self._timer = qt.QTimer()
        self._timer.interval = FLICKER_MS
        self._timer.connect("timeout()", self._flip)

    def show(self, view: ComparisonView, fixed, moving) -> None:
        """Show both; nothing happens when they are shown like this already.

        Raises:
            MedSegRegError: the fixed volume cannot be shown as a checkerboard.
        """
        if self._shown == (view, fixed, moving):
            return
        self.end()
        if view is not ComparisonView.OFF:
            self._comparison.show(view.value, fixed, moving)
        if view is ComparisonView.FLICKER:
            self._timer.start()
        self._shown = (view, fixed, moving)

    def end(self) -> None:
        """The views show what they showed before."""
        self._timer.stop()
        self._comparison.end()
        self._shown = ()

    def _flip(self) -> None:
        if self._isSeen():
            self._comparison.flip()
