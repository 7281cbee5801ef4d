"""Qt widgets as PythonQt shows them, for tests without Qt: they refuse every name that a running Slicer did not list.

They are built from the module's own .ui file, so a wrong class, property or signal there is refused too.
"""
# ruff: noqa: N802, RUF012 - stands in for Qt, whose names are camelCase; defaults are never changed in place

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from types import SimpleNamespace

NAMES_FILE = Path(__file__).parents[3] / "shared" / "notes" / "slicer_gui_names.json"
PARAMETER = "SlicerParameterName"


def load_names() -> dict | None:
    """What was read from a running Slicer, or None where the file is not there."""
    return json.loads(NAMES_FILE.read_text(encoding="utf-8")) if NAMES_FILE.is_file() else None


def names_of(class_name: str, names: dict) -> set[str]:
    """Every attribute that Python sees on a widget class."""
    listed = {**names["names"]["qt"], **names["names"]["ctk"], **names["names"]["slicer_widgets"]}
    described = {**names["classes"]["QWidget"], **names["classes"].get(class_name, {})}
    members = [text.split("(")[0] for kind in ("properties", "signals", "slots") for text in described.get(kind, [])]
    return {*listed["QWidget"], *names["classes"]["QWidget"]["properties"], *listed.get(class_name, []), *members}


class Widget:
    """One widget: properties are attributes, signals are connected by signature, anything unknown is refused."""

    defaults: dict = {}

    def __init__(self, class_name: str, names: dict) -> None:
        meta = [names["classes"]["QWidget"], names["classes"][class_name]]
        state = {
            "class_name": class_name,
            "known": names_of(class_name, names),
            "properties": {name for part in meta for name in part["properties"]},
            "signals": {name for part in meta for name in part["signals"]},
            "values": {"enabled": True, "text": "", "toolTip": "", "visible": False, **self.defaults},
            "dynamic": {},
            "slots": {},
        }
        for name, value in state.items():
            object.__setattr__(self, name, value)

    def __getattr__(self, name: str):
        if name in self.properties:
            return self.values[name]
        raise AttributeError(f"{self.class_name} has no attribute named '{name}'")

    def __setattr__(self, name: str, value) -> None:
        if name not in self.properties:
            raise AttributeError(
                f"'{name}' does not exist on {self.class_name} and creating new attributes on C++ objects is not "
                "allowed"
            )
        self.values[name] = value

    def __getattribute__(self, name: str):
        found = object.__getattribute__(self, name)
        if callable(found) and not name.startswith("_") and name not in ("emit", "click", "set_property"):
            known = object.__getattribute__(self, "known")
            if name not in known:
                raise AttributeError(f"{self.class_name} has no attribute named '{name}'")
        return found

    def connect(self, signature: str, slot) -> bool:
        """As PythonQt: an unknown signal gives False and no exception."""
        if signature not in self.signals:
            return False
        self.slots.setdefault(signature.partition("(")[0], []).append(slot)
        return True

    def emit(self, signal: str, *arguments) -> None:
        """Only for tests: what Qt does when the signal fires."""
        for slot in self.slots.get(signal, []):
            slot(*arguments)

    def set_property(self, name: str, value, dynamic: bool) -> None:
        """Only for tests: what the .ui loader does."""
        if dynamic or (name == "buddy" and self.class_name == "QLabel"):  # only the loader knows buddies
            self.dynamic[name] = value
        else:
            setattr(self, name, value)

    def property(self, name: str):
        return self.dynamic.get(name, self.values.get(name))

    def show(self) -> None:
        self.visible = True

    def hide(self) -> None:
        self.visible = False

    def close(self) -> None:
        self.visible = False


class Button(Widget):
    defaults = {"checked": False}

    def click(self) -> None:
        if self.enabled:
            self.emit("clicked", False)


class CheckBox(Widget):
    defaults = {"checked": False}

    def __setattr__(self, name: str, value) -> None:
        changed = name == "checked" and value != self.values["checked"]
        super().__setattr__(name, value)
        if changed:
            self.emit("stateChanged", 2 if value else 0)


class ComboBox(Widget):
    defaults = {"count": 0, "currentIndex": -1, "currentText": ""}

    def __init__(self, class_name: str, names: dict) -> None:
        super().__init__(class_name, names)
        object.__setattr__(self, "items", [])

    def __setattr__(self, name: str, value) -> None:
        changed = name == "currentIndex" and value != self.values["currentIndex"]
        super().__setattr__(name, value)
        if changed:
            self.emit("currentIndexChanged", value)

    def addItem(self, text: str, data=None) -> None:
        self.items.append((text, data))
        self.values["count"] = len(self.items)
        self.currentIndex = max(self.currentIndex, 0)

    def clear(self) -> None:
        self.items.clear()
        self.values.update(count=0, currentIndex=-1)

    def itemData(self, index: int):
        return self.items[index][1]

    def findData(self, data) -> int:
        return next((index for index, (_, value) in enumerate(self.items) if value == data), -1)


class NodeComboBox(Widget):
    defaults = {"currentNodeID": ""}

    def __init__(self, class_name: str, names: dict) -> None:
        super().__init__(class_name, names)
        object.__setattr__(self, "scene", None)
        object.__setattr__(self, "node", None)

    def setMRMLScene(self, scene) -> None:
        object.__setattr__(self, "scene", scene)

    def setCurrentNode(self, node) -> None:
        changed = node is not self.node
        object.__setattr__(self, "node", node)
        if changed:
            self.emit("currentNodeChanged", node)

    def currentNode(self):
        return self.node


class ProgressDialog(Widget):
    defaults = {
        "wasCanceled": False,
        "maximum": 100,
        "value": 0,
        "minimumDuration": 4000,
        "labelText": "",
        "windowTitle": "",
        "windowModality": 0,
        "autoClose": True,
        "autoReset": True,
    }


STANDINS = {
    "QPushButton": Button,
    "QCheckBox": CheckBox,
    "QComboBox": ComboBox,
    "qMRMLNodeComboBox": NodeComboBox,
    "QProgressDialog": ProgressDialog,
}


def widget(class_name: str, names: dict) -> Widget:
    """A stand-in for a widget of this class."""
    return STANDINS.get(class_name, Widget)(class_name, names)


def load_ui(path: Path, names: dict) -> SimpleNamespace:
    """The named widgets of a .ui file, as ``slicer.util.childWidgetVariables`` gives them."""
    found = {}
    for element in ET.parse(path).getroot().iter("widget"):
        made = found[element.get("name")] = widget(element.get("class"), names)
        for item in element.findall("property"):
            made.set_property(item.get("name"), _value(item[0]), dynamic=item.get("stdset") == "0")
    return SimpleNamespace(**found)


def _value(element: ET.Element):
    if element.tag == "bool":
        return element.text == "true"
    return [child.text for child in element] if element.tag == "stringlist" else element.text or ""
