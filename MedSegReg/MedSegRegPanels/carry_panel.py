"""Carrying in the window: what was drawn on one volume goes to another, with a list of what to look at first."""
# ruff: noqa: N802, N815, PLC0415 - Slicer's names are camelCase; the bridge to the scene is loaded when it is used

from __future__ import annotations

import slicer
from slicer import (
    vtkMRMLMarkupsNode,
    vtkMRMLModelNode,
    vtkMRMLScalarVolumeNode,
    vtkMRMLSegmentationNode,
    vtkMRMLTableNode,
)
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import parameterNodeWrapper

from .checked_nodes import CheckedNodes, present
from .panel import Panel
from .parameters import Device
from .registration_presets import PresetOrAutomatic
from .run import showingErrors
from .table_view import showTable

SHOWN = ("structure", "confidence", "remark")


@parameterNodeWrapper
class CarryParameters:
    """The panel's settings. Each field without a default refers to a node, or to several: none at first."""

    carrySource: vtkMRMLScalarVolumeNode
    carryTarget: vtkMRMLScalarVolumeNode
    carrySegmentation: vtkMRMLSegmentationNode
    carryMarkups: list[vtkMRMLMarkupsNode]
    carryModels: list[vtkMRMLModelNode]
    carryPreset: PresetOrAutomatic = PresetOrAutomatic.AUTO
    carryDevice: Device = Device.AUTO
    carryReview: vtkMRMLTableNode
    carrySaid: str = ""


class CarryPanel(Panel):
    """The section Carry."""

    Parameters = CarryParameters

    def __init__(self, ui, logic, runner) -> None:
        super().__init__(ui, logic, runner)
        self.markups = CheckedNodes(ui.carryMarkupsSelector, lambda nodes: self._keep("carryMarkups", nodes))
        self.models = CheckedNodes(ui.carryModelsSelector, lambda nodes: self._keep("carryModels", nodes))
        ui.carryButton.connect("clicked(bool)", self.onCarry)
        for chosen in ("cellClicked(int,int)", "cellActivated(int,int)"):  # by mouse, by the Enter key
            ui.carryReviewTable.connect(chosen, self.onRowChosen)

    def update(self) -> None:
        """Show what can be carried, and what to look at after it was."""
        chosen = self.parameters
        if chosen is not None:
            self.markups.show(chosen.carryMarkups)
            self.models.show(chosen.carryModels)
        missing = self._missing()
        self.ui.carryButton.enabled = not missing
        self.ui.carryButton.toolTip = missing or _("Register both studies, and take over what was chosen.")
        self.ui.carryLabel.text = "" if chosen is None else chosen.carrySaid
        self.ui.carryLabel.visible = bool(self.ui.carryLabel.text)
        showTable(self.ui.carryReviewTable, None if chosen is None else chosen.carryReview, SHOWN)

    def onCarry(self, _checked: bool = False) -> None:
        """Carry as it is set now."""
        if not self.runner.ready():
            return
        chosen = self.parameters
        names = {"source": chosen.carrySource.GetName(), "target": chosen.carryTarget.GetName()}
        with showingErrors(_("Carrying from {source} to {target}").format(**names)):
            from .carry_run import CarryRun

            CarryRun(
                chosen.carrySource,
                chosen.carryTarget,
                chosen.carrySegmentation,
                tuple(present(chosen.carryMarkups)),
                tuple(present(chosen.carryModels)),
                {"preset": chosen.carryPreset.value, "device": chosen.carryDevice.value},
            ).start(self.runner, lambda review, said: self._onCarried(chosen, review, said))

    def onRowChosen(self, row: int, _column: int = 0) -> None:
        """Show a structure in the slice views."""
        review = self.parameters.carryReview
        with showingErrors(_("Showing a structure")):
            from MedSegRegLib.mrml.review_links import show_reviewed

            if not show_reviewed(review, row):
                slicer.util.showStatusMessage(_("There is nothing of this structure in the target."), 4000)

    def _onCarried(self, parameters, review, said: list[str]) -> None:
        parameters.carryReview, parameters.carrySaid = review, "\n".join(said)
        self.update()

    def _keep(self, name: str, nodes: list) -> None:
        if self.parameters is not None:
            setattr(self.parameters, name, nodes)

    def _missing(self) -> str:
        """Why nothing can be carried now; empty when it can."""
        chosen = self.parameters
        if chosen is None or chosen.carrySource is None or chosen.carryTarget is None:
            return _("Select the source and the target volume first.")
        if chosen.carrySource is chosen.carryTarget:
            return _("Source and target are the same volume. Select two different ones.")
        if chosen.carrySegmentation is None and not present([*chosen.carryMarkups, *chosen.carryModels]):
            return _("Select a segmentation, markups or models of the source.")
        if self.runner.busy:
            return _("A job is running. Wait for it, or cancel it.")
        return ""
