"""A table node of the scene in a section of the window."""
# ruff: noqa: N802 - Slicer's names are camelCase

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import qt

MARGIN_PX, HIGHEST_PX = 6, 240


def showTable(widget, node, headings: Sequence[str] | None = None) -> None:
    """Show a vtkMRMLTableNode in a QTableWidget, as high as its rows; hide the widget when there is none.

    Args:
        headings: of the columns to show; None shows all.
    """
    widget.visible = node is not None
    columns = [] if node is None else _columns(node.GetTable(), headings)
    rows = node.GetTable().GetNumberOfRows() if columns else 0
    widget.rowCount, widget.columnCount = rows, len(columns)
    widget.setHorizontalHeaderLabels([array.GetName() for array in columns])
    widget.verticalHeader().visible = False
    for column, array in enumerate(columns):
        for row in range(rows):
            widget.setItem(row, column, qt.QTableWidgetItem(_text(array.GetVariantValue(row))))
    widget.resizeColumnsToContents()
    widget.resizeRowsToContents()
    height = sum(widget.rowHeight(row) for row in range(rows)) + widget.horizontalHeader().sizeHint.height()
    widget.minimumHeight = widget.maximumHeight = min(height + MARGIN_PX, HIGHEST_PX)


def _columns(table: Any, headings: Sequence[str] | None) -> list[Any]:
    arrays = [table.GetColumn(column) for column in range(table.GetNumberOfColumns())]
    return [array for array in arrays if headings is None or array.GetName() in headings]


def _text(value) -> str:
    """A cell: a variant of text, or a number, empty where there is none."""
    if value.IsString():
        return value.ToString()
    number = value.ToDouble()
    return "" if math.isnan(number) else f"{number:g}"
