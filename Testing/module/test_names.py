"""No name is used that a running Slicer did not have: checked over the code of the window and over its .ui files."""

from __future__ import annotations

import ast
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from standin import names

MODULE = Path(__file__).parents[2] / "MedSegReg"
UI_FILES = sorted((MODULE / "Resources" / "UI").glob("*.ui"))
SOURCES = [
    MODULE / "MedSegReg.py",
    *sorted((MODULE / "MedSegRegPanels").glob("*.py")),
    *sorted((MODULE / "Testing").rglob("*.py")),
]
MODULES = ("app", "util", "packaging", "i18n", "parameterNodeWrapper", "ScriptedLoadableModule", "modules")
INTERACTIVE = {"QPushButton", "QToolButton", "QComboBox", "QCheckBox", "QSpinBox", "QDoubleSpinBox", "QLineEdit"}


def chains(source: Path) -> list[str]:
    """Every dotted name in a file, e.g. ``slicer.util.loadUI``; imports from slicer's submodules too."""
    found = []
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        parts = []
        inner = node
        while isinstance(inner, ast.Attribute):
            parts.insert(0, inner.attr)
            inner = inner.value
        if parts and isinstance(inner, ast.Name):
            found.append(".".join([inner.id, *parts]))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("slicer"):
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


def is_known(chain: str) -> bool:
    """Whether a running Slicer had the first names of a chain that starts in its Python."""
    first, *rest = chain.split(".")
    if first in ("qt", "ctk"):
        return rest[0] in names.of_module(first) and (
            len(rest) == 1
            or rest[1].startswith("Key_")
            or not names.is_described(rest[0])
            or rest[1] in names.of_class(rest[0])
        )
    if first != "slicer":
        return True
    if rest[0] == "modules" and len(rest) > 1 and rest[1].lower().startswith("medsegreg"):
        return True  # our own
    if rest[0] in MODULES and len(rest) > 1:
        return rest[1] in names.of_module(rest[0]) or (rest[0] == "app" and rest[1] in names.of_class("QObject"))
    return rest[0].startswith("vtk") or rest[0] in names.of_module("qMRML") | names.of_module("slicer") | set(MODULES)


def controls() -> dict[str, str]:
    """The class of every named control of every .ui file."""
    elements = [element for path in UI_FILES for element in ET.parse(path).getroot().iter("widget")]
    return {element.get("name"): element.get("class") for element in elements}


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_every_name_of_slicer_and_qt_exists_in_a_running_slicer(source):
    assert [chain for chain in chains(source) if not is_known(chain)] == []


def test_a_name_that_only_slicer_core_has_is_noticed():
    used = ["slicer.arrayFromVolume", "slicer.util.nothing", "qt.QNothing", "qt.Qt.Nothing", "slicer.util.loadUI"]
    assert [chain for chain in used if not is_known(chain)] == used[:-1]


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_every_member_of_a_control_exists_on_its_class(source):
    classes = controls()
    for chain in chains(source):
        _, dot, after = f".{chain}".partition(".ui.")
        name, _, member = after.partition(".")
        if dot:
            assert name in classes, f"{chain}: no control of that name"
            assert not member or member.split(".")[0] in names.of_class(classes[name]), chain


def test_no_two_controls_have_one_name():
    names_of_all = [e.get("name") for path in UI_FILES for e in ET.parse(path).getroot().iter("widget")]
    assert sorted(names_of_all) == sorted(set(names_of_all))


@pytest.mark.parametrize("path", UI_FILES, ids=lambda path: path.name)
def test_every_node_selector_gets_the_scene(path):
    root = ET.parse(path).getroot()
    selectors = {e.get("name") for e in root.iter("widget") if "NodeComboBox" in e.get("class")}
    connected = {
        element.findtext("receiver")
        for element in root.iter("connection")
        if element.findtext("signal") == "mrmlSceneChanged(vtkMRMLScene*)"
        and element.findtext("slot") == "setMRMLScene(vtkMRMLScene*)"
    }
    assert selectors <= connected


def test_every_parameter_of_a_panel_has_a_name_of_its_own_and_bound_controls_have_parameters(window):
    bound = [
        element.findtext("property[@name='SlicerParameterName']/string")
        for path in UI_FILES
        for element in ET.parse(path).getroot().iter("widget")
    ]
    bound = [name for name in bound if name]
    kinds = [panel.Parameters for panel in window.widget.panels.values() if panel.Parameters is not None]
    fields = [name for kind in kinds for name in kind.allParameters]
    assert sorted(fields) == sorted(set(fields))
    assert sorted(bound) == sorted(set(bound))
    assert set(bound) <= set(fields)


@pytest.mark.parametrize("path", UI_FILES, ids=lambda path: path.name)
def test_every_control_has_a_tooltip_and_every_label_leads_to_its_control(path):
    root = ET.parse(path).getroot()
    named = {element.get("name") for element in root.iter("widget")}
    for element in root.iter("widget"):
        properties = {item.get("name"): item for item in element.findall("property")}
        if element.get("class") in INTERACTIVE or "NodeComboBox" in element.get("class"):
            assert len(properties["toolTip"].findtext("string")) > 20, element.get("name")
        if "buddy" in properties:
            assert properties["buddy"].findtext("cstring") in named


@pytest.mark.parametrize("path", UI_FILES, ids=lambda path: path.name)
def test_texts_can_be_translated(path):
    """Only identifiers are marked as not translatable."""
    for item in ET.parse(path).getroot().iter("property"):
        text = item.find("string")
        if text is not None and item.get("name") in ("text", "title", "toolTip", "noneDisplay"):
            assert text.get("notr") is None
