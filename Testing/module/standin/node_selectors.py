"""Slicer's selectors of nodes over a real MRML scene."""
# ruff: noqa: N801, N802, N815 - names of Slicer

from __future__ import annotations

import weakref
from typing import Any

import shiboken6
from PySide6 import QtWidgets
from PySide6.QtCore import Property, Qt, Signal

from .ctk_widgets import kept
from .pythonqt import add_class


class Observations:
    """Observers of VTK objects that end with their owner: a widget that Qt deleted is never called."""

    def __init__(self, callback: Any) -> None:
        self._callback, self._tags = weakref.WeakMethod(callback), []

    def add(self, observed: Any, *events: Any) -> None:
        kept = self._callback

        def call(_caller: Any, _event: str) -> None:
            callback = kept()
            if callback is not None and shiboken6.isValid(callback.__self__):
                callback()

        self._tags += [(observed, observed.AddObserver(event, call)) for event in events]

    def end(self) -> None:
        for observed, tag in self._tags:
            observed.RemoveObserver(tag)
        self._tags.clear()

    def __del__(self) -> None:
        self.end()


class _Nodes:
    """Which nodes of a scene a control offers."""

    def __init__(self) -> None:
        self.types: list[str] = []
        self.attributes: dict[tuple[str, str], str | None] = {}
        self.show_hidden, self.show_children, self.hidden_children = False, True, []

    def of(self, scene: Any) -> list[Any]:
        if scene is None:
            return []
        if len(self.types) == 1:  # found by VTK, so that a test measures the module and not this
            (kind,) = self.types
            nodes = [scene.GetNthNodeByClass(n, kind) for n in range(scene.GetNumberOfNodesByClass(kind))]
        else:
            nodes = [scene.GetNthNode(index) for index in range(scene.GetNumberOfNodes())]
        return [node for node in nodes if self.fits(node)]

    def fits(self, node: Any) -> bool:
        if node.GetHideFromEditors() and not self.show_hidden:
            return False
        if self.show_children:
            fits = any(node.IsA(kind) for kind in self.types)
            fits = fits and not any(node.IsA(kind) for kind in self.hidden_children if kind not in self.types)
        else:
            fits = node.GetClassName() in self.types
        return fits and all(
            value == node.GetAttribute(name) if value is not None else node.GetAttribute(name) is not None
            for (kind, name), value in self.attributes.items()
            if node.IsA(kind)
        )


def _of_nodes(attribute: str, kind: Any) -> Property:
    def write(self: Any, value: Any) -> None:
        setattr(self.nodes, attribute, value)
        self.refresh()

    return Property(kind, lambda self: getattr(self.nodes, attribute), write)


@add_class
class qMRMLNodeComboBox(QtWidgets.QWidget):
    """One node of the scene, or none; follows nodes that are added, removed and renamed."""

    currentNodeChanged = Signal((object,), (bool,))
    currentNodeIDChanged = Signal(str)
    nodeAdded = Signal(object)
    nodeAddedByUser = Signal(object)

    nodeTypes = _of_nodes("types", "QStringList")
    showHidden = _of_nodes("show_hidden", bool)
    showChildNodeTypes = _of_nodes("show_children", bool)
    hideChildNodeTypes = _of_nodes("hidden_children", "QStringList")
    baseName = kept("baseName", str, "")
    addEnabled = kept("addEnabled", bool, True)
    removeEnabled = kept("removeEnabled", bool, True)
    editEnabled = kept("editEnabled", bool, False)
    renameEnabled = kept("renameEnabled", bool, False)
    selectNodeUponCreation = kept("selectNodeUponCreation", bool, True)
    interactionNodeSingletonTag = kept("interactionNodeSingletonTag", str, "")

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self.nodes, self._scene, self._shown = _Nodes(), None, []
        self._none_enabled, self._none_text, self._current_id = False, "None", ""
        self._requested = ""  # chosen before it was in the list, as happens while a scene is read
        self.box = QtWidgets.QComboBox(self)
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.box)
        self.box.setSizeAdjustPolicy(QtWidgets.QComboBox.AdjustToMinimumContentsLengthWithIcon)
        self.box.setMinimumContentsLength(10)
        self.box.activated.connect(self._chosen)
        self.setFocusProxy(self.box)
        self._of_scene, self._of_nodes = Observations(self.refresh), Observations(self._show)

    def mrmlScene(self) -> Any:
        return self._scene

    def setMRMLScene(self, scene: Any) -> None:
        self._of_scene.end()
        self._scene = scene
        if scene is not None:
            for event in (scene.NodeAddedEvent, scene.NodeRemovedEvent, scene.EndBatchProcessEvent):
                self._of_scene.add(scene, event)
        self.refresh()

    def refresh(self) -> None:
        """The nodes of the scene, as they are now; while many change, only when that is over."""
        if self._scene is not None and self._scene.IsBatchProcessing():
            return
        before, self._shown = self._shown, self.nodes.of(self._scene)
        if self._shown != before:
            self._of_nodes.end()
            for node in self._shown:
                self._of_nodes.add(node, "ModifiedEvent")
        self._show()
        known = [node.GetID() for node in before]
        for node in [node for node in self._shown if node.GetID() not in known]:
            self.nodeAdded.emit(node)
        ids = [node.GetID() for node in self._shown]
        if self._requested in ids:
            self.setCurrentNodeID(self._requested)
        elif self._current_id not in ids:
            self._select("" if self._none_enabled or not self._shown else self._shown[0].GetID())

    def _show(self) -> None:
        texts = [self._none_text] * self._none_enabled + [node.GetName() for node in self._shown]
        if texts != [self.box.itemText(index) for index in range(self.box.count())]:
            self.box.clear()
            self.box.addItems(texts)
        ids = [""] * self._none_enabled + [node.GetID() for node in self._shown]
        self.box.setCurrentIndex(ids.index(self._current_id) if self._current_id in ids else -1)

    def _chosen(self, index: int) -> None:
        index -= self._none_enabled
        self._select(self._shown[index].GetID() if index >= 0 else "")

    def _select(self, node_id: str) -> None:
        if node_id == self._current_id:
            return
        self._current_id = node_id
        self._show()
        self.currentNodeChanged[object].emit(self.currentNode())
        self.currentNodeChanged[bool].emit(bool(node_id))
        self.currentNodeIDChanged.emit(node_id)

    def currentNode(self) -> Any:
        return self._scene.GetNodeByID(self._current_id) if self._scene is not None and self._current_id else None

    def setCurrentNode(self, node: Any) -> None:
        self.setCurrentNodeID(node.GetID() if hasattr(node, "GetID") else node)

    def setCurrentNodeID(self, node_id: str | None) -> None:
        known = [node.GetID() for node in self._shown]
        self._requested = "" if node_id in known else node_id or ""
        if node_id in known or self._none_enabled or not known:
            self._select(node_id if node_id in known else "")

    def setCurrentNodeIndex(self, index: int) -> None:
        self._select(self._shown[index].GetID() if index >= 0 else "")

    currentNodeID = Property(str, lambda self: self._current_id, setCurrentNodeID)

    def nodeCount(self) -> int:
        return len(self._shown)

    def nodeFromIndex(self, index: int) -> Any:
        return self._shown[index]

    def addNode(self, kind: str = "") -> Any:
        node = self._scene.AddNewNodeByClass(
            kind or self.nodes.types[0], self._scene.GenerateUniqueName(self.baseName or "Node")
        )
        if self.selectNodeUponCreation:
            self.setCurrentNode(node)
        self.nodeAddedByUser.emit(node)
        return node

    def removeCurrentNode(self) -> None:
        self._scene.RemoveNode(self.currentNode())

    def addAttribute(self, kind: str, name: str, value: Any = None) -> None:
        self.nodes.attributes[kind, name] = None if value is None else str(value)
        self.refresh()

    def removeAttribute(self, kind: str, name: str) -> None:
        self.nodes.attributes.pop((kind, name), None)
        self.refresh()

    def _set_none_enabled(self, value: bool) -> None:
        self._none_enabled = value
        self._show()
        self.refresh()

    def _set_none_text(self, text: str) -> None:
        self._none_text = text
        self._show()

    noneEnabled = Property(bool, lambda self: self._none_enabled, _set_none_enabled)
    noneDisplay = Property(str, lambda self: self._none_text, _set_none_text)


@add_class
class qMRMLCheckableNodeComboBox(qMRMLNodeComboBox):
    """Several nodes of the scene."""

    checkedNodesChanged = Signal()

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._checked: set[str] = set()

    def checkedNodes(self) -> list[Any]:
        return [node for node in self._shown if node.GetID() in self._checked]

    def uncheckedNodes(self) -> list[Any]:
        return [node for node in self._shown if node.GetID() not in self._checked]

    def setCheckState(self, node: Any, state: Any) -> None:
        before = set(self._checked)
        (self._checked.add if Qt.CheckState(state) == Qt.Checked else self._checked.discard)(node.GetID())
        if before != self._checked:
            self.checkedNodesChanged.emit()

    def checkState(self, node: Any) -> Qt.CheckState:
        return Qt.Checked if node.GetID() in self._checked else Qt.Unchecked

    def check(self, node: Any) -> None:
        self.setCheckState(node, Qt.Checked)

    def uncheck(self, node: Any) -> None:
        self.setCheckState(node, Qt.Unchecked)

    def allChecked(self) -> bool:
        return not self.uncheckedNodes()

    def noneChecked(self) -> bool:
        return not self.checkedNodes()
