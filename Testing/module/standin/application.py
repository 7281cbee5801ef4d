"""``slicer.app`` with its main window and slice views, over a real scene."""
# ruff: noqa: N801, N802, N815 - names of Slicer

from __future__ import annotations

from pathlib import Path
from typing import Any

import slicer
import vtk
from PySide6 import QtCore, QtWidgets
from PySide6.QtCore import Property, Signal

from . import names
from .mrml_widgets import qMRMLWidget
from .pythonqt import NotStoodIn, add_class, wrap

SLICE_VIEWS = {"Red": "Axial", "Green": "Coronal", "Yellow": "Sagittal"}


class Refusing:
    """Anything that is not defined here: refused, with the word whether Slicer has it."""

    listed_as: str

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("__") and name in names.of_module(self.listed_as):
            raise NotStoodIn(f"{self.listed_as}.{name}")
        raise AttributeError(f"{self.listed_as} has no attribute named '{name}'")


class SliceWidget(Refusing):
    """One slice view: its real logic and nodes, no picture."""

    listed_as = "sliceWidget"

    def __init__(self, scene: Any, name: str, orientation: str) -> None:
        self._name, self._logic = name, slicer.vtkMRMLSliceLogic()
        self._logic.SetMRMLScene(scene)
        self._logic.AddSliceNode(name).SetOrientation(orientation)

    def sliceLogic(self) -> Any:
        return self._logic

    def mrmlSliceNode(self) -> Any:
        return self._logic.GetSliceNode()

    def mrmlSliceCompositeNode(self) -> Any:
        return self._logic.GetSliceCompositeNode()

    def fitSliceToBackground(self) -> None:
        self._logic.FitSliceToBackground()


class LayoutManager(Refusing):
    listed_as = "layoutManager"

    def __init__(self, scene: Any) -> None:
        slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene)
        self._views = {name: SliceWidget(scene, name, way) for name, way in SLICE_VIEWS.items()}

    def sliceViewNames(self) -> tuple[str, ...]:
        return tuple(self._views)

    def sliceWidget(self, name: str) -> SliceWidget:
        return self._views[name]

    def mrmlSliceLogics(self) -> Any:
        collection = vtk.vtkCollection()
        for view in self._views.values():
            collection.AddItem(view.sliceLogic())
        return collection

    def resetSliceViews(self) -> None:
        for view in self._views.values():
            view.fitSliceToBackground()


class Signals(QtCore.QObject):
    """What ``slicer.app`` tells; also the signals that a test fires for it."""

    startupCompleted = Signal()
    aboutToQuit = Signal()


class Application(Refusing):
    """``slicer.app`` for one scene."""

    listed_as = "app"
    applicationName, applicationVersion, os = "Slicer", "5.13.0", "linux"
    majorVersion, minorVersion, revision = 5, 13, "0"

    def __init__(self, scene: Any, folder: Path) -> None:
        self.signals, self._scene = Signals(), scene
        self._layout_manager = LayoutManager(scene)
        self.temporaryPath = str(folder)
        self._folder = folder
        self.openedModules: list[str] = []
        self.opened_nodes: list[Any] = []

    def connect(self, signature: str, slot: Any) -> bool:
        return wrap(self.signals).connect(signature, slot)

    def disconnect(self, signature: str, slot: Any = None) -> bool:
        return wrap(self.signals).disconnect(signature, slot)

    def testingEnabled(self) -> bool:
        return False  # a person sits in front of the window

    def layoutManager(self) -> LayoutManager:
        return self._layout_manager

    def mrmlScene(self) -> Any:
        return self._scene

    def topLevelWidgets(self) -> tuple:
        return wrap(QtWidgets.QApplication.topLevelWidgets())

    def settings(self) -> Any:
        return wrap(QtCore.QSettings(str(self._folder / "Slicer.ini"), QtCore.QSettings.IniFormat))

    userSettings = revisionUserSettings = settings

    def setOverrideCursor(self, cursor: Any) -> None:
        QtWidgets.QApplication.setOverrideCursor(QtCore.Qt.CursorShape(int(cursor)))

    def restoreOverrideCursor(self) -> None:
        QtWidgets.QApplication.restoreOverrideCursor()

    def pauseRender(self) -> None:
        """There is no picture to hold back."""

    resumeRender = pauseRender


@add_class
class qSlicerScriptedLoadableModuleWidget(qMRMLWidget):
    """What a module's widget gets as its parent."""

    isEntered = Property(bool, lambda self: self.__dict__.get("_entered", False))

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        QtWidgets.QVBoxLayout(self)
