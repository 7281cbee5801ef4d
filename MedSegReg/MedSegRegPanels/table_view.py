"""A table node of the scene in a section of the window."""
# ruff: noqa: N802 - Slicer's names are camelCase

from __future__ import annotations

import math

import qt

MARGIN_PX, HIGHEST_PX = 6, 240


def showTable(widget, node) -> None:
    """Show a vtkMRMLTableNode in a QTableWidget, as high as its rows; hide the widget when there is none."""
    widget.visible = node is not None
    table = None if node is None else node.GetTable()
    rows, columns = (0, 0) if table is None else (table.GetNumberOfRows(), table.GetNumberOfColumns())
    widget.rowCount, widget.columnCount = rows, columns
    widget.setHorizontalHeaderLabels([table.GetColumnName(column) for column in range(columns)])
    widget.verticalHeader().visible = False
    for row in range(rows):
        for column in range(columns):
            widget.setItem(row, column, qt.QTableWidgetItem(_text(table.GetValue(row, column))))
    widget.resizeColumnsToContents()
    widget.resizeRowsToContents()
    height = sum(widget.rowHeight(row) for row in range(rows)) + widget.horizontalHeader().sizeHint.height()
    widget.minimumHeight = widget.maximumHeight = min(height + MARGIN_PX, HIGHEST_PX)


def _text(value) -> str:
    """A cell: a variant of text, or a number, empty where there is none."""
    if value.IsString():
        return value.ToString()
    number = value.ToDouble()
    return "" if math.isnan(number) else f"{number:g}"
