"""Slicer's desktop with a person in front of it, and the module opened on it."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import slicer
from PySide6 import QtCore, QtWidgets

from . import mrml_widgets, ui_files  # noqa: F401 - they add their classes
from .application import Application, qSlicerScriptedLoadableModuleWidget
from .event_loop import PANEL_WIDTH
from .node_selectors import qMRMLNodeComboBox
from .pythonqt import QtModule, added_classes, slot_errors, wrap, wrapper_class


class Desktop:
    """``qt``, ``ctk``, ``slicer.app`` and ``slicer.qMRML...`` while a test runs; see conftest.py."""

    def __init__(self, scene: Any, folder: Path, monkeypatch: Any) -> None:
        self.messages: list[str] = []
        self.statuses: list[str] = []
        self.agrees = True
        self.slot_errors = slot_errors
        slot_errors.clear()
        QtCore.QSettings.setDefaultFormat(QtCore.QSettings.IniFormat)
        QtCore.QSettings.setPath(QtCore.QSettings.IniFormat, QtCore.QSettings.UserScope, str(folder))
        self.main_window = QtWidgets.QMainWindow()
        self.main_window.setObjectName("qSlicerMainWindow")
        self.main_window.statusBar().messageChanged.connect(lambda text: text and self.statuses.append(text))
        self.application = Application(scene, folder)
        monkeypatch.setattr(slicer, "app", self.application, raising=False)
        for name in ("qt", "ctk"):
            monkeypatch.setitem(sys.modules, name, QtModule(name))
        for name, qt_class in added_classes.items():
            if name.startswith("q"):
                monkeypatch.setattr(slicer, name, wrapper_class(qt_class), raising=False)
        monkeypatch.setattr(slicer.util, "messageBox", self._answer)

    def _answer(self, text: str, parent: Any = None, **options: Any) -> int:
        """In place of Slicer's message box: what was asked is kept, and answered as the person would."""
        self.messages.append(text)
        boxes = QtWidgets.QMessageBox
        offered = int(options.get("standardButtons", boxes.Ok.value))
        wanted = (boxes.Ok, boxes.Yes, boxes.Retry) if self.agrees else (boxes.Cancel, boxes.No, boxes.Close)
        return next((button.value for button in wanted if button.value & offered), boxes.Ok.value)

    def close(self) -> None:
        self.main_window.deleteLater()
        QtWidgets.QApplication.sendPostedEvents(None, QtCore.QEvent.DeferredDelete)


class Window:
    """The opened module."""

    def __init__(self, desktop: Desktop, module: Any, path: Path) -> None:
        self.desktop = desktop
        slicer.modules.medsegreg = SimpleNamespace(path=str(path))
        self.parent = qSlicerScriptedLoadableModuleWidget()
        self.parent.setMRMLScene(slicer.mrmlScene)
        self.parent.resize(PANEL_WIDTH, 800)
        self.widget = slicer.modules.MedSegRegWidget = module.MedSegRegWidget(wrap(self.parent))
        self.widget.setup()
        self.parent.show()
        self.enter()

    def enter(self) -> None:
        """The person opens the module."""
        self.parent._entered = True
        self.widget.enter()

    def exit(self) -> None:
        """The person opens another module."""
        self.parent._entered = False
        self.widget.exit()

    def control(self, name: str) -> Any:
        """The control of that name, in any panel."""
        found = self.parent.findChildren(QtWidgets.QWidget, name)
        assert len(found) == 1, f"{len(found)} controls are called {name}"
        return wrap(found[0])

    def open(self, name: str) -> Any:
        """Unfold a section."""
        section = self.control(f"{name}CollapsibleButton")
        section.collapsed = False
        return section

    def close(self) -> None:
        self.widget.cleanup()
        for selector in self.parent.findChildren(qMRMLNodeComboBox):
            selector.setMRMLScene(None)  # Python may keep it for a while, with its observers
        self.parent.deleteLater()
        QtWidgets.QApplication.sendPostedEvents(None, QtCore.QEvent.DeferredDelete)
