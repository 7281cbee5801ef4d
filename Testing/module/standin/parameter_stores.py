"""How a value of a parameter is written into a vtkMRMLScriptedModuleNode, as text or reference, and read again."""
# ruff: noqa: RUF012 - defaults are never changed in place

from __future__ import annotations

import enum
import pathlib
import typing
from collections.abc import Mapping, Sequence
from typing import Any

import slicer

SIMPLE = (str, int, float, bool)


class _Text:
    """Numbers, texts, choices and paths."""

    def __init__(self, kind: type) -> None:
        self.kind = kind
        self.default = next(iter(kind)) if issubclass(kind, enum.Enum) else kind()

    def check(self, value: Any) -> None:
        allowed = (int, float) if self.kind is float else pathlib.PurePath if is_path(self.kind) else self.kind
        if not isinstance(value, allowed):
            raise TypeError(f"Value must be of type '{self.kind}', is type '{type(value)}' value '{value}'")

    def holds(self, node: Any, name: str) -> bool:
        return node.HasParameter(name) if hasattr(node, "HasParameter") else name in node.GetParameterNames()

    def write(self, node: Any, name: str, value: Any) -> None:
        node.SetParameter(name, value.name if isinstance(value, enum.Enum) else str(value))

    def read(self, node: Any, name: str) -> Any:
        text = node.GetParameter(name)
        if issubclass(self.kind, enum.Enum):
            return self.kind[text]
        return text == "True" if self.kind is bool else self.kind(text)


class _Node(_Text):
    """A reference to a node of the scene."""

    def __init__(self, kind: type) -> None:
        self.kind, self.default = kind, None

    def check(self, value: Any) -> None:
        if value is not None:
            super().check(value)

    def write(self, node: Any, name: str, value: Any) -> None:
        node.SetParameter(name, "")
        node.SetNodeReferenceID(name, value.GetID() if value is not None else None)

    def read(self, node: Any, name: str) -> Any:
        return node.GetNodeReference(name)


class _Union:
    """A value of one of several types, or None where that is among them. It is kept under the number of its type."""

    default: Any = None

    def __init__(self, *kinds: Any) -> None:
        self.items = [None if kind is type(None) else store_of(kind) for kind in kinds]

    def _fits(self, item: Any, value: Any) -> bool:
        if item is None or value is None:
            return item is value
        try:
            item.check(value)
        except TypeError:
            return False
        return True

    def check(self, value: Any) -> None:
        if not any(self._fits(item, value) for item in self.items):
            raise TypeError(f"Unable to write value '{value}' of type '{type(value)}'")

    def holds(self, node: Any, name: str) -> bool:
        return any(_Text(int).holds(node, f"{name}_{n}") for n in range(len(self.items)))

    def write(self, node: Any, name: str, value: Any) -> None:
        kept = next(number for number, item in enumerate(self.items) if self._fits(item, value))
        for number in range(len(self.items)):
            node.UnsetParameter(f"{name}_{number}")
            node.RemoveNodeReferenceIDs(f"{name}_{number}")
        if self.items[kept] is None:
            node.SetParameter(f"{name}_{kept}", "True")
        else:
            self.items[kept].write(node, f"{name}_{kept}", value)

    def read(self, node: Any, name: str) -> Any:
        kept = next(n for n in range(len(self.items)) if _Text(int).holds(node, f"{name}_{n}"))
        return None if self.items[kept] is None else self.items[kept].read(node, f"{name}_{kept}")


class _List:
    """Values of one type. What is read can be looked at, but is no ``list``, as in Slicer."""

    default: Any = []

    def __init__(self, kind: Any) -> None:
        self.item = store_of(kind)

    def check(self, value: Any) -> None:
        for item in value:
            self.item.check(item)

    def holds(self, node: Any, name: str) -> bool:
        return _Text(int).holds(node, f"{name}_len")

    def write(self, node: Any, name: str, values: Any) -> None:
        for index, value in enumerate(values):
            self.item.write(node, f"{name}_{index}", value)
        node.SetParameter(f"{name}_len", str(len(values)))

    def read(self, node: Any, name: str) -> Any:
        return SeenList([self.item.read(node, f"{name}_{n}") for n in range(int(node.GetParameter(f"{name}_len")))])


class _Pair(_List):
    def __init__(self, *kinds: Any) -> None:
        self.items = [store_of(kind) for kind in kinds]
        self.default = tuple(item.default for item in self.items)

    def check(self, value: Any) -> None:
        for store, item in zip(self.items, value, strict=True):
            store.check(item)

    def holds(self, node: Any, name: str) -> bool:
        return self.items[0].holds(node, f"{name}_0")

    def write(self, node: Any, name: str, values: Any) -> None:
        for index, (store, value) in enumerate(zip(self.items, values, strict=True)):
            store.write(node, f"{name}_{index}", value)

    def read(self, node: Any, name: str) -> tuple:
        return tuple(store.read(node, f"{name}_{index}") for index, store in enumerate(self.items))


class _Dict(_List):
    default: Any = {}

    def __init__(self, key: Any, value: Any) -> None:
        self.item = _Pair(key, value)

    def check(self, value: Any) -> None:
        super().check(list(value.items()))

    def write(self, node: Any, name: str, values: Any) -> None:
        super().write(node, name, list(values.items()))

    def read(self, node: Any, name: str) -> Any:
        return SeenDict(dict(super().read(node, name)))


class SeenList(Sequence):
    def __init__(self, values: list) -> None:
        self.values = values

    def __getitem__(self, index: Any) -> Any:
        return self.values[index]

    def __len__(self) -> int:
        return len(self.values)

    def __eq__(self, other: object) -> bool:
        return self.values == (other.values if isinstance(other, SeenList) else other)

    __hash__ = None


class SeenDict(Mapping):
    def __init__(self, values: dict) -> None:
        self._values = values

    def __getitem__(self, key: Any) -> Any:
        return self._values[key]

    def __iter__(self) -> Any:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def is_path(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, pathlib.PurePath)


def store_of(kind: Any) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if isinstance(kind, type) and origin is None:
        if issubclass(kind, slicer.vtkMRMLNode):
            return _Node(kind)
        if kind in SIMPLE or issubclass(kind, enum.Enum) or is_path(kind):
            return _Text(kind)
    if origin in (list, tuple, dict) and arguments:
        return {list: _List, tuple: _Pair, dict: _Dict}[origin](*arguments)
    if origin is typing.Union:  # not X | Y
        return _Union(*arguments)
    raise TypeError(f"Unable to create serializer for type: {kind}")  # in Slicer too, or not stood in for
