"""A list of structures with a tick for each that is wanted. Part of the panel Segment."""
# ruff: noqa: N802, N803 - Slicer's names are camelCase

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import qt
from slicer.i18n import tr as _

SWATCH_PIXELS = 12


class StructureList:
    """Ticks in a QListWidget, with a filter and buttons for all and none.

    Args:
        group: the group box around it, whose title tells how many have a tick.
        listWidget, filterEdit, allButton, noneButton: its parts.
        onChange: called with the names without a tick, when the user changed one.
    """

    def __init__(self, group, listWidget, filterEdit, allButton, noneButton, onChange: Callable) -> None:
        self.group, self.list, self.filterEdit, self._onChange = group, listWidget, filterEdit, onChange
        self._shown: list[tuple[str, tuple[float, float, float]]] = []
        listWidget.connect("itemChanged(QListWidgetItem*)", self._onTick)
        filterEdit.connect("textChanged(QString)", self._onFilter)
        allButton.connect("clicked(bool)", lambda _checked: self._tickAll(True))
        noneButton.connect("clicked(bool)", lambda _checked: self._tickAll(False))

    def show(self, structures: Sequence[tuple[str, tuple[float, float, float]]], leftOut: Collection[str]) -> None:
        """Show structures (name, (red, green, blue) in 0..1); all have a tick but those left out."""
        blocked = self.list.blockSignals(True)
        if list(structures) != self._shown:
            self._shown = list(structures)
            self.list.clear()
            for name, color in structures:
                self.list.addItem(_item(name, color))
            self._onFilter(self.filterEdit.text)
        for item in self._items():
            item.setCheckState(qt.Qt.Unchecked if item.text() in leftOut else qt.Qt.Checked)
        self.list.blockSignals(blocked)
        self._showCount()

    def leftOut(self) -> list[str]:
        """Names of the structures without a tick."""
        return [item.text() for item in self._items() if item.checkState() != qt.Qt.Checked]

    def _items(self) -> list:
        return [self.list.item(row) for row in range(self.list.count)]

    def _onTick(self, _changed) -> None:
        self._showCount()
        self._onChange(self.leftOut())

    def _onFilter(self, text: str) -> None:
        for item in self._items():
            item.setHidden(text.casefold() not in item.text().casefold())

    def _tickAll(self, ticked: bool) -> None:
        """Those that the filter shows."""
        blocked = self.list.blockSignals(True)
        for item in self._items():
            if not item.isHidden():
                item.setCheckState(qt.Qt.Checked if ticked else qt.Qt.Unchecked)
        self.list.blockSignals(blocked)
        self._onTick(None)

    def _showCount(self) -> None:
        total, chosen = len(self._shown), len(self._shown) - len(self.leftOut())
        text = _("Structures: all {total}") if chosen == total else _("Structures: {chosen} of {total}")
        self.group.title = text.format(total=total, chosen=chosen)


def _item(name: str, color: tuple[float, float, float]):
    swatch = qt.QPixmap(SWATCH_PIXELS, SWATCH_PIXELS)
    swatch.fill(qt.QColor(*(round(255 * part) for part in color)))
    item = qt.QListWidgetItem(name)
    item.setIcon(qt.QIcon(swatch))
    item.setFlags(qt.Qt.ItemIsEnabled | qt.Qt.ItemIsSelectable | qt.Qt.ItemIsUserCheckable)
    return item
