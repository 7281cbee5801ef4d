"""Scores of two segmentations -> a table node and a bar chart: how evaluation ends in the scene."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import slicer

from ..evaluate.metrics import METRICS, StructureScores
from .tables import write_table

CHARTED = "Dice"


def write_scores(scores: Sequence[StructureScores], scene: Any, name: str) -> tuple[Any, Any]:
    """Add a vtkMRMLTableNode with a row a structure, and a vtkMRMLPlotChartNode with a bar a structure.

    Args:
        scores: of :func:`MedSegRegLib.evaluate.scores.compare_labels`, one or more.
        name: of the table; the chart and its series get it too.

    Returns:
        (table, chart). Cells without a number are NaN.
    """
    columns: dict[str, Any] = {"Structure": [score.name for score in scores]}
    columns |= {
        metric.title: [_cell(getattr(score, metric.name), metric.decimals) for score in scores] for metric in METRICS
    }
    columns |= {
        "Reference (ml)": [_cell(score.truth_ml, 2) for score in scores],
        "Compared (ml)": [_cell(score.prediction_ml, 2) for score in scores],
        "Outcome": [score.outcome for score in scores],
    }
    table = write_table(scene, name, columns)
    series = slicer.vtkMRMLPlotSeriesNode()
    series.SetName(f"{name}: {CHARTED}")
    series.UndoEnabledOn()
    scene.AddNode(series)
    series.SetAndObserveTableNodeID(table.GetID())
    series.SetLabelColumnName("Structure")
    series.SetYColumnName(CHARTED)
    series.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeBar)
    series.SetUniqueColor()
    return table, _chart(series, scene, name)


def _chart(series: Any, scene: Any, name: str) -> Any:
    chart = slicer.vtkMRMLPlotChartNode()
    chart.SetName(f"{name}: chart")
    chart.UndoEnabledOn()
    scene.AddNode(chart)
    chart.AddAndObservePlotSeriesNodeID(series.GetID())
    chart.SetTitle(name)
    chart.SetYAxisTitle(CHARTED)
    chart.SetYAxisRangeAuto(False)
    chart.SetYAxisRange(0.0, 1.0)
    chart.SetLegendVisibility(False)
    return chart


def _cell(value: float | None, decimals: int) -> float:
    return float("nan") if value is None else round(value, decimals)
