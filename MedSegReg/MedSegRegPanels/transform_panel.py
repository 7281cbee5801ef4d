"""What a transform does, in the window: a transform node in, a sentence and a table of what it keeps out."""
# ruff: noqa: N802, N815, PLC0415 - Slicer's names are camelCase; the bridge to the scene is loaded when it is used

from __future__ import annotations

from slicer import vtkMRMLScalarVolumeNode, vtkMRMLTableNode, vtkMRMLTransformNode
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import parameterNodeWrapper

from .panel import Panel
from .run import showingErrors
from .table_view import showTable


@parameterNodeWrapper
class TransformParameters:
    """The panel's settings. Each field without a default is a reference to a node, None at first."""

    contractTransform: vtkMRMLTransformNode
    contractFixed: vtkMRMLScalarVolumeNode
    contractMoving: vtkMRMLScalarVolumeNode
    contractTable: vtkMRMLTableNode
    contractSaid: str = ""


class TransformPanel(Panel):
    """The section Transform."""

    Parameters = TransformParameters

    def __init__(self, ui, logic, runner) -> None:
        super().__init__(ui, logic, runner)
        ui.contractTransformSelector.connect("currentNodeChanged(vtkMRMLNode*)", self.onTransformChosen)
        ui.contractButton.connect("clicked(bool)", self.onCheck)

    def update(self) -> None:
        """Show whether something can be checked, and what the last check found."""
        chosen = self.parameters
        missing = self._missing()
        self.ui.contractButton.enabled = not missing
        self.ui.contractButton.toolTip = missing or _("Say what moves onto what, and test whether it keeps its word.")
        self.ui.contractLabel.text = "" if chosen is None else chosen.contractSaid
        self.ui.contractLabel.visible = bool(self.ui.contractLabel.text)
        showTable(self.ui.contractTableWidget, None if chosen is None else chosen.contractTable)

    def onTransformChosen(self, node) -> None:
        """A result of a registration knows its volumes."""
        from MedSegRegLib.mrml.result_links import linked

        chosen = self.parameters
        if chosen is not None and linked(node, "fixed") is not None:
            chosen.contractFixed, chosen.contractMoving = linked(node, "fixed"), linked(node, "moving")

    def onCheck(self, _checked: bool = False) -> None:
        """Check what is chosen."""
        if not self.runner.ready():
            return
        chosen, node = self.parameters, self.parameters.contractTransform
        title = _("Checking {transform}").format(transform=node.GetName())
        with showingErrors(title):
            from MedSegRegLib.mrml.contract_nodes import read_contract_nodes

            values = read_contract_nodes(node, chosen.contractFixed, chosen.contractMoving)
            self.runner.start(
                title,
                "check_transform",
                {},
                values,
                lambda result: self._onChecked(chosen, node, values, result.data),
                watched=(node,),
            )

    def _onChecked(self, parameters, node, values: dict, data: dict) -> None:
        from MedSegRegLib.mrml.contract_nodes import slicer_disagreement_mm, write_contract
        from MedSegRegLib.mrml.undo import one_undo_step

        grid = values["fixed"].geometry if "fixed" in values else None
        slicer_mm, scene = slicer_disagreement_mm(node, values["transform"], grid), node.GetScene()
        with one_undo_step(scene):
            table = write_contract(data, slicer_mm, scene, _("Check of {name}").format(name=node.GetName()))
        doubts = [f"{one['message'].rstrip('.')}. {one['fix']}" for one in data["findings"]]
        parameters.contractSaid = "\n".join([data["sentence"], *(doubts or [_("Nothing speaks against using it.")])])
        parameters.contractTable = table
        self.update()

    def _missing(self) -> str:
        """Why nothing can be checked now; empty when it can."""
        if self.parameters is None or self.parameters.contractTransform is None:
            return _("Select a transform first.")
        if self.runner.busy:
            return _("A job is running. Wait for it, or cancel it.")
        return ""
