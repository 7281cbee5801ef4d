"""Follow-up in the window: visits of one patient in; changes with error bars, maps, a chart and a report out."""
# ruff: noqa: N802, N815, PLC0415 - Slicer's names are camelCase; the bridge to the scene is loaded when it is used

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import qt
import slicer
from slicer import vtkMRMLScalarVolumeNode, vtkMRMLTableNode
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper

from MedSegRegLib.mrml.followup_links import FOLLOW_UP, jump_to_change, linked_to
from MedSegRegLib.mrml.slice_layers import SliceLayers

from .panel import Panel
from .parameters import Device, LabelsNode
from .run import showingErrors
from .table_view import showTable

SHOWN = ("structure", "change (ml)", "error (ml)", "verdict")
OPACITY = 0.5


class FollowupMotion(Enum):
    """What may have moved."""

    TISSUE = "followup"
    PATIENT = "rigid"

    def label(self) -> str:
        """As shown in the window."""
        return {"followup": _("Patient and tissue"), "rigid": _("Only the patient")}[self.value]


class FollowupMap(Enum):
    """What the slice views show."""

    OFF = "off"
    EARLIER = "earlier"
    LATER = "later"
    CHANGE = "change"
    VOLUME = "jacobian"

    def label(self) -> str:
        """As shown in the window."""
        return {
            "off": _("As the views are"),
            "earlier": _("Earlier visit"),
            "later": _("Later visit"),
            "change": _("Change of intensity"),
            "jacobian": _("Change of volume"),
        }[self.value]


@parameterNodeWrapper
class FollowupParameters:
    """The panel's settings. Each field without a default is a reference to a node, None at first."""

    followupFirst: vtkMRMLScalarVolumeNode
    followupFirstLabels: LabelsNode
    followupSecond: vtkMRMLScalarVolumeNode
    followupSecondLabels: LabelsNode
    followupThird: vtkMRMLScalarVolumeNode
    followupThirdLabels: LabelsNode
    followupReference: str = ""
    followupSpacing: Annotated[float, WithinRange(0, 10)] = 0.0
    followupBorder: Annotated[float, WithinRange(0, 10)] = 0.0
    followupMotion: FollowupMotion = FollowupMotion.TISSUE
    followupDevice: Device = Device.AUTO
    followupTable: vtkMRMLTableNode
    followupMap: FollowupMap = FollowupMap.OFF
    followupSaid: str = ""


class FollowupPanel(Panel):
    """The section Follow-up."""

    Parameters = FollowupParameters

    def __init__(self, ui, logic, runner) -> None:
        super().__init__(ui, logic, runner)
        self._layers, self._shown = SliceLayers(), None
        ui.followupTableSelector.addAttribute("vtkMRMLTableNode", FOLLOW_UP)
        ui.followupButton.connect("clicked(bool)", self.onCompare)
        ui.followupChartButton.connect("clicked(bool)", self.onShowChart)
        ui.followupReportButton.connect("clicked(bool)", self.onOpenReport)
        for chosen in ("cellClicked(int,int)", "cellActivated(int,int)"):  # by mouse, by the Enter key
            ui.followupChangesTable.connect(chosen, self.onRowChosen)

    def update(self) -> None:
        """Show what can be compared, and what came out last."""
        chosen = self.parameters
        missing = self._missing()
        self.ui.followupButton.enabled = not missing
        self.ui.followupButton.toolTip = missing or _("Find what has changed between the visits.")
        self.ui.followupLabel.text = "" if chosen is None else chosen.followupSaid
        self.ui.followupLabel.visible = bool(self.ui.followupLabel.text)
        table = None if chosen is None else chosen.followupTable
        showTable(self.ui.followupChangesTable, table, SHOWN)
        self._offer(self.ui.followupChartButton, linked_to(table, "chart"), _("Show all volumes in a plot view."))
        self._offer(self.ui.followupReportButton, linked_to(table, "report"), _("Open the report in a browser."))
        self.ui.followupMapSelector.enabled = table is not None
        self._show(table)

    def onCompare(self, _checked: bool = False) -> None:
        """Compare the visits as it is set now."""
        if not self.runner.ready():
            return
        chosen = self.parameters
        with showingErrors(_("Comparing visits")):
            from .followup_run import FollowupRun

            FollowupRun(
                self._visits(),
                chosen.followupReference,
                {
                    "preset": chosen.followupMotion.value,
                    "spacing_mm": chosen.followupSpacing or None,
                    "border_mm": chosen.followupBorder or None,
                    "device": chosen.followupDevice.value,
                },
            ).start(self.runner, lambda nodes, said: self._onCompared(chosen, nodes, said))

    def onRowChosen(self, row: int, _column: int = 0) -> None:
        """Show a change in the slice views, in the maps' own space."""
        chosen = self.parameters
        if chosen.followupMap is FollowupMap.OFF:
            chosen.followupMap = FollowupMap.CHANGE
        jump_to_change(chosen.followupTable, row)

    def onShowChart(self, _checked: bool = False) -> None:
        """Show the volumes in a plot view."""
        slicer.modules.plots.logic().ShowChartInLayout(linked_to(self.parameters.followupTable, "chart"))

    def onOpenReport(self, _checked: bool = False) -> None:
        """Write the report where temporary files are, and open it."""
        path = Path(slicer.app.temporaryPath) / "medsegreg-followup.html"
        with showingErrors(_("Opening the report")):
            path.write_text(linked_to(self.parameters.followupTable, "report").GetText(), encoding="utf-8")
            qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(path)))

    def cleanup(self) -> None:
        """The window is closed: the views show what they showed before."""
        self._layers.restore()
        super().cleanup()

    def _onCompared(self, parameters, nodes, said: list[str]) -> None:
        parameters.followupTable, parameters.followupSaid = nodes.tables[-1], "\n".join(said)
        self.update()

    def _visits(self) -> list[tuple]:
        chosen = self.parameters
        rows = [
            (chosen.followupFirst, chosen.followupFirstLabels),
            (chosen.followupSecond, chosen.followupSecondLabels),
            (chosen.followupThird, chosen.followupThirdLabels),
        ]
        return [(volume, labels) for volume, labels in rows if volume is not None]

    def _offer(self, button, node, purpose: str) -> None:
        button.enabled = node is not None
        button.toolTip = purpose if node is not None else _("Compare visits first.")

    def _show(self, table) -> None:
        """The chosen map over the later visit, or the views as they were."""
        wanted = FollowupMap.OFF if table is None else self.parameters.followupMap
        below = linked_to(table, "earlier" if wanted is FollowupMap.EARLIER else "later")
        above = linked_to(table, wanted.value) if wanted in (FollowupMap.CHANGE, FollowupMap.VOLUME) else None
        shown = None if wanted is FollowupMap.OFF or below is None else (below, above)
        if shown == self._shown:
            return
        self._layers.restore()
        if shown is not None:
            opacity = 0.0 if above is None else OPACITY
            self._layers.change(table.GetScene(), below, above or below, opacity)
        self._shown = shown

    def _missing(self) -> str:
        """Why nothing can be compared now; empty when it can."""
        chosen = self.parameters
        if chosen is None or chosen.followupFirst is None or chosen.followupSecond is None:
            return _("Select the volumes of two visits first.")
        volumes = [volume for volume, _labels in self._visits()]
        if len(set(volumes)) < len(volumes):
            return _("One volume is chosen for two visits. Select different ones.")
        if self.runner.busy:
            return _("A job is running. Wait for it, or cancel it.")
        return ""
