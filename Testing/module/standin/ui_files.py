"""A ``.ui`` file becomes widgets: Qt's own loader, after every name in the file was checked."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

from PySide6 import QtCore, QtUiTools, QtWidgets

from . import names
from .pythonqt import NotStoodIn, add_class, added_classes, added_properties, wrap

OF_THE_LOADER = {"buddy"}  # written as properties, but not of the widget
LOADERS_OWN = {"Line", "Spacer"}


class WrongUiFile(ValueError):
    """The file uses what Slicer does not have."""


@add_class
class QUiLoader(QtUiTools.QUiLoader):
    """Loads as Slicer does, with the stand-ins for its controls."""

    def load(self, device: QtCore.QIODevice, parent: QtWidgets.QWidget | None = None) -> QtWidgets.QWidget:
        root = ET.fromstring(bytes(device.readAll().data()))
        check(root)
        connections = root.find("connections")
        if connections is not None:
            root.remove(connections)  # PySide6's loader knows no signals with Python objects
        buffer = QtCore.QBuffer()
        buffer.setData(ET.tostring(root))
        buffer.open(QtCore.QIODevice.ReadOnly)
        loaded = super().load(buffer, parent)
        for connection in connections if connections is not None else ():
            self._connect(loaded, connection)
        return loaded

    def createWidget(self, class_name: str, parent: QtWidgets.QWidget | None = None, name: str = "") -> Any:  # noqa: N802
        if class_name not in added_classes:
            return super().createWidget(class_name, parent, name)
        made = added_classes[class_name](parent)
        made.setObjectName(name)
        return made

    def _connect(self, loaded: QtWidgets.QWidget, connection: ET.Element) -> None:
        sender, receiver = (
            loaded if name == loaded.objectName() else loaded.findChild(QtCore.QObject, name)
            for name in (connection.findtext("sender"), connection.findtext("receiver"))
        )
        if sender is None or receiver is None:
            raise WrongUiFile(f"{ET.tostring(connection).decode()}: no such sender or receiver")
        slot = getattr(wrap(receiver), connection.findtext("slot").partition("(")[0])
        if not wrap(sender).connect(connection.findtext("signal"), slot):
            raise WrongUiFile(f"{sender.objectName()} has no signal {connection.findtext('signal')}")


def check(root: ET.Element) -> None:
    """Refuses classes and properties that Slicer does not have.

    Raises:
        WrongUiFile: with the class or the property. NotStoodIn: Slicer has the class, the stand-in not.
    """
    modules = [names.of_module(name) for name in ("qt", "ctk", "qMRML")]
    declared = {element.findtext("class") for element in root.iter("customwidget")}
    for element in root.iter("widget"):
        class_name = element.get("class")
        if class_name in LOADERS_OWN:
            continue
        if not any(class_name in module for module in modules):
            raise WrongUiFile(f"Slicer has no class {class_name}")
        if not class_name.startswith("Q") and class_name not in declared:
            raise WrongUiFile(f"{class_name} is not among the custom widgets of the file")
        if not class_name.startswith("Q") and class_name not in added_classes:
            raise NotStoodIn(f"the class {class_name}")
        _check_properties(element, class_name)


def _check_properties(element: ET.Element, class_name: str) -> None:
    if not names.is_described(class_name):
        return
    for item in element.findall("property"):
        name = item.get("name")
        if item.get("stdset") == "0" or name in OF_THE_LOADER:
            continue
        if name not in names.properties(class_name):
            raise WrongUiFile(f"{element.get('name')}: {class_name} has no property {name}")
        if class_name in added_classes and name not in added_properties[class_name]:
            raise NotStoodIn(f"the property {class_name}.{name}")
