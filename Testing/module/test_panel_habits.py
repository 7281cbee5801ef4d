"""What holds for every section: it fits a narrow window, each control can be reached by keys, each text translated."""

from __future__ import annotations

import ast
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

MODULE = Path(__file__).parents[2] / "MedSegReg"
UI_FILES = sorted((MODULE / "Resources" / "UI").glob("*.ui"))
PANELS = sorted((MODULE / "MedSegRegPanels").glob("*.py"))
NARROW, MARGINS = 350, 18  # Slicer's module panel, and what Slicer puts around a module's frame
NEEDS_A_LABEL = {"QComboBox", "QLineEdit", "QSpinBox", "QDoubleSpinBox", "ctkSliderWidget", "ctkPathLineEdit"}
SHOWS_WORDS = {"text", "title", "toolTip", "placeholderText", "noneDisplay", "windowTitle"}


def widgets(path: Path) -> list[ET.Element]:
    return list(ET.parse(path).getroot().iter("widget"))


def rows_without_a_label(path: Path) -> set[str]:
    """The controls of the rows of forms that begin with a control."""
    found: set[str] = set()
    for layout in ET.parse(path).getroot().iter("layout"):
        items = [(item, widget) for item in layout.findall("item") for widget in item.findall("widget")]
        own = {
            i.get("row")
            for i, w in items
            if i.get("column") == "0" and not i.get("colspan") and w.get("class") != "QLabel"
        }
        found |= {widget.get("name") for item, widget in items if item.get("row") in own}
    return found


def text_of(element: ET.Element, name: str) -> str:
    return element.findtext(f"property[@name='{name}']/string") or ""


def test_every_section_fits_a_narrow_window(window):
    for name in window.widget.panels:
        section = window.open(name.lower())
        assert section.minimumSizeHint.width() <= NARROW - MARGINS - 8, name


@pytest.mark.parametrize("path", UI_FILES, ids=lambda path: path.name)
def test_every_input_has_a_label_with_a_key(path):
    """Or says itself what is wanted, or its row begins with another control."""
    buddies = {element.findtext("property[@name='buddy']/cstring"): element for element in widgets(path)}
    others = rows_without_a_label(path)
    for element in widgets(path):
        kind, name = element.get("class"), element.get("name")
        if (kind in NEEDS_A_LABEL or "NodeComboBox" in kind) and name not in others:
            says = text_of(element, "placeholderText")
            assert says or re.search(r"&\w", text_of(buddies[name], "text")), name


@pytest.mark.parametrize("path", UI_FILES, ids=lambda path: path.name)
def test_no_key_is_taken_twice_in_a_section(path):
    keys = [key.lower() for e in widgets(path) for key in re.findall(r"&(\w)", text_of(e, "text"))]
    assert sorted(keys) == sorted(set(keys))


@pytest.mark.parametrize("path", UI_FILES, ids=lambda path: path.name)
def test_no_control_is_left_out_by_the_tab_key(path):
    for element in widgets(path):
        policy = element.findtext("property[@name='focusPolicy']/enum")
        assert policy in (None, "Qt::StrongFocus", "Qt::TabFocus", "Qt::WheelFocus"), element.get("name")


@pytest.mark.parametrize("path", UI_FILES, ids=lambda path: path.name)
def test_everything_a_person_looks_at_has_a_tooltip(path):
    plain = {"QLabel", "QWidget", "QFrame", "qMRMLWidget", "Line"}
    for element in widgets(path):
        if element.get("class") not in plain:
            assert len(text_of(element, "toolTip")) > 15, element.get("name")


def words(node: ast.AST) -> str:
    """The text of a constant, empty for anything else."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


@pytest.mark.parametrize("path", PANELS, ids=lambda path: path.name)
def test_every_sentence_that_is_shown_can_be_translated(path):
    """A text with a blank that is given to a control, or to a message box, stands in ``_()``."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    shown: list[ast.AST] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and any(getattr(t, "attr", "") in SHOWS_WORDS for t in node.targets):
            shown.append(node.value)
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in (
            "errorDisplay",
            "infoDisplay",
            "confirmOkCancelDisplay",
            "showStatusMessage",
            "setHorizontalHeaderLabels",
        ):
            shown += node.args[:1]
    for value in shown:
        translated = {
            id(n)
            for call in ast.walk(value)
            if getattr(getattr(call, "func", None), "id", "") == "_"
            for n in ast.walk(call)
        }
        untranslated = [words(n) for n in ast.walk(value) if " " in words(n) and id(n) not in translated]
        assert untranslated == []
