"""The segmentation walk in the window: volume nodes and a model in, a segmentation node out."""
# ruff: noqa: N802, N803, N815, PLC0415 - Slicer's names are camelCase; a run's file needs torch, and the window none

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Annotated

import qt
from slicer import vtkMRMLMarkupsROINode, vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper

from MedSegRegLib.mrml.sequences import sequence_of
from MedSegRegLib.mrml.slice_layers import Overlay
from MedSegRegLib.mrml.studies import modality_of

from .channel_rows import ChannelRows
from .model_cards import ModelCard, readCards
from .panel import Panel
from .parameters import Device
from .run import duration, showingErrors
from .structure_list import StructureList

if TYPE_CHECKING:
    from .segment_run import SegmentRun


class Frames(Enum):
    """Which frames of a time sequence are segmented."""

    CURRENT = "current"
    ALL = "all"

    def label(self) -> str:
        """As shown in the window."""
        return {"current": _("The one that is shown"), "all": _("All of the sequence")}[self.value]


class Writing(Enum):
    """What happens in an existing segmentation; see MedSegRegLib.mrml.segmentation_results."""

    ADD = "add"
    REPLACE = "replace"
    OUTSIDE = "outside"

    def label(self) -> str:
        """As shown in the window."""
        labels = {
            "add": _("Add segments"),
            "replace": _("Replace segments of the same name"),
            "outside": _("Add where no segment is"),
        }
        return labels[self.value]


@parameterNodeWrapper
class SegmentParameters:
    """The panel's settings. Each field without a default is a reference to a node, None at first."""

    segmentVolume: vtkMRMLScalarVolumeNode
    segmentModel: str = ""
    segmentLeftOut: str = ""  # names of structures, one a line
    segmentOutput: vtkMRMLSegmentationNode
    segmentRegion: vtkMRMLMarkupsROINode
    segmentFrames: Frames = Frames.CURRENT
    segmentWriting: Writing = Writing.ADD
    segmentDevice: Device = Device.AUTO
    segmentConfidence: bool = False
    segmentMirror: bool = False
    segmentReplaceNonfinite: bool = False
    segmentConfidenceVolume: vtkMRMLScalarVolumeNode  # of the last run
    segmentOverlay: Annotated[float, WithinRange(0, 1)] = 0.6


class SegmentPanel(Panel):
    """The section Segment."""

    Parameters = SegmentParameters

    def __init__(self, ui, logic, runner) -> None:
        super().__init__(ui, logic, runner)
        self._cards: dict[str, ModelCard] = {}
        self._checked: tuple | None = None  # what the expectation was made for
        self._expectation = ""
        self._overlay = Overlay()
        self.channels = ChannelRows(ui.inputVolumeLabel, ui.inputVolumeSelector, self.onParametersChanged)
        self.structures = StructureList(
            ui.structuresGroupBox,
            ui.structureList,
            ui.structureFilterEdit,
            ui.allStructuresButton,
            ui.noStructuresButton,
            self.onStructuresChosen,
        )
        ui.modelSelector.connect("currentIndexChanged(int)", self.onModelChosen)
        ui.modelInfoLabel.connect("linkActivated(QString)", self.onCardAsked)
        ui.checkButton.connect("clicked(bool)", self.onCheck)
        ui.segmentButton.connect("clicked(bool)", self.onSegment)

    def setParameterNode(self, node) -> None:
        """The first volume of the scene is the default input."""
        super().setParameterNode(node)
        if self.parameters is not None and self.parameters.segmentVolume is None:
            self.parameters.segmentVolume = node.GetScene().GetFirstNodeByClass("vtkMRMLScalarVolumeNode")

    def update(self) -> None:
        """Show the model, what it takes and gives, and whether it can be run."""
        self._showModels()
        card = self._card()
        self.channels.show(card.channels if card else (), self.parameterNode)
        self.structures.show(card.structures if card else (), self._leftOut())
        self.ui.modelInfoLabel.text = "" if card is None else self._info(card)
        self.ui.mirrorCheckBox.enabled = card is not None and card.mirrors
        chosen = self.parameters
        for widget in (self.ui.framesLabel, self.ui.framesSelector):
            widget.visible = chosen is not None and sequence_of(chosen.segmentVolume) is not None
        for widget in (self.ui.writingLabel, self.ui.writingSelector):
            widget.visible = chosen is not None and chosen.segmentOutput is not None
        self._showExpectation(card)
        self._showOverlay()
        missing = self._missing(card)
        for button in (self.ui.checkButton, self.ui.segmentButton):
            button.enabled = not missing
        self.ui.segmentButton.toolTip = missing or _("Segment the volume with this model (Alt+Enter).")

    def onModelChosen(self, index: int) -> None:
        """Keep the chosen model in the scene."""
        if self.parameters is not None and index >= 0:
            self.parameters.segmentModel = self.ui.modelSelector.itemData(index)

    def onStructuresChosen(self, leftOut: list[str]) -> None:
        """Keep the chosen structures in the scene."""
        if self.parameters is not None:
            self.parameters.segmentLeftOut = "\n".join(leftOut)

    def onCardAsked(self, _link: str = "") -> None:
        """Show the card of the model."""
        card = self._card()
        if card is not None:
            qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(card.folder / "README.md")))

    def onCheck(self, _checked: bool = False) -> None:
        """Ask what a run would take, without running it."""
        if not self.runner.ready():
            return
        title, key = _("Checking {volume}").format(volume=self.parameters.segmentVolume.GetName()), self._key()
        searches = self._card().searches and self.parameters.segmentRegion is None
        with showingErrors(title):
            arguments = self._run().planArguments()
            self.runner.start(title, "plan", arguments, {}, lambda result: self._onChecked(key, result.data, searches))

    def onSegment(self, _checked: bool = False) -> None:
        """Segment, and show what came out."""
        self.ui.segmentResultLabel.text = ""
        if not self.runner.ready():
            return
        with showingErrors(_("Segmenting {volume}").format(volume=self.parameters.segmentVolume.GetName())):
            parameters, run = self.parameters, self._run()
            run.start(self.runner, lambda said: self._onSegmented(parameters, run, said))

    def cleanup(self) -> None:
        """The window is closed: the views show what they showed before."""
        self._overlay.show(None, 0)
        super().cleanup()

    def _run(self) -> SegmentRun:
        """The run as it is set now; later changes do not matter to it.

        Raises:
            MedSegRegError: a node cannot be used.
        """
        chosen, card = self.parameters, self._card()
        from .segment_run import SegmentRun

        names = [name for name, _color in card.structures]
        wanted = [name for name in names if name not in self._leftOut()]
        return SegmentRun(
            model=card.name,
            scene=self.parameterNode.GetScene(),
            volumes={name: self.channels.node(n, self.parameterNode) for n, (name, _m) in enumerate(card.channels)},
            output=chosen.segmentOutput,
            region=chosen.segmentRegion,
            allFrames=chosen.segmentFrames is Frames.ALL,
            writing=chosen.segmentWriting.value,
            device=chosen.segmentDevice.value,
            options={
                "structures": wanted if len(wanted) < len(names) else [],
                "confidence": chosen.segmentConfidence,
                "mirror": chosen.segmentMirror and card.mirrors,
                "replace_nonfinite": chosen.segmentReplaceNonfinite,
            },
        )

    def _onChecked(self, key: tuple, plan: dict, searches: bool) -> None:
        took = _("time not measured yet") if plan["seconds"] is None else duration(plan["seconds"])
        if searches:
            took = _("{time} after the place is found").format(time=took)
        memory = max(plan["host_bytes"], plan["device_bytes"]) / 2**30
        self._checked = key
        self._expectation = _("Expected: {took}, {memory:.1f} GiB of memory").format(took=took, memory=memory)
        free = plan["free_host_bytes"]
        if free is not None and plan["host_bytes"] > free:
            self._expectation += " " + _("(only {free:.1f} GiB are free: choose a region)").format(free=free / 2**30)
        self.update()

    def _onSegmented(self, parameters: SegmentParameters, run: SegmentRun, said: list[str]) -> None:
        self.ui.segmentResultLabel.text = "\n".join(said)
        parameters.segmentConfidenceVolume = run.confidence

    def _showModels(self) -> None:
        """Models are known only at run time, so the combo box follows the parameter by hand."""
        selector = self.ui.modelSelector
        cards = {card.name: card for card in readCards() if not card.fault}
        blocked = selector.blockSignals(True)
        if {name: card.title for name, card in cards.items()} != {n: card.title for n, card in self._cards.items()}:
            selector.clear()
            for card in cards.values():
                selector.addItem(card.title, card.name)
        self._cards = cards
        if self.parameters is not None:
            if self.parameters.segmentModel not in cards and cards:
                self.parameters.segmentModel = next(iter(cards))
            selector.currentIndex = selector.findData(self.parameters.segmentModel)
        selector.blockSignals(blocked)

    def _showExpectation(self, card: ModelCard | None) -> None:
        """Whether the study fits the model, and what was found out about the time that it will take."""
        lines = [self._mismatch(card)]
        if self._checked is not None and self._checked == self._key():
            lines.append(self._expectation)
        self.ui.checkLabel.text = "\n".join(filter(None, lines))
        self.ui.checkLabel.visible = bool(self.ui.checkLabel.text)

    def _showOverlay(self) -> None:
        """The confidence of the last run in front of the image, as strongly as chosen."""
        confidence = None if self.parameters is None else self.parameters.segmentConfidenceVolume
        for widget in (self.ui.overlayLabel, self.ui.overlaySlider):
            widget.visible = confidence is not None
        self._overlay.show(confidence, 0 if confidence is None else self.parameters.segmentOverlay)

    def _mismatch(self, card: ModelCard | None) -> str:
        if card is None or self.parameters is None:
            return ""
        for number, (name, wanted) in enumerate(card.channels):
            node = self.channels.node(number, self.parameterNode)
            found = "" if node is None else modality_of(node)
            if found and wanted not in ("any", found):
                return _("{volume} is {found}, but this model was trained on {wanted} ({channel}).").format(
                    volume=node.GetName(), found=found, wanted=wanted, channel=name
                )
        return ""

    def _missing(self, card: ModelCard | None) -> str:
        """Why no run can be started now; empty when one can."""
        if self.parameters is None:
            return _("Open the module first.")
        if card is None:
            return _("There is no model. Import one in the section Models.")
        if self.runner.busy:
            return _("A job is running. Wait for it, or cancel it.")
        nodes = [self.channels.node(number, self.parameterNode) for number in range(len(card.channels))]
        if None in nodes:
            channel = card.channels[nodes.index(None)][0]
            return _("Select the volume to segment first ({channel}).").format(channel=channel)
        if {name for name, _color in card.structures} <= self._leftOut():
            return _("Choose at least one structure.")
        return ""

    def _info(self, card: ModelCard) -> str:
        inputs = ", ".join(name if wanted in ("any", name) else f"{wanted} {name}" for name, wanted in card.channels)
        counted = _("{count} structures").format(count=len(card.structures))
        given = card.structures[0][0] if len(card.structures) == 1 else counted
        dice = "" if card.dice is None else _(", mean Dice {dice:.2f}").format(dice=card.dice)
        link = _("Card")
        return f'{inputs} \u2192 {given}{dice} \u00b7 <a href="card">{link}</a>'

    def _card(self) -> ModelCard | None:
        return None if self.parameters is None else self._cards.get(self.parameters.segmentModel)

    def _leftOut(self) -> set[str]:
        return set() if self.parameters is None else set(filter(None, self.parameters.segmentLeftOut.split("\n")))

    def _key(self) -> tuple | None:
        """All that the expected time and memory depend on."""
        if self.parameters is None:
            return None
        chosen = self.parameters
        nodes = (chosen.segmentVolume, chosen.segmentRegion)
        ids = (node and (node.GetID(), node.GetMTime()) for node in nodes)
        return (*ids, chosen.segmentModel, chosen.segmentMirror, chosen.segmentDevice)
