"""Which widget shows which field of a parameter node: the pairs that Slicer's parameterNodeWrapper knows."""

from __future__ import annotations

import enum
import inspect
import typing
from typing import Any

from .parameter_node import Choice, Decimals, Field, Maximum, Minimum, SingleStep, WithinRange
from .parameter_stores import is_path


class Connector:
    """A widget's value by a property, and the signal that tells of its change."""

    def __init__(self, widget: Any, field: Field, value: str, changed: str) -> None:
        self.widget, self.field, self.value, self.changed = widget, field, value, changed
        self.slot: Any = None

    def connect(self, slot: Any) -> None:
        self.slot = slot
        getattr(self.widget, self.changed).connect(slot)

    def disconnect(self) -> None:
        getattr(self.widget, self.changed).disconnect(self.slot)

    def read(self) -> Any:
        return self._from_widget(getattr(self.widget, self.value))

    def write(self, value: Any) -> None:
        setattr(self.widget, self.value, self._to_widget(value))

    def _from_widget(self, value: Any) -> Any:
        return value

    def _to_widget(self, value: Any) -> Any:
        return value


class PathConnector(Connector):
    def _from_widget(self, value: str) -> Any:
        return self.field.kind(value)

    def _to_widget(self, value: Any) -> str:
        return str(value)


class ChoiceConnector(Connector):
    """A combo box that is filled with the choices."""

    def __init__(self, widget: Any, field: Field) -> None:
        super().__init__(widget, field, "currentIndex", "currentIndexChanged")
        if isinstance(field.kind, enum.EnumMeta):
            self.choices = list(field.kind)
            labels = [choice.label() if hasattr(choice, "label") else choice.name for choice in self.choices]
        else:
            self.choices = list(field.note(Choice).choices)
            labels = [str(choice) for choice in self.choices]
        widget.clear()
        for label in labels:
            widget.addItem(label)

    def _from_widget(self, value: int) -> Any:
        return self.choices[value]

    def _to_widget(self, value: Any) -> int:
        return self.choices.index(value)


class NodeConnector(Connector):
    def __init__(self, widget: Any, field: Field) -> None:
        super().__init__(widget, field, "", "currentNodeChanged")
        widget.nodeTypes = [kind.__name__ for kind in _node_types(field.kind)]

    def read(self) -> Any:
        return self.widget.currentNode()

    def write(self, value: Any) -> None:
        self.widget.setCurrentNode(value)


def connector_of(widget: Any, field: Field) -> Connector:
    """The connector for a pair.

    Raises:
        RuntimeError: Slicer has none either.
    """
    class_name, kind = type(widget).__name__, field.kind
    if class_name in ("QCheckBox", "QPushButton") and kind is bool:
        widget.checkable = True
        return Connector(widget, field, "checked", "stateChanged" if class_name == "QCheckBox" else "toggled")
    if (class_name in ("QSlider", "QSpinBox") and kind is int) or (
        class_name in ("QDoubleSpinBox", "ctkSliderWidget") and kind is float
    ):
        _set_range(widget, field, is_slider="lider" in class_name)
        return Connector(widget, field, "value", "valueChanged")
    if class_name == "QComboBox" and (isinstance(kind, enum.EnumMeta) or field.note(Choice)):
        return ChoiceConnector(widget, field)
    if class_name == "QLineEdit" and kind is str:
        return Connector(widget, field, "text", "textChanged")
    if class_name == "ctkPathLineEdit" and is_path(kind):
        return PathConnector(widget, field, "currentPath", "currentPathChanged")
    if class_name == "qMRMLNodeComboBox" and _node_types(kind):
        return NodeConnector(widget, field)
    raise RuntimeError(f"Unable to create GUI connector from datatype '{kind}' to widget type '{class_name}'")


def _node_types(kind: Any) -> list[type]:
    """A class of nodes, or the classes of a union of them."""
    kinds = typing.get_args(kind) if typing.get_origin(kind) is typing.Union else (kind,)
    return [one for one in kinds if inspect.isclass(one) and hasattr(one, "GetClassName")]


def _set_range(widget: Any, field: Field, is_slider: bool) -> None:
    for note, name in ((Decimals, "decimals"), (SingleStep, "singleStep")):
        if field.note(note):
            setattr(widget, name, field.note(note).value)
    within = field.note(WithinRange)
    lower, upper = within or field.note(Minimum), within or field.note(Maximum)
    if is_slider and not (lower and upper):
        raise RuntimeError("Cannot have a connection to a slider where the type is unbounded.")
    limit = 2**31 - 1 if field.kind is int else float("inf")
    widget.minimum = lower.minimum if lower else -limit
    widget.maximum = upper.maximum if upper else limit
