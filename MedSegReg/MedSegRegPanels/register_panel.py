"""The registration walk in the window: a fixed and a moving volume node in, a transform node and its inverse out."""
# ruff: noqa: N802, N815, PLC0415 - Slicer's names are camelCase; the bridge to the scene is loaded when it is used

from __future__ import annotations

from slicer import (
    vtkMRMLMarkupsFiducialNode,
    vtkMRMLScalarVolumeNode,
    vtkMRMLTransformNode,
)
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import parameterNodeWrapper

from MedSegRegLib.mrml.provenance import read_provenance
from MedSegRegLib.mrml.result_links import FORWARD, linked

from .comparing import Comparing, ComparisonView
from .panel import Panel
from .parameters import Device, LabelsNode
from .registration_presets import RegistrationPreset
from .run import showingErrors
from .table_view import showTable


@parameterNodeWrapper
class RegisterParameters:
    """The panel's settings. Each field without a default is a reference to a node, None at first."""

    registerFixed: vtkMRMLScalarVolumeNode
    registerMoving: vtkMRMLScalarVolumeNode
    registerPreset: RegistrationPreset = RegistrationPreset.DEFORMABLE
    registerInitial: vtkMRMLTransformNode
    registerFixedMask: LabelsNode
    registerMovingMask: LabelsNode
    registerFixedPoints: vtkMRMLMarkupsFiducialNode
    registerMovingPoints: vtkMRMLMarkupsFiducialNode
    registerFixedSegments: LabelsNode
    registerMovingSegments: LabelsNode
    registerMeasureOnly: bool = False
    registerOutput: vtkMRMLTransformNode
    registerDevice: Device = Device.AUTO
    registerPlace: bool = True
    registerResample: bool = False
    registerJacobian: bool = False
    registerLive: bool = True
    registerCompare: ComparisonView = ComparisonView.OFF
    registerResult: vtkMRMLTransformNode


class RegisterPanel(Panel):
    """The section Register."""

    Parameters = RegisterParameters

    def __init__(self, ui, logic, runner) -> None:
        super().__init__(ui, logic, runner)
        self._preview = None
        self._notes: list[str] = []
        self._comparing = Comparing(lambda: ui.compareSelector.visible)
        ui.outputTransformSelector.addAttribute("vtkMRMLTransformNode", FORWARD)
        ui.registerButton.connect("clicked(bool)", self.onRegister)

    def update(self) -> None:
        """Show whether a registration can be started, and how good the last one is."""
        if not self.runner.busy:
            self._endPreview()
        chosen = self.parameters
        self.ui.presetInfoLabel.text = "" if chosen is None else chosen.registerPreset.purpose()
        missing = self._missing()
        self.ui.registerButton.enabled = not missing
        self.ui.registerButton.toolTip = missing or _("Find the transform from the moving to the fixed volume.")
        result = None if chosen is None else chosen.registerResult
        facts = {} if result is None else read_provenance(result)
        lines = [*([facts["sentence"]] if "sentence" in facts else []), *facts.get("warnings", []), *self._notes]
        self.ui.resultLabel.text = "\n".join(lines)
        self.ui.resultLabel.visible = bool(lines)
        showTable(self.ui.qualityTable, linked(result, "quality"))
        self._compare()

    def onRegister(self, _checked: bool = False) -> None:
        """Start the registration as it is set now."""
        if not self.runner.ready():
            return
        with showingErrors(_("Registering {volume}").format(volume=self.parameters.registerMoving.GetName())):
            parameters, self._notes = self.parameters, []
            self._preview = self._run().start(
                self.runner, lambda node, notes: self._onRegistered(parameters, node, notes)
            )

    def cleanup(self) -> None:
        """The window is closed: the views show what they showed before."""
        self._endPreview()
        super().cleanup()

    def _run(self):
        from MedSegRegLib.mrml.registration_inputs import RegistrationNodes

        from .register_run import RegisterRun

        chosen = self.parameters
        nodes = RegistrationNodes(
            chosen.registerFixed,
            chosen.registerMoving,
            chosen.registerInitial,
            chosen.registerFixedMask,
            chosen.registerMovingMask,
            chosen.registerFixedPoints,
            chosen.registerMovingPoints,
            chosen.registerFixedSegments,
            chosen.registerMovingSegments,
        )
        outputs = {"resampled": chosen.registerResample, "jacobian": chosen.registerJacobian}
        settings = {
            "preset": chosen.registerPreset.value,
            "device": chosen.registerDevice.value,
            "measure_only": ["points", "labels"] if chosen.registerMeasureOnly else [],
            "outputs": [name for name, asked in outputs.items() if asked],
        }
        return RegisterRun(nodes, settings, chosen.registerOutput, chosen.registerPlace, chosen.registerLive)

    def _onRegistered(self, parameters, node, notes: list[str]) -> None:
        self._notes = notes
        self.ui.qualityGroupBox.collapsed = False
        parameters.registerResult = node
        self.update()

    def _missing(self) -> str:
        """Why no registration can be started now; empty when one can."""
        chosen = self.parameters
        if chosen is None or chosen.registerFixed is None or chosen.registerMoving is None:
            return _("Select the fixed and the moving volume first.")
        if chosen.registerFixed is chosen.registerMoving:
            return _("Fixed and moving are the same volume. Select two different ones.")
        if (chosen.registerFixedPoints is None) != (chosen.registerMovingPoints is None):
            return _("Select the points of both volumes, or of neither.")
        if (chosen.registerFixedSegments is None) != (chosen.registerMovingSegments is None):
            return _("Select the segments of both volumes, or of neither.")
        if self.runner.busy:
            return _("A job is running. Wait for it, or cancel it.")
        return ""

    def _compare(self) -> None:
        chosen = self.parameters
        ready = chosen is not None and None not in (chosen.registerFixed, chosen.registerMoving)
        self.ui.compareSelector.enabled = ready
        with showingErrors(_("Comparing")):
            if ready:
                self._comparing.show(chosen.registerCompare, chosen.registerFixed, chosen.registerMoving)
            else:
                self._comparing.end()

    def _endPreview(self) -> None:
        if self._preview is not None:
            preview, self._preview = self._preview, None
            preview.end()
