"""No name is used that a running Slicer did not have: checked over the code of the window and over the .ui file."""
# ruff: noqa: PLC0415 - the module is loaded late

from __future__ import annotations

import ast
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from standin_widgets import PARAMETER, load_ui, names_of

MODULE = Path(__file__).parents[2] / "MedSegReg"
UI_FILE = MODULE / "Resources" / "UI" / "MedSegReg.ui"
SOURCES = [
    MODULE / "MedSegReg.py",
    *sorted((MODULE / "MedSegRegPanels").glob("*.py")),
    *sorted((MODULE / "Testing").rglob("*.py")),
]
LAYOUTS = {"QVBoxLayout", "QFormLayout", "QHBoxLayout", "QGridLayout"}
INTERACTIVE = {"QPushButton", "QComboBox", "QCheckBox", "qMRMLNodeComboBox"}


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


def unknown_names(used: list[str], gui_names: dict) -> list[str]:
    """Those of ``used`` that a running Slicer did not have."""
    known = {
        name: {*gui_names[f"slicer.{name}"]}
        for name in ("app", "util", "packaging", "i18n", "parameterNodeWrapper", "ScriptedLoadableModule")
    }
    known["app"] |= {"connect", "disconnect"}  # of every QObject
    wrong = []
    for name in used:
        parts = name.split(".")
        if parts[0] == "qt" and parts[1] not in gui_names["names"]["qt"]:
            wrong.append(name)
        if parts[0] == "qt" and parts[2:] and parts[2] not in gui_names["names"]["qt"].get(parts[1], []):
            wrong.append(name)
        if parts[0] == "ctk" and parts[1] not in gui_names["names"]["ctk"]:
            wrong.append(name)
        if parts[0] == "slicer" and parts[1] in known and parts[2:] and parts[2] not in known[parts[1]]:
            wrong.append(name)
        if (
            parts[0] == "slicer"
            and parts[1] not in known
            and not parts[1].startswith(("vtkMRML", "qMRML"))
            and parts[1] not in {*gui_names["slicer_names"]}
        ):
            wrong.append(name)
    return wrong


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_every_name_of_slicer_and_qt_exists_in_a_running_slicer(source, gui_names):
    assert unknown_names(chains(source), gui_names) == []


def test_a_name_that_only_slicer_core_has_is_noticed(gui_names):
    used = ["slicer.arrayFromVolume", "slicer.util.nothing", "qt.QNothing", "qt.Qt.Nothing", "slicer.util.loadUI"]
    assert unknown_names(used, gui_names) == used[:-1]


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_every_member_of_a_control_exists_on_its_class(source, gui_names):
    classes = {name: child.class_name for name, child in vars(load_ui(UI_FILE, gui_names)).items()}
    for chain in chains(source):
        before, _, after = f".{chain}".partition(".ui.")
        name, _, member = after.partition(".")
        if after:
            assert name in classes, f"{chain}: no control of that name{before}"
            assert not member or member.split(".")[0] in names_of(classes[name], gui_names), chain


def test_the_window_file_uses_only_classes_that_slicer_has(gui_names):
    root = ET.parse(UI_FILE).getroot()
    used = {element.get("class") for element in root.iter("widget")} | {e.get("class") for e in root.iter("layout")}
    assert used - LAYOUTS <= set(gui_names["classes"])
    declared = {element.findtext("class") for element in root.iter("customwidget")}
    assert {name for name in used if not name.startswith("Q")} == declared


def test_every_node_selector_gets_the_scene():
    root = ET.parse(UI_FILE).getroot()
    selectors = {element.get("name") for element in root.iter("widget") if element.get("class") == "qMRMLNodeComboBox"}
    connected = {
        element.findtext("receiver")
        for element in root.iter("connection")
        if element.findtext("signal") == "mrmlSceneChanged(vtkMRMLScene*)"
        and element.findtext("slot") == "setMRMLScene(vtkMRMLScene*)"
    }
    assert selectors == connected


def test_controls_are_bound_to_parameters_that_exist(module, gui_names):
    from MedSegRegPanels.parameters import Parameters

    controls = vars(load_ui(UI_FILE, gui_names)).values()
    bound = [child.property(PARAMETER) for child in controls if child.property(PARAMETER)]
    assert len(bound) == len(set(bound))
    assert set(bound) == set(Parameters.fields) - {"modelName"}  # the models are known only at run time


def test_every_control_has_a_tooltip_and_every_label_leads_to_its_control():
    root = ET.parse(UI_FILE).getroot()
    names = {element.get("name") for element in root.iter("widget")}
    for element in root.iter("widget"):
        properties = {item.get("name"): item for item in element.findall("property")}
        if element.get("class") in INTERACTIVE:
            assert len(properties["toolTip"].findtext("string")) > 20, element.get("name")
        if "buddy" in properties:
            assert properties["buddy"].findtext("cstring") in names


def test_texts_can_be_translated():
    """Only identifiers are marked as not translatable, and shown texts in the code pass through tr."""
    for item in ET.parse(UI_FILE).getroot().iter("property"):
        text = item.find("string")
        if text is not None and item.get("name") in ("text", "toolTip", "noneDisplay"):
            assert text.get("notr") is None
