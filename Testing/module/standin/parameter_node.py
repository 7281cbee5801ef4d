"""``slicer.parameterNodeWrapper``: typed fields over a real vtkMRMLScriptedModuleNode, bound to widgets.

Refuses field types and pairs of field and widget that Slicer's refuses, and keeps three of its habits that surprise:
values are read once and again only when the node says Modified (which it does not when a node that it refers to is
read from a file after it); ``connectGui`` returns None, so that ``disconnectGui`` of its result ends nothing
(``connectParametersToGui`` returns a tag); and the observer that either adds to the node stays as long as the node.
"""
# ruff: noqa: N802, N803, N807 - names of Slicer; methods that a decorator adds

from __future__ import annotations

import typing
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import slicer

from .parameter_stores import store_of

PROPERTY = "SlicerParameterName"


class Validator:
    def validate(self, value: Any) -> None:
        raise NotImplementedError


@dataclass
class WithinRange(Validator):
    minimum: float
    maximum: float

    def validate(self, value: Any) -> None:
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"Value must be within range [{self.minimum}, {self.maximum}], is {value}")


@dataclass
class Minimum(Validator):
    minimum: float

    def validate(self, value: Any) -> None:
        if value < self.minimum:
            raise ValueError(f"Value must be at least {self.minimum}, is {value}")


@dataclass
class Maximum(Validator):
    maximum: float

    def validate(self, value: Any) -> None:
        if value > self.maximum:
            raise ValueError(f"Value must be at most {self.maximum}, is {value}")


@dataclass
class Choice(Validator):
    choices: Sequence

    def validate(self, value: Any) -> None:
        if value not in self.choices:
            raise ValueError(f"Value is {value}, but must be one of {self.choices}")


@dataclass
class Default:
    value: Any


@dataclass
class Decimals:
    value: int


@dataclass
class SingleStep:
    value: float


class Field:
    """One parameter: how it is written into the node as text or reference, and read again."""

    def __init__(self, name: str, hint: Any, owner: type) -> None:
        self.name, self.hint = name, hint
        self.kind, *self.notes = typing.get_args(hint) if hasattr(hint, "__metadata__") else (hint,)
        self.store = store_of(self.kind)
        noted = self.note(Default)
        self.default = getattr(owner, name) if hasattr(owner, name) else noted.value if noted else self.store.default

    def note(self, kind: type) -> Any:
        return next((note for note in self.notes if isinstance(note, kind)), None)

    def read(self, node: Any) -> Any:
        if not self.store.holds(node, self.name):  # new, or emptied with the scene
            self.write(node, self.default)
        return self.store.read(node, self.name)

    def write(self, node: Any, value: Any) -> None:
        self.store.check(value)
        for note in self.notes:
            if isinstance(note, Validator):
                note.validate(value)
        with slicer.util.NodeModify(node):
            self.store.write(node, self.name, value)


def parameterNodeWrapper(cls: type) -> type:
    """The class decorator: each annotated field becomes a property over the node."""
    hints = typing.get_type_hints(cls, include_extras=True)
    cls.allParameters = {name: Field(name, hint, cls) for name, hint in hints.items()}
    for name, field in cls.allParameters.items():
        setattr(cls, name, _property(field))
    for method in (__init__, connectGui, connectParametersToGui, disconnectGui, getValue, setValue):
        setattr(cls, method.__name__, method)
    for method in ("AddObserver", "RemoveObserver", "StartModify", "EndModify", "Modified"):
        setattr(cls, method, _of_node(method))
    return cls


def _property(field: Field) -> property:
    return property(lambda self: self.getValue(field.name), lambda self, value: self.setValue(field.name, value))


def _of_node(method: str) -> Any:
    return lambda self, *arguments: getattr(self.parameterNode, method)(*arguments)


def __init__(self: Any, parameterNode: Any) -> None:
    self.parameterNode = parameterNode
    self._guis: dict[int, dict] = {}
    self._updating = False
    kept = weakref.ref(self)
    tag = parameterNode.AddObserver("ModifiedEvent", lambda _caller, _event: kept() and _read_all(kept()))
    weakref.finalize(self, parameterNode.RemoveObserver, tag)
    _read_all(self)


def _read_all(self: Any) -> None:
    self._values = {name: field.read(self.parameterNode) for name, field in self.allParameters.items()}


def getValue(self: Any, name: str) -> Any:
    return self._values[name]


def setValue(self: Any, name: str, value: Any) -> None:
    field = self.allParameters[name]
    with slicer.util.NodeModify(self.parameterNode):
        field.write(self.parameterNode, value)
        self._values[name] = field.read(self.parameterNode)


def connectGui(self: Any, gui: Any) -> None:
    """Binds every widget that has the property SlicerParameterName."""
    if hasattr(gui, "findChildren"):
        import qt  # noqa: PLC0415 - the window's qt

        widgets = gui.findChildren(qt.QWidget)
    else:
        widgets = vars(gui).values()
    self.connectParametersToGui({w.property(PROPERTY): w for w in widgets if w.property(PROPERTY)})


def connectParametersToGui(self: Any, mapping: dict) -> int:
    """Binds widgets to fields by name; gives a tag for disconnectGui."""
    from .connectors import connector_of  # noqa: PLC0415 - needs Qt

    unknown = set(mapping) - set(self.allParameters)
    if unknown:
        raise ValueError(f"Cannot find a param with the given name: {sorted(unknown)}")
    made = {name: connector_of(widget, self.allParameters[name]) for name, widget in mapping.items()}
    tag = len(self._guis)
    self._guis[tag] = made
    for name, connector in made.items():
        connector.write(self.getValue(name))
        connector.connect(_slot(self, name, connector))
    self.AddObserver("ModifiedEvent", lambda _caller, _event: _to_gui(self))
    return tag


def disconnectGui(self: Any, guiTag: Any) -> None:
    for connector in self._guis.pop(guiTag, {}).values():
        connector.disconnect()


def _slot(self: Any, name: str, connector: Any) -> Any:
    def from_gui() -> None:
        if not self._updating:
            self.setValue(name, connector.read())

    return from_gui


def _to_gui(self: Any) -> None:
    if self._updating:
        return
    self._updating = True
    try:
        for made in self._guis.values():
            for name, connector in made.items():
                connector.write(self.getValue(name))
    finally:
        self._updating = False


EXPORTED = (Validator, WithinRange, Minimum, Maximum, Choice, Default, Decimals, SingleStep, parameterNodeWrapper)
