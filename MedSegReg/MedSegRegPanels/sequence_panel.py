"""A sequence in the window: what was drawn on one frame goes to all, with a list of how far each can be trusted."""
# ruff: noqa: N802, N815, PLC0415 - Slicer's names are camelCase; the bridge to the scene is loaded when it is used

from __future__ import annotations

from enum import Enum

from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode, vtkMRMLTableNode
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import parameterNodeWrapper

from MedSegRegLib.mrml.sequences import sequence_of

from .panel import Panel
from .parameters import Device
from .run import showingErrors
from .table_view import showTable

SHOWN = ("frame", "confidence", "least certain", "motion (mm)")


class SequencePreset(Enum):
    """What changes from frame to frame; see MedSegRegLib.workflows.sequence."""

    SAME_CONTRAST = "same-contrast"
    CHANGING_CONTRAST = "changing-contrast"
    MOVING_BODY = "moving-body"

    def label(self) -> str:
        """As shown in the window."""
        return {
            "same-contrast": _("Organs move"),
            "changing-contrast": _("Organs move, contrast changes"),
            "moving-body": _("The whole body part moves"),
        }[self.value]


@parameterNodeWrapper
class SequenceParameters:
    """The panel's settings. Each field without a default is a reference to a node, None at first."""

    sequenceVolume: vtkMRMLScalarVolumeNode
    sequenceSegmentation: vtkMRMLSegmentationNode
    sequenceKey: int = 0
    sequenceSecond: vtkMRMLSegmentationNode
    sequenceSecondKey: int = 0
    sequenceCyclic: bool = False
    sequenceSmooth: bool = True
    sequencePreset: SequencePreset = SequencePreset.SAME_CONTRAST
    sequenceDevice: Device = Device.AUTO
    sequenceFrames: vtkMRMLTableNode
    sequenceSaid: str = ""


class SequencePanel(Panel):
    """The section Sequence."""

    Parameters = SequenceParameters

    def __init__(self, ui, logic, runner) -> None:
        super().__init__(ui, logic, runner)
        ui.sequenceButton.connect("clicked(bool)", self.onSequence)
        ui.sequenceKeyShownButton.connect("clicked(bool)", lambda _checked: self._takeShown("sequenceKey"))
        ui.sequenceSecondKeyShownButton.connect("clicked(bool)", lambda _checked: self._takeShown("sequenceSecondKey"))
        for chosen in ("cellClicked(int,int)", "cellActivated(int,int)"):  # by mouse, by the Enter key
            ui.sequenceTable.connect(chosen, self.onRowChosen)

    def update(self) -> None:
        """Show what can be carried, and what to look at after it was."""
        chosen = self.parameters
        second = chosen is not None and chosen.sequenceSecond is not None
        for widget in ("sequenceSecondKeyLabel", "sequenceSecondKeySpinBox", "sequenceSecondKeyShownButton"):
            getattr(self.ui, widget).visible = second
        missing = self._missing()
        self.ui.sequenceButton.enabled = not missing
        self.ui.sequenceButton.toolTip = missing or _(
            "Follow the anatomy through all frames, and take the drawing along."
        )
        self.ui.sequenceLabel.text = "" if chosen is None else chosen.sequenceSaid
        self.ui.sequenceLabel.visible = bool(self.ui.sequenceLabel.text)
        showTable(self.ui.sequenceTable, None if chosen is None else chosen.sequenceFrames, SHOWN)

    def onSequence(self, _checked: bool = False) -> None:
        """Carry as it is set now."""
        if not self.runner.ready():
            return
        chosen = self.parameters
        keys = [(chosen.sequenceKey, chosen.sequenceSegmentation), (chosen.sequenceSecondKey, chosen.sequenceSecond)]
        settings = {
            "cyclic": chosen.sequenceCyclic,
            "smooth": chosen.sequenceSmooth,
            "preset": chosen.sequencePreset.value,
            "device": chosen.sequenceDevice.value,
        }
        with showingErrors(_("Segmenting all frames of {volume}").format(volume=chosen.sequenceVolume.GetName())):
            from .sequence_run import SequenceRun

            run = SequenceRun(chosen.sequenceVolume, tuple(key for key in keys if key[1] is not None), settings)
            run.start(self.runner, lambda table, said: self._onWritten(chosen, table, said), self._onFrame)

    def onRowChosen(self, row: int, _column: int = 0) -> None:
        """Let the browser show the frame of a row."""
        playing = sequence_of(self.parameters.sequenceVolume)
        if playing is not None:
            table = self.parameters.sequenceFrames.GetTable()
            playing[0].SetSelectedItemNumber(int(table.GetValueByName(row, "frame").ToDouble()))

    def _takeShown(self, name: str) -> None:
        playing = None if self.parameters is None else sequence_of(self.parameters.sequenceVolume)
        if playing is not None:
            setattr(self.parameters, name, max(playing[0].GetSelectedItemNumber(), 0))

    def _onFrame(self, number: int, confidence: float | None) -> None:
        if confidence is not None:
            said = _("Frame {number}: confidence {confidence:.2f}").format(number=number, confidence=confidence)
            self.ui.sequenceLabel.text, self.ui.sequenceLabel.visible = said, True

    def _onWritten(self, parameters, table, said: list[str]) -> None:
        parameters.sequenceFrames, parameters.sequenceSaid = table, "\n".join(said)
        self.update()

    def _missing(self) -> str:
        """Why nothing can be carried now; empty when it can."""
        chosen = self.parameters
        if chosen is None or sequence_of(chosen.sequenceVolume) is None:
            return _("Select a volume of a sequence first.")
        if chosen.sequenceSegmentation is None:
            return _("Select the segmentation of a frame.")
        if chosen.sequenceSecond is not None and chosen.sequenceSecondKey == chosen.sequenceKey:
            return _("Both segmentations are of the same frame. Choose two different frames.")
        if self.runner.busy:
            return _("A job is running. Wait for it, or cancel it.")
        return ""
