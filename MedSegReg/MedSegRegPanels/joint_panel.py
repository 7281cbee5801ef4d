"""Joint refinement in the window: two segmented studies help each other, and show where they contradict each other."""
# ruff: noqa: N802, N815, PLC0415 - Slicer's names are camelCase; the bridge to the scene is loaded when it is used

from __future__ import annotations

import slicer
from slicer import vtkMRMLScalarVolumeNode, vtkMRMLTableNode
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import parameterNodeWrapper

from .panel import Panel
from .parameters import Device, LabelsNode
from .registration_presets import PresetOrAutomatic
from .run import showingErrors
from .table_view import showTable

SHOWN = ("structure", "Dice, own and carried", "distance of borders (mm)")


@parameterNodeWrapper
class JointParameters:
    """The panel's settings. Each field without a default refers to a node: none at first."""

    jointFixed: vtkMRMLScalarVolumeNode
    jointFixedLabels: LabelsNode
    jointMoving: vtkMRMLScalarVolumeNode
    jointMovingLabels: LabelsNode
    jointPreset: PresetOrAutomatic = PresetOrAutomatic.AUTO
    jointDevice: Device = Device.AUTO
    jointAgreement: vtkMRMLTableNode
    jointSaid: str = ""


class JointPanel(Panel):
    """The section Joint."""

    Parameters = JointParameters

    def __init__(self, ui, logic, runner) -> None:
        super().__init__(ui, logic, runner)
        ui.jointButton.connect("clicked(bool)", self.onRefine)
        for chosen in ("cellClicked(int,int)", "cellActivated(int,int)"):  # by mouse, by the Enter key
            ui.jointTable.connect(chosen, self.onRowChosen)

    def update(self) -> None:
        """Show whether it can run, and what came of it."""
        chosen, missing = self.parameters, self._missing()
        self.ui.jointButton.enabled = not missing
        self.ui.jointButton.toolTip = missing or _("Register both studies with the help of their segmentations.")
        self.ui.jointLabel.text = "" if chosen is None else chosen.jointSaid
        self.ui.jointLabel.visible = bool(self.ui.jointLabel.text)
        showTable(self.ui.jointTable, None if chosen is None else chosen.jointAgreement, SHOWN)

    def onRefine(self, _checked: bool = False) -> None:
        """Refine as it is set now."""
        if not self.runner.ready():
            return
        chosen = self.parameters
        names = {"fixed": chosen.jointFixed.GetName(), "moving": chosen.jointMoving.GetName()}
        with showingErrors(_("Refining {fixed} and {moving} together").format(**names)):
            from .joint_run import JointRun

            JointRun(
                (chosen.jointFixed, chosen.jointMoving),
                (chosen.jointFixedLabels, chosen.jointMovingLabels),
                {"preset": chosen.jointPreset.value, "device": chosen.jointDevice.value},
            ).start(self.runner, lambda table, said: self._onRefined(chosen, table, said))

    def onRowChosen(self, row: int, _column: int = 0) -> None:
        """Show a structure in the slice views."""
        table = self.parameters.jointAgreement
        with showingErrors(_("Showing a structure")):
            from MedSegRegLib.mrml.review_links import show_reviewed

            if not show_reviewed(table, row):
                slicer.util.showStatusMessage(_("There is nothing of this structure in the fixed study."), 4000)

    def _onRefined(self, parameters, table, said: list[str]) -> None:
        parameters.jointAgreement, parameters.jointSaid = table, "\n".join(said)
        self.update()

    def _missing(self) -> str:
        """Why nothing can be refined now; empty when it can."""
        chosen = self.parameters
        if chosen is None or None in (
            chosen.jointFixed, chosen.jointMoving, chosen.jointFixedLabels, chosen.jointMovingLabels
        ):  # fmt: skip
            return _("Select two volumes and their segmentations first.")
        if chosen.jointFixed is chosen.jointMoving:
            return _("Both volumes are the same. Select two different ones.")
        if self.runner.busy:
            return _("A job is running. Wait for it, or cancel it.")
        return ""
