"""Comparing two segmentations, or label maps, in the window: two nodes in, a table and a chart of scores out."""
# ruff: noqa: N802, N815, PLC0415 - Slicer's names are camelCase; the bridge to the scene is loaded when it is used

from __future__ import annotations

from typing import Annotated

import slicer
from slicer import vtkMRMLPlotChartNode, vtkMRMLTableNode
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper

from .panel import Panel
from .parameters import LabelsNode
from .run import showingErrors
from .table_view import showTable


@parameterNodeWrapper
class EvaluateParameters:
    """The panel's settings. Each field without a default is a reference to a node, None at first."""

    evaluateReference: LabelsNode
    evaluateCompared: LabelsNode
    evaluateTolerance: Annotated[float, WithinRange(0, 20)] = 1.0
    evaluateTable: vtkMRMLTableNode
    evaluateChart: vtkMRMLPlotChartNode


class EvaluatePanel(Panel):
    """The section Evaluate."""

    Parameters = EvaluateParameters

    def __init__(self, ui, logic, runner) -> None:
        super().__init__(ui, logic, runner)
        ui.evaluateButton.connect("clicked(bool)", self.onEvaluate)
        ui.chartButton.connect("clicked(bool)", self.onShowChart)

    def update(self) -> None:
        """Show what can be compared, and the last scores."""
        missing = self._missing()
        self.ui.evaluateButton.enabled = not missing
        self.ui.evaluateButton.toolTip = missing or _("Score the compared segmentation, structure by structure.")
        chart = None if self.parameters is None else self.parameters.evaluateChart
        table = None if self.parameters is None else self.parameters.evaluateTable
        self.ui.chartButton.enabled = chart is not None
        self.ui.chartButton.toolTip = (
            _("Show the Dice of each structure as a bar, in a plot view.")
            if chart is not None
            else _("Compare two segmentations first.")
        )
        self.ui.evaluateLabel.text = _summary(table)
        self.ui.evaluateLabel.visible = table is not None
        showTable(self.ui.scoresTable, table)

    def onEvaluate(self, _checked: bool = False) -> None:
        """Start the comparison as it is set now."""
        if not self.runner.ready():
            return
        chosen = self.parameters
        reference, compared = chosen.evaluateReference, chosen.evaluateCompared
        names = {"compared": compared.GetName(), "reference": reference.GetName()}
        title = _("Comparing {compared} with {reference}").format(**names)
        with showingErrors(title):
            from MedSegRegLib.mrml.evaluation_grid import reference_grid
            from MedSegRegLib.mrml.shared_labels import labels_of_node

            grid = reference_grid(reference)
            self.runner.start(
                title,
                "evaluate",
                {"tolerance_mm": chosen.evaluateTolerance},
                {
                    "truth": labels_of_node(reference, grid),
                    "prediction": labels_of_node(compared, grid),
                },
                lambda result: self._onEvaluated(result, chosen, reference, names),
                watched=(reference, compared),
            )

    def onShowChart(self, _checked: bool = False) -> None:
        """Show the chart in a plot view."""
        slicer.modules.plots.logic().ShowChartInLayout(self.parameters.evaluateChart)

    def _onEvaluated(self, result, parameters, reference, names: dict[str, str]) -> None:
        from MedSegRegLib.evaluate.metrics import StructureScores
        from MedSegRegLib.mrml.score_nodes import write_scores
        from MedSegRegLib.mrml.studies import place_beside
        from MedSegRegLib.mrml.undo import one_undo_step

        scores = [StructureScores(**fields) for fields in result.data["scores"]]
        scene, name = reference.GetScene(), "{compared} against {reference}".format(**names)
        with one_undo_step(scene):
            nodes = write_scores(scores, scene, name)
        for node in nodes:
            place_beside(node, reference)
        parameters.evaluateTable, parameters.evaluateChart = nodes
        self.update()

    def _missing(self) -> str:
        """Why nothing can be compared now; empty when it can."""
        chosen = self.parameters
        if chosen is None or chosen.evaluateReference is None or chosen.evaluateCompared is None:
            return _("Select the two segmentations first.")
        if chosen.evaluateReference is chosen.evaluateCompared:
            return _("Both are the same segmentation. Select two different ones.")
        if self.runner.busy:
            return _("A job is running. Wait for it, or cancel it.")
        return ""


def _summary(node) -> str:
    """Mean Dice over the structures of a table."""
    if node is None:
        return ""
    column = node.GetTable().GetColumnByName("Dice")
    cells = [] if column is None else [column.GetValue(row) for row in range(column.GetNumberOfValues())]
    dice = [cell for cell in cells if cell == cell]  # noqa: PLR0124 - leaves NaN out
    if not dice:
        return _("There is no structure to compare.")
    return _("Mean Dice {dice:.3f} over {count} structures.").format(dice=sum(dice) / len(dice), count=len(dice))
