"""Segmentation by atlases in the window: labelled volumes of the scene in, a segmentation of another volume out."""
# ruff: noqa: N802, N815, PLC0415 - Slicer's names are camelCase; the bridge to the scene is loaded when it is used

from __future__ import annotations

from enum import Enum

import qt
from slicer import vtkMRMLNode, vtkMRMLScalarVolumeNode
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import parameterNodeWrapper

from .panel import Panel
from .parameters import Device, LabelsNode
from .registration_presets import PresetOrAutomatic
from .run import showingErrors


class Fusion(Enum):
    """How the labels of several atlases become one; see MedSegRegLib.workflows.atlas."""

    LOCAL = "local"
    MAJORITY = "majority"

    def label(self) -> str:
        """As shown in the window."""
        return {"local": _("By local likeness"), "majority": _("Majority")}[self.value]


@parameterNodeWrapper
class AtlasParameters:
    """The panel's settings. Each field without a default refers to a node, or to several: none at first."""

    atlasImage: vtkMRMLScalarVolumeNode
    atlasVolume: vtkMRMLScalarVolumeNode
    atlasLabels: LabelsNode
    atlasVolumes: list[vtkMRMLScalarVolumeNode]  # of the atlases in the list, row by row
    atlasDrawings: list[vtkMRMLNode]  # their labels
    atlasFusion: Fusion = Fusion.LOCAL
    atlasPreset: PresetOrAutomatic = PresetOrAutomatic.AUTO
    atlasDevice: Device = Device.AUTO
    atlasAgreement: bool = False
    atlasSaid: str = ""


class AtlasPanel(Panel):
    """The section Atlas."""

    Parameters = AtlasParameters

    def __init__(self, ui, logic, runner) -> None:
        super().__init__(ui, logic, runner)
        ui.atlasTable.columnCount = 2
        ui.atlasTable.setHorizontalHeaderLabels([_("Atlas"), _("Labels")])
        ui.atlasTable.horizontalHeader().setSectionResizeMode(qt.QHeaderView.Stretch)
        ui.atlasTable.verticalHeader().visible = False
        ui.atlasTable.connect("itemSelectionChanged()", self.update)
        ui.atlasAddButton.connect("clicked(bool)", self.onAdd)
        ui.atlasRemoveButton.connect("clicked(bool)", self.onRemove)
        ui.atlasButton.connect("clicked(bool)", self.onSegment)

    def update(self) -> None:
        """Show the atlases, and what can be done with them."""
        chosen = self.parameters
        self._showPairs()
        unfit = self._unfit()
        self.ui.atlasAddButton.enabled = not unfit
        self.ui.atlasAddButton.toolTip = unfit or _("Add this atlas to the list.")
        self.ui.atlasRemoveButton.enabled = self.ui.atlasTable.currentRow() >= 0
        missing = self._missing()
        self.ui.atlasButton.enabled = not missing
        self.ui.atlasButton.toolTip = missing or _("Register each atlas to the image, and let their labels vote.")
        self.ui.atlasLabel.text = "" if chosen is None else chosen.atlasSaid
        self.ui.atlasLabel.visible = bool(self.ui.atlasLabel.text)

    def onAdd(self, _checked: bool = False) -> None:
        """Add the chosen volume and its labels to the list."""
        chosen = self.parameters
        self._keep([*self._pairs(), (chosen.atlasVolume, chosen.atlasLabels)])
        chosen.atlasVolume = chosen.atlasLabels = None

    def onRemove(self, _checked: bool = False) -> None:
        """Take the selected atlas out of the list."""
        pairs = self._pairs()
        del pairs[self.ui.atlasTable.currentRow()]
        self._keep(pairs)

    def onSegment(self, _checked: bool = False) -> None:
        """Segment as it is set now."""
        if not self.runner.ready():
            return
        chosen = self.parameters
        with showingErrors(_("Segmenting {volume} by atlases").format(volume=chosen.atlasImage.GetName())):
            from .atlas_run import AtlasRun

            settings = {
                "fusion": chosen.atlasFusion.value,
                "preset": chosen.atlasPreset.value,
                "device": chosen.atlasDevice.value,
            }
            run = AtlasRun(chosen.atlasImage, tuple(self._pairs()), settings, chosen.atlasAgreement)
            run.start(self.runner, lambda said: self._onSegmented(chosen, said))

    def _onSegmented(self, parameters, said: list[str]) -> None:
        parameters.atlasSaid = "\n".join(said)
        self.update()

    def _pairs(self) -> list[tuple]:
        """(volume, labels) of each atlas in the list, without those of which a node was removed."""
        if self.parameters is None:
            return []
        pairs = zip(self.parameters.atlasVolumes, self.parameters.atlasDrawings, strict=True)
        return [pair for pair in pairs if None not in pair]

    def _keep(self, pairs: list[tuple]) -> None:
        was = self.parameterNode.StartModify()  # the two lists are of one length whenever they are looked at
        self.parameters.atlasVolumes = [volume for volume, _labels in pairs]
        self.parameters.atlasDrawings = [labels for _volume, labels in pairs]
        self.parameterNode.EndModify(was)

    def _showPairs(self) -> None:
        table, pairs = self.ui.atlasTable, self._pairs()
        blocked = table.blockSignals(True)
        table.rowCount = len(pairs)
        for row, pair in enumerate(pairs):
            for column, node in enumerate(pair):
                table.setItem(row, column, qt.QTableWidgetItem(node.GetName()))
        table.blockSignals(blocked)
        table.visible = bool(pairs)

    def _unfit(self) -> str:
        """Why what is chosen cannot be added to the list; empty when it can."""
        chosen = self.parameters
        if chosen is None or chosen.atlasVolume is None or chosen.atlasLabels is None:
            return _("Select an atlas and its labels first.")
        if chosen.atlasVolume is chosen.atlasImage:
            return _("This is the volume to segment. Select another one as atlas.")
        if (chosen.atlasVolume, chosen.atlasLabels) in self._pairs():
            return _("This atlas is in the list already.")
        return ""

    def _missing(self) -> str:
        """Why nothing can be segmented now; empty when it can."""
        if self.parameters is None or self.parameters.atlasImage is None:
            return _("Select the volume to segment first.")
        if not self._pairs():
            return _("Add an atlas to the list first.")
        if any(volume is self.parameters.atlasImage for volume, _labels in self._pairs()):
            return _("The volume to segment is one of the atlases. Remove it from the list.")
        if self.runner.busy:
            return _("A job is running. Wait for it, or cancel it.")
        return ""
