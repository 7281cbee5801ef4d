"""The segmentation walk in the window: a volume node and a model in, a segmentation node out."""
# ruff: noqa: N802, PLC0415 - Slicer's names are camelCase; late imports keep Slicer's start quick

from __future__ import annotations

from slicer.i18n import tr as _

from .run import runWithProgress


class SegmentPanel:
    """The section Segment.

    Args:
        ui: the named widgets of MedSegReg.ui.
        logic: anything with ``models()`` and ``segment(...)`` of MedSegRegLogic.
        ready: asked before a run; False stops it (the user has seen why).
    """

    def __init__(self, ui, logic, ready) -> None:
        self.ui, self.logic, self.ready = ui, logic, ready
        self.parameters = None
        for name, title in logic.models().items():
            ui.modelSelector.addItem(title, name)
        ui.modelSelector.connect("currentIndexChanged(int)", self.onModelChosen)
        ui.segmentButton.connect("clicked(bool)", self.onApply)

    def update(self, parameters) -> None:
        """Show a parameter node; None while there is none."""
        self.parameters = parameters
        if parameters is not None:
            self._showModel(parameters)
        missing = self._missing()
        self.ui.segmentButton.enabled = not missing
        self.ui.segmentButton.toolTip = missing or _("Segment the input volume with the selected model.")

    def _showModel(self, parameters) -> None:
        """Models are known only at run time, so the combo box follows the parameter by hand."""
        index = self.ui.modelSelector.findData(parameters.modelName)
        if index >= 0:
            self.ui.modelSelector.currentIndex = index
        else:
            self.onModelChosen(self.ui.modelSelector.currentIndex)

    def _missing(self) -> str:
        if self.parameters is None or self.parameters.inputVolume is None:
            return _("Select the volume to segment first.")
        return "" if self.ui.modelSelector.count else _("There is no model. Reinstall the extension.")

    def onModelChosen(self, index: int) -> None:
        """Keep the chosen model in the scene."""
        if self.parameters is not None and index >= 0:
            self.parameters.modelName = self.ui.modelSelector.itemData(index)

    def onApply(self, _checked: bool = False) -> None:
        """Segment, and show what came out."""
        if not self.ready():
            return
        chosen, volume = self.parameters, self.parameters.inputVolume
        node = runWithProgress(
            _("Segmenting {volume}").format(volume=volume.GetName()),
            lambda progress: self.logic.segment(
                volume, chosen.modelName, chosen.outputSegmentation, device=chosen.device.value, progress=progress
            ),
        )
        if node is not None:
            from MedSegRegLib.mrml.provenance import read_provenance

            count = node.GetSegmentation().GetNumberOfSegments()
            sentence = _("{result} has {count} segments.").format(result=node.GetName(), count=count)
            self.ui.statusLabel.text = "\n".join([sentence, *read_provenance(node)["warnings"]])
