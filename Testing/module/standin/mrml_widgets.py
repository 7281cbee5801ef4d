"""Slicer's other controls over a real MRML scene, as far as the window uses them."""
# ruff: noqa: N801, N802, N815 - names of Slicer

from __future__ import annotations

from typing import Any

from PySide6 import QtWidgets
from PySide6.QtCore import Signal

from .ctk_widgets import kept
from .node_selectors import qMRMLNodeComboBox
from .pythonqt import add_class


class _OfScene:
    """What every control of the scene has."""

    _scene: Any = None

    def mrmlScene(self) -> Any:
        return self._scene

    def setMRMLScene(self, scene: Any) -> None:
        if scene is not self._scene:
            self._scene = scene
            self.mrmlSceneChanged.emit(scene)


@add_class
class qMRMLWidget(_OfScene, QtWidgets.QWidget):
    mrmlSceneChanged = Signal(object)


@add_class
class qMRMLSegmentSelectorWidget(_OfScene, QtWidgets.QWidget):
    """A segmentation node and one or several of its segments."""

    mrmlSceneChanged = Signal(object)
    currentNodeChanged = Signal((object,), (bool,))
    currentSegmentChanged = Signal(str)
    segmentSelectionChanged = Signal("QStringList")
    noneEnabled = kept("noneEnabled", bool, False)
    editEnabled = kept("editEnabled", bool, False)
    multiSelection = kept("multiSelection", bool, False)
    horizontalLayout = kept("horizontalLayout", bool, True)
    selectNodeUponCreation = kept("selectNodeUponCreation", bool, True)
    segmentationNodeSelectorVisible = kept("segmentationNodeSelectorVisible", bool, True)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._selected: list[str] = []
        self.selector, self.segments = qMRMLNodeComboBox(self), QtWidgets.QComboBox(self)
        self.selector.nodeTypes, self.selector.noneEnabled = ["vtkMRMLSegmentationNode"], True
        row = QtWidgets.QVBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.selector)
        row.addWidget(self.segments)
        self.selector.currentNodeChanged[object].connect(self._node_changed)
        self.segments.activated.connect(lambda index: self.setCurrentSegmentID(self.segmentIDs()[index]))

    def setMRMLScene(self, scene: Any) -> None:
        super().setMRMLScene(scene)
        self.selector.setMRMLScene(scene)

    def _node_changed(self, node: Any) -> None:
        self._selected = self.segmentIDs()[: 0 if self.noneEnabled else 1]
        self.segments.clear()
        self.segments.addItems([node.GetSegmentation().GetSegment(name).GetName() for name in self.segmentIDs()])
        self.currentNodeChanged[object].emit(node)
        self.currentNodeChanged[bool].emit(node is not None)
        self.currentSegmentChanged.emit(self.currentSegmentID())

    def currentNode(self) -> Any:
        return self.selector.currentNode()

    def currentNodeID(self) -> str:
        return self.selector.currentNodeID

    def setCurrentNode(self, node: Any) -> None:
        self.selector.setCurrentNode(node)

    def setCurrentNodeID(self, node_id: str) -> None:
        self.selector.setCurrentNodeID(node_id)

    def segmentIDs(self) -> list[str]:
        return list(self.currentNode().GetSegmentation().GetSegmentIDs()) if self.currentNode() else []

    def currentSegmentID(self) -> str:
        return self._selected[0] if self._selected else ""

    def selectedSegmentIDs(self) -> list[str]:
        return list(self._selected)

    def setCurrentSegmentID(self, segment_id: str) -> None:
        self.setSelectedSegmentIDs([segment_id] if segment_id else [])
        self.currentSegmentChanged.emit(self.currentSegmentID())

    def setSelectedSegmentIDs(self, segment_ids: list[str]) -> None:
        self._selected = [name for name in segment_ids if name in self.segmentIDs()]
        self.segmentSelectionChanged.emit(self._selected)
