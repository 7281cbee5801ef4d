"""What a running Slicer offers: every name that the window may use. Anything else is refused.

The facts in slicer_names.json were read from a running 3D Slicer 5.13.0 (Qt 5.15.8): Qt's meta-objects, and ``dir()``
of the Python side. They are a selection: the classes that the window uses and their usual company. To widen it, run
``python names.py LISTING.json`` with the whole listing.
"""

from __future__ import annotations

import json
import sys
from functools import cache
from pathlib import Path

NAMES_FILE = Path(__file__).with_name("slicer_names.json")
BY_HAND = {"name", "className", "inherits", "delete", "help"}  # PythonQt adds these to every object
CLASSES = """
QObject QWidget QFrame QLabel QPushButton QToolButton QCheckBox QComboBox QLineEdit QPlainTextEdit QTextBrowser QSpinBox
QDoubleSpinBox QSlider QProgressBar QGroupBox QTabWidget QTableWidget QTableWidgetItem QHeaderView QListWidget
QListWidgetItem QLayout QFormLayout QVBoxLayout QHBoxLayout QGridLayout QMenu QAction QTimer QFileDialog QMessageBox
QSettings QIcon QPixmap QColor QFile QUrl QDesktopServices QSize QUiLoader Qt
ctkCollapsibleButton ctkCollapsibleGroupBox ctkComboBox ctkMenuButton ctkPathLineEdit ctkSliderWidget
qMRMLWidget qMRMLNodeComboBox qMRMLCheckableNodeComboBox qMRMLSegmentSelectorWidget qSlicerScriptedLoadableModuleWidget
"""  # one long list would hide what changes
MODULES = ("app", "util", "packaging", "i18n", "modules", "parameterNodeWrapper", "ScriptedLoadableModule", "cli")


@cache
def listing() -> dict:
    return json.loads(NAMES_FILE.read_text(encoding="utf-8"))


@cache
def of_module(name: str) -> frozenset[str]:
    """The names in ``qt``, ``ctk``, ``slicer``, ``slicer.app``, ``slicer.util``, ``layoutManager``, ..."""
    return frozenset(listing()["modules"][name].split())


def is_described(class_name: str) -> bool:
    """Whether the selection holds this class."""
    return class_name in listing()["classes"]


@cache
def _members(class_name: str, kind: str) -> frozenset[str]:
    classes = listing()["classes"]
    lineage = [class_name, "QObject", *(["QWidget"] if classes[class_name].get("widget") else [])]
    return frozenset(item for name in lineage for item in classes[name].get(kind, "").split())


@cache
def of_class(class_name: str) -> frozenset[str]:
    """Every attribute that Python sees on an object of a class."""
    return _members(class_name, "names") | BY_HAND


def properties(class_name: str) -> frozenset[str]:
    """The Qt properties: attributes that are values."""
    return _members(class_name, "properties")


def signals(class_name: str) -> frozenset[str]:
    """The signatures of signals, as ``connect`` takes them."""
    return _members(class_name, "signals")


def select(whole: dict) -> dict:
    """The selection out of a whole listing."""
    seen = {**whole["names"]["qt"], **whole["names"]["ctk"], **whole["names"]["slicer_widgets"]}
    qobject, qwidget = set(seen["QObject"]), set(seen["QWidget"])
    modules = {name: whole[f"slicer.{name}"] for name in MODULES}
    modules["qt"] = [*whole["qt_all_names"], *whole["names"]["qt"]]
    modules["ctk"], modules["qMRML"] = whole["names"]["ctk"], whole["names"]["slicer_widgets"]
    modules["layoutManager"], modules["sliceWidget"] = whole["layoutManager"], whole["sliceWidget"]
    modules["slicer"] = whole["slicer_names"]
    classes = {}
    for name in CLASSES.split():
        meta = whole["classes"].get(name, {})
        is_widget = meta.get("is_widget", name in ("QWidget", "QHeaderView", "QInputDialog") or name[0] != "Q")
        members = [text.split("(")[0] for kind in ("properties", "signals", "slots") for text in meta.get(kind, [])]
        own = {*seen.get(name, []), *members}
        own -= (qwidget | qobject) if is_widget and name != "QWidget" else qobject if name != "QObject" else set()
        own = {item for item in own if not item.startswith(("_q_", "Key_")) and not item.endswith("Event")}
        classes[name] = {"widget": True} if is_widget else {}
        classes[name]["names"] = " ".join(sorted(own))
        for kind in ("properties", "signals"):
            if meta.get(kind):
                classes[name][kind] = " ".join(sorted(meta[kind]))
    return {"modules": {k: " ".join(sorted(set(v))) for k, v in sorted(modules.items())}, "classes": classes}


if __name__ == "__main__":
    selection = select(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    NAMES_FILE.write_text(json.dumps(selection, indent=1) + "\n", encoding="utf-8")
