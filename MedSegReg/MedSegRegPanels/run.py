"""Around both walks: one run under a progress dialog that can be cancelled; errors become one plain message."""
# ruff: noqa: N802 - Slicer's names are camelCase

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import qt
import slicer
from slicer.i18n import tr as _

from MedSegRegLib.errors import Cancelled, MedSegRegError
from MedSegRegLib.progress import Progress

Result = TypeVar("Result")


def runWithProgress(title: str, work: Callable[[Progress], Result]) -> Result | None:
    """The result of ``work(progress)``; None after a cancel or an error, which the user has then seen.

    The dialog is modal: Qt repaints it and takes the Cancel button's click whenever its value is set, and lets nothing
    else in the window be touched meanwhile.
    """
    dialog = slicer.util.createProgressDialog(
        windowTitle=title, labelText=title, windowModality=qt.Qt.ApplicationModal, autoClose=False, autoReset=False
    )

    def report(fraction: float, message: str) -> None:
        dialog.labelText = message or title
        dialog.value = round(100 * fraction)

    try:
        dialog.show()
        with slicer.util.tryWithErrorDisplay(_("This is a fault of MedSegReg. Please report the details below.")):
            try:
                return work(Progress(report, lambda: dialog.wasCanceled))
            except Cancelled:
                slicer.util.showStatusMessage(_("Cancelled: the scene was not changed."), 3000)
            except MedSegRegError as error:
                dialog.hide()
                slicer.util.errorDisplay(str(error), windowTitle=title)
    finally:
        dialog.close()
    return None
