"""One row for each input volume of a model. Part of the panel Segment."""
# ruff: noqa: N802, N803 - Slicer's names are camelCase

from __future__ import annotations

from collections.abc import Callable, Sequence

import qt
import slicer
from slicer.i18n import tr as _

FIRST_ROLE = "segmentVolume"
"""Reference of the parameter node to the first volume, which the panel's own parameter holds."""


class ChannelRows:
    """The selectors of a model's further input volumes, below the first one.

    Args:
        firstLabel, firstSelector: the row of the first volume, in a QFormLayout.
        onChange: called when the user chose a volume.
    """

    def __init__(self, firstLabel, firstSelector, onChange: Callable[[], None]) -> None:
        self.firstLabel, self.firstSelector, self._onChange = firstLabel, firstSelector, onChange
        self.rows: list[tuple] = []  # (label, selector), kept and hidden when a model needs fewer
        self._parameterNode = None

    def show(self, channels: Sequence[tuple[str, str]], parameterNode) -> None:
        """Show one row for each channel (name, modality) and the nodes that the scene keeps for them."""
        self._parameterNode = parameterNode
        self.firstLabel.text = f"{channels[0][0]}:" if len(channels) > 1 else _("&Volume:")
        while len(self.rows) < len(channels) - 1:
            self._addRow()
        for number, (label, selector) in enumerate(self.rows, start=1):
            label.visible = selector.visible = number < len(channels)
            if number < len(channels):
                label.text = f"{channels[number][0]}:"
                blocked = selector.blockSignals(True)
                selector.setCurrentNode(self.node(number, parameterNode))
                selector.blockSignals(blocked)

    def node(self, number: int, parameterNode):
        """The volume that is chosen for a channel, None without one."""
        return None if parameterNode is None else parameterNode.GetNodeReference(_role(number))

    def _addRow(self) -> None:
        number = len(self.rows) + 1
        selector = slicer.qMRMLNodeComboBox()
        selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
        selector.showChildNodeTypes = selector.addEnabled = selector.removeEnabled = False
        selector.noneEnabled = True
        selector.noneDisplay = _("Select a volume")
        selector.toolTip = _("A further volume of the same patient, as the model was trained on. It is not changed.")
        selector.setMRMLScene(self.firstSelector.mrmlScene())
        selector.connect("currentNodeChanged(vtkMRMLNode*)", lambda node: self._onChosen(number, node))
        label = qt.QLabel()
        label.setBuddy(selector)
        form = self.firstSelector.parentWidget().layout()
        form.insertRow(_rowOf(form, self.firstSelector) + number, label, selector)
        self.rows.append((label, selector))

    def _onChosen(self, number: int, node) -> None:
        if self._parameterNode is not None:
            self._parameterNode.SetNodeReferenceID(_role(number), node.GetID() if node is not None else None)
            self._onChange()


def _role(number: int) -> str:
    """The parameter node's reference to the volume of a channel."""
    return FIRST_ROLE if number == 0 else f"segmentChannel{number}"


def _rowOf(form, widget) -> int:
    """The row of a field in a form."""
    for row in range(form.rowCount()):
        item = form.itemAt(row, qt.QFormLayout.FieldRole)
        if item is not None and item.widget() == widget:
            return row
    return form.rowCount() - 1
