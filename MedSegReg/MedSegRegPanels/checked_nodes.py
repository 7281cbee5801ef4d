"""Several nodes of the scene, chosen by ticks: kept as a list in the parameter node, which no control shows by itself.

Slicer's wrapper of parameter nodes knows no qMRMLCheckableNodeComboBox.
"""
# ruff: noqa: N802, N803 - Slicer's names are camelCase

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import qt


class CheckedNodes:
    """The ticks of a qMRMLCheckableNodeComboBox.

    Args:
        selector: the control.
        onChange: called with the nodes that have a tick, when the user changed one.
    """

    def __init__(self, selector: Any, onChange: Callable[[list[Any]], None]) -> None:
        self.selector, self._onChange = selector, onChange
        selector.connect("checkedNodesChanged()", self._onTick)

    def show(self, chosen: Sequence[Any]) -> None:
        """Give a tick to these nodes, and to no others."""
        blocked = self.selector.blockSignals(True)
        for node in self._offered():
            self.selector.setCheckState(node, qt.Qt.Checked if node in chosen else qt.Qt.Unchecked)
        self.selector.blockSignals(blocked)

    def _offered(self) -> list[Any]:
        return [self.selector.nodeFromIndex(index) for index in range(self.selector.nodeCount())]

    def _onTick(self) -> None:
        self._onChange([node for node in self._offered() if self.selector.checkState(node) == qt.Qt.Checked])


def present(nodes: Sequence[Any]) -> list[Any]:
    """Those that are still there: a list of the parameter node holds None for a node that was removed."""
    return [node for node in nodes if node is not None]
