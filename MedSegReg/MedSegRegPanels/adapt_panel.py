"""Adapting a model in the window: corrected segmentations of the scene in, an installed model and its scores out."""
# ruff: noqa: N802, N815, PLC0415 - Slicer's names are camelCase; the bridge to the scene is loaded when it is used

from __future__ import annotations

from slicer import vtkMRMLSegmentationNode, vtkMRMLTableNode
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import parameterNodeWrapper

from .checked_nodes import CheckedNodes, present
from .model_cards import readCards
from .panel import Panel
from .parameters import Device
from .run import showingErrors
from .table_view import showTable


@parameterNodeWrapper
class AdaptParameters:
    """The panel's settings. A field without a default is a reference to a node, None at first."""

    adaptModel: str = ""
    adaptCases: list[vtkMRMLSegmentationNode]
    adaptName: str = ""
    adaptDevice: Device = Device.AUTO
    adaptTable: vtkMRMLTableNode
    adaptVerdict: str = ""


class AdaptPanel(Panel):
    """The section Adapt."""

    Parameters = AdaptParameters

    def __init__(self, ui, logic, runner) -> None:
        super().__init__(ui, logic, runner)
        self._titles: dict[str, str] = {}
        ui.adaptModelSelector.connect("currentIndexChanged(int)", self.onModelChosen)
        self.cases = CheckedNodes(ui.adaptCasesSelector, self.onCasesChosen)
        ui.adaptButton.connect("clicked(bool)", self.onAdapt)

    def update(self) -> None:
        """Show what can be adapted, and what came of the last adaptation."""
        self._showModels()
        if self.parameters is not None:
            self.cases.show(self.parameters.adaptCases)
        missing = self._missing()
        self.ui.adaptButton.enabled = not missing
        self.ui.adaptButton.toolTip = missing or _("Adapt the model, and keep it only if it is better. Takes minutes.")
        chosen = self.parameters
        self.ui.adaptLabel.text = "" if chosen is None else chosen.adaptVerdict
        self.ui.adaptLabel.visible = bool(self.ui.adaptLabel.text)
        showTable(self.ui.adaptTable, None if chosen is None else chosen.adaptTable)

    def onModelChosen(self, index: int) -> None:
        """Keep the chosen model in the scene."""
        if self.parameters is not None and index >= 0:
            self.parameters.adaptModel = self.ui.adaptModelSelector.itemData(index)

    def onCasesChosen(self, chosen: list) -> None:
        """Keep the chosen segmentations in the scene."""
        if self.parameters is not None:
            self.parameters.adaptCases = chosen

    def onAdapt(self, _checked: bool = False) -> None:
        """Start the adaptation as it is set now."""
        if not self.runner.ready():
            return
        chosen, cases = self.parameters, present(self.parameters.adaptCases)
        title = _("Adapting {model}").format(model=self._titles[chosen.adaptModel])
        with showingErrors(title):
            from MedSegRegLib.mrml.corrections import corrected_study

            studies = [corrected_study(_source(node), node) for node in cases]
            images = {f"image{n}": image for n, (image, _) in enumerate(studies)}
            images |= {f"labels{n}": labels for n, (_, labels) in enumerate(studies)}
            arguments = {
                "model": chosen.adaptModel,
                "cases": [{"name": image.name} for image, _ in studies],
                "name": chosen.adaptName.strip() or None,
                "device": chosen.adaptDevice.value,
            }
            scene, names = self.parameterNode.GetScene(), [node.GetName() for node in cases]
            self.runner.start(
                title, "adapt", arguments, images, lambda result: self._onAdapted(result.data, chosen, scene, names)
            )

    def _onAdapted(self, data: dict, parameters, scene, names: list[str]) -> None:
        from MedSegRegLib.mrml.tables import write_table
        from MedSegRegLib.mrml.undo import one_undo_step

        scores = data["scores"]
        columns = {
            "Structure": [score["structure"] for score in scores],
            "Before": [round(score["before"], 3) for score in scores],
            "After": [round(score["after"], 3) for score in scores],
            "Held out": [score["held_out"] for score in scores],
        }
        lines = [data["verdict"]]
        if data["model"]:
            lines.append(_("Installed as '{name}': choose it in the section Segment.").format(name=data["model"]))
        with one_undo_step(scene):
            table = write_table(scene, f"{data['parent']} adapted to {', '.join(names)}", columns)
        parameters.adaptTable, parameters.adaptVerdict = table, "\n".join(lines)
        self.update()

    def _showModels(self) -> None:
        """Models are known only at run time, so the combo box follows the parameter by hand."""
        selector = self.ui.adaptModelSelector
        titles = {card.name: card.title for card in readCards() if not card.fault}
        blocked = selector.blockSignals(True)
        if titles != self._titles:
            selector.clear()
            for name, title in titles.items():
                selector.addItem(title, name)
            self._titles = titles
        if self.parameters is not None:
            if self.parameters.adaptModel not in titles and titles:
                self.parameters.adaptModel = next(iter(titles))
            selector.currentIndex = selector.findData(self.parameters.adaptModel)
        selector.blockSignals(blocked)

    def _missing(self) -> str:
        """Why nothing can be adapted now; empty when it can."""
        chosen = self.parameters
        if chosen is None or not chosen.adaptModel:
            return _("Select a model first.")
        cases = present(chosen.adaptCases)
        if not cases:
            return _("Select corrected segmentations first.")
        sourceless = [node.GetName() for node in cases if _source(node) is None]
        if sourceless:
            return _("Choose the source volume of {name} in the Segment Editor first.").format(name=sourceless[0])
        if self.runner.busy:
            return _("A job is running. Wait for it, or cancel it.")
        return ""


def _source(segmentation):
    """The volume that a segmentation was made on, None when it does not say."""
    return segmentation.GetNodeReference(vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole())
