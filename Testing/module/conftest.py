"""Slicer without its window: real MRML and slicer.util, stand-ins for the few names that need Qt."""
# ruff: noqa: N802, N803, N807, PLC0415 - stands in for Slicer, whose names are camelCase; the scene is loaded late

from __future__ import annotations

import enum
import importlib
import sys
import types
import typing
import unittest
from pathlib import Path

import pytest
from standin_widgets import PARAMETER, load_names, load_ui, widget

REPOSITORY = Path(__file__).parents[2]
MODULE = REPOSITORY / "MedSegReg"


class ScriptedLoadableModule:
    def __init__(self, parent):
        self.parent, self.moduleName = parent, type(self).__name__
        parent.title, parent.categories, parent.contributors, parent.acknowledgementText = "", [], [], ""


class ScriptedLoadableModuleWidget:
    def __init__(self, parent=None):
        super().__init__()
        self.parent = parent
        self.layout = types.SimpleNamespace(addWidget=lambda child: None)

    def resourcePath(self, name):
        return str(MODULE / "Resources" / name)

    def setup(self):
        """Slicer adds its developer section here."""


class ScriptedLoadableModuleLogic:
    def __init__(self, parent=None):
        self.moduleName = type(self).__name__.removesuffix("Logic")

    def getParameterNode(self):
        import slicer

        node = slicer.mrmlScene.GetSingletonNode(self.moduleName, "vtkMRMLScriptedModuleNode")
        if node is None:
            node = slicer.vtkMRMLScriptedModuleNode()
            node.SetSingletonTag(self.moduleName)
            node.SetName(self.moduleName)
            node = slicer.mrmlScene.AddNode(node)
        return node


class ScriptedLoadableModuleTest(unittest.TestCase):
    """As in Slicer, less its delayDisplay."""


def parameterNodeWrapper(cls):
    """Typed properties over a real vtkMRMLScriptedModuleNode; refuses field types and widgets that Slicer's refuses."""
    fields = typing.get_type_hints(cls)
    for name, kind in fields.items():
        default = getattr(cls, name, None)
        is_node = hasattr(kind, "GetClassName")
        assert is_node or kind in (str, bool) or issubclass(kind, enum.Enum), f"{name}: {kind} is not stood in for"
        setattr(cls, name, _node_property(name) if is_node else _value_property(name, kind, default))

    def __init__(self, parameterNode):
        self.parameterNode = parameterNode

    def connectGui(self, ui):
        for child in vars(ui).values():
            name = child.property(PARAMETER)
            if name:
                _bind(self, name, fields[name], child)

    cls.__init__, cls.connectGui, cls.fields = __init__, connectGui, fields
    cls.disconnectGui = lambda self, tag: None
    cls.AddObserver = lambda self, event, slot, priority=0.0: self.parameterNode.AddObserver(event, slot, priority)
    cls.RemoveObserver = lambda self, tag: self.parameterNode.RemoveObserver(tag)
    return cls


def _node_property(name):
    return property(
        lambda self: self.parameterNode.GetNodeReference(name),
        lambda self, node: self.parameterNode.SetNodeReferenceID(name, node.GetID() if node is not None else None),
    )


def _value_property(name, kind, default):
    def read(self):
        text = self.parameterNode.GetParameter(name)
        if name not in self.parameterNode.GetParameterNames():
            return default
        return kind[text] if issubclass(kind, enum.Enum) else text == "true" if kind is bool else text

    def write(self, value):
        if not isinstance(value, kind):
            raise TypeError(f"{name}: {value!r} is no {kind.__name__}")
        text = value.name if isinstance(value, enum.Enum) else str(value).lower() if kind is bool else value
        self.parameterNode.SetParameter(name, text)

    return property(read, write)


def _bind(parameters, name, kind, child):
    """The connectors of Slicer's guiConnectors.py that this module needs, with their conditions."""
    if child.class_name == "QComboBox" and isinstance(kind, enum.EnumMeta):
        members = list(kind)
        child.clear()
        for member in members:
            child.addItem(member.label())
        child.currentIndex = members.index(getattr(parameters, name))
        assert child.connect("currentIndexChanged(int)", lambda index: setattr(parameters, name, members[index]))
    elif child.class_name == "QCheckBox" and kind is bool:
        child.checked = getattr(parameters, name)
        assert child.connect("stateChanged(int)", lambda state: setattr(parameters, name, bool(state)))
    elif child.class_name == "qMRMLNodeComboBox" and hasattr(kind, "GetClassName"):
        assert child.nodeTypes == [kind.__name__], f"{name} takes a {kind.__name__}, not {child.nodeTypes}"
        child.setCurrentNode(getattr(parameters, name))
        assert child.connect("currentNodeChanged(vtkMRMLNode*)", lambda node: setattr(parameters, name, node))
    else:
        raise RuntimeError(f"Unable to create GUI connector from datatype '{kind}' to widget type '{child.class_name}'")


def standin_modules() -> dict[str, types.ModuleType]:
    """The submodules that Slicer's Python has and slicer-core lacks."""
    names = ("i18n", "ScriptedLoadableModule", "parameterNodeWrapper")
    made = {name: types.ModuleType(f"slicer.{name}") for name in names}
    made["i18n"].tr = lambda text: text
    made["i18n"].translate = lambda context, text: text
    made["parameterNodeWrapper"].parameterNodeWrapper = parameterNodeWrapper
    for kind in (
        ScriptedLoadableModule,
        ScriptedLoadableModuleWidget,
        ScriptedLoadableModuleLogic,
        ScriptedLoadableModuleTest,
    ):
        setattr(made["ScriptedLoadableModule"], kind.__name__, kind)
    return made


@pytest.fixture
def scene():
    """A fresh real MRML scene, also as slicer.mrmlScene."""
    from MedSegRegLib.mrml.headless import new_scene

    return new_scene()


@pytest.fixture
def application():
    """slicer.app with the three names the module uses; remembers what was connected."""
    connected = {}
    return types.SimpleNamespace(
        connect=lambda signal, slot: connected.setdefault(signal, slot) is slot,
        connected=connected,
        testingEnabled=lambda: True,
    )


@pytest.fixture
def module(monkeypatch, scene, application):
    """The module file, imported as Slicer imports it but without Qt."""
    import slicer

    for name, standin in standin_modules().items():
        monkeypatch.setitem(sys.modules, f"slicer.{name}", standin)
        monkeypatch.setattr(slicer, name, standin, raising=False)
    monkeypatch.setattr(slicer, "app", application, raising=False)
    for name in ("MedSegReg", "MedSegRegPanels"):
        for loaded in [key for key in sys.modules if key.split(".")[0] == name]:
            monkeypatch.delitem(sys.modules, loaded)
    yield importlib.import_module("MedSegReg")
    for loaded in [key for key in sys.modules if key.split(".")[0] in ("MedSegReg", "MedSegRegPanels")]:
        del sys.modules[loaded]


@pytest.fixture(scope="session")
def gui_names():
    """Every name a running Slicer was seen to have."""
    names = load_names()
    if names is None:
        pytest.skip("slicer_gui_names.json, read from a running Slicer, is not there")
    return names


class Window:
    """The opened module: its widget, the named controls, and the messages that the user saw."""

    def __init__(self, widget, messages):
        self.widget, self.ui, self.messages = widget, widget.ui, messages


@pytest.fixture
def window(module, gui_names, monkeypatch, capfd):
    """The module opened in a window of stand-in widgets; no observer may fail (VTK only prints that)."""
    import slicer

    messages = []
    qt = types.ModuleType("qt")
    qt.Qt = types.SimpleNamespace(ApplicationModal=2)
    qt.QProgressDialog = lambda parent: widget("QProgressDialog", gui_names)
    monkeypatch.setitem(sys.modules, "qt", qt)
    monkeypatch.setattr(slicer.util, "mainWindow", lambda: None)
    monkeypatch.setattr(slicer.util, "errorDisplay", lambda text, **options: messages.append(text))
    monkeypatch.setattr(slicer.util, "showStatusMessage", lambda text, duration=0: messages.append(text))
    monkeypatch.setattr(slicer.util, "childWidgetVariables", lambda loaded: loaded.ui)
    monkeypatch.setattr(
        slicer.util,
        "loadUI",
        lambda path: types.SimpleNamespace(ui=load_ui(Path(path), gui_names), setMRMLScene=lambda scene: None),
    )
    parent = types.SimpleNamespace(isEntered=True)
    opened = module.MedSegRegWidget(parent)
    opened.setup()
    yield Window(opened, messages)
    opened.cleanup()
    assert "Traceback" not in capfd.readouterr().err
