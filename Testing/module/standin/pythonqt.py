"""How Slicer's Python shows Qt: PySide6 objects behind wrappers with PythonQt's semantics.

Properties are attributes, enumerations are ints, signals are connected by signature, and what ``names`` does not list
is refused. A failing slot does not stop Qt: its exception is kept in ``slot_errors``, where a test finds it.
"""

from __future__ import annotations

import enum
import inspect
import re
from functools import cache
from types import ModuleType
from typing import Any

import shiboken6
from PySide6 import QtCore, QtGui, QtWidgets

from . import names

LIBRARIES = (QtCore, QtGui, QtWidgets)
WAITS_FOR_A_PERSON = {"exec", "getOpenFileName", "getOpenFileNames", "getSaveFileName", "getExistingDirectory"}
slot_errors: list[Exception] = []
added_classes: dict[str, type] = {}  # PySide6 classes that stand in for Slicer's own
added_properties: dict[str, frozenset[str]] = {}  # of these; PySide6 forgets the meta-object of a class at times


class NotStoodIn(NotImplementedError):
    """Slicer has this name, but nobody needed it in the tests yet."""


class Enumerator(int):
    """An enumerator as PythonQt shows it: an int; it remembers what PySide6 wants back."""

    def __new__(cls, member: enum.Enum) -> Enumerator:
        made = super().__new__(cls, member.value)
        made.member = member
        return made

    def __or__(self, other: int) -> int:
        same = isinstance(other, Enumerator) and type(other.member) is type(self.member)
        return Enumerator(self.member | other.member) if same else int(self) | int(other)


class WrapperType(type):
    """The class side: construction, static functions and enumerators."""

    def __call__(cls, *arguments: Any) -> Any:
        return wrap(cls.qt_class(*map(unwrap, arguments)))

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        _require(cls.__name__, name)
        return _member(cls.qt_class, name)


class Wrapper(metaclass=WrapperType):
    """The object side."""

    qt_class: type

    def __getattr__(self, name: str) -> Any:
        qt_object = unwrap(self)
        if not shiboken6.isValid(qt_object):
            raise ValueError(f"Trying to access a deleted {type(self).__name__}")
        if name in HAND_MADE and isinstance(qt_object, QtCore.QObject):
            return HAND_MADE[name](qt_object)
        _require(type(self).__name__, name)
        if name in _properties(qt_object):
            if qt_object.metaObject().indexOfProperty(name) < 0:
                raise NotStoodIn(f"the property {type(self).__name__}.{name}")
            return wrap(qt_object.property(name))
        return _member(qt_object, name)

    def __setattr__(self, name: str, value: Any) -> None:
        qt_object, class_name = unwrap(self), type(self).__name__
        if name == "name":
            return qt_object.setObjectName(value)
        if name not in _properties(qt_object):
            raise AttributeError(
                f"'{name}' does not exist on {class_name} and creating new attributes on C++ objects is not allowed"
            )
        _require(class_name, name)
        if qt_object.metaObject().indexOfProperty(name) < 0:
            raise NotStoodIn(f"the property {class_name}.{name}")
        if not qt_object.setProperty(name, unwrap(value)):
            raise AttributeError(f"Property '{name}' of {class_name} does not take {value!r}")
        return None

    def connect(self, signature: str, slot: Any) -> bool:
        """As PythonQt: True, or False and no exception for a signal that is not there."""
        normalised = _normalised(unwrap(self), type(self).__name__, signature)
        if normalised is None:
            return False
        relay = _relay(slot)
        connection = QtCore.QObject.connect(unwrap(self), QtCore.SIGNAL(normalised), relay)
        _connections(unwrap(self)).append((signature, slot, connection))
        return True

    def disconnect(self, signature: str, slot: Any = None) -> bool:
        """Ends the connection of one slot, or all of one signal; False when there was none."""
        kept = _connections(unwrap(self))
        ended = [item for item in kept if item[0] == signature and slot in (None, item[1])]
        for item in ended:
            kept.remove(item)
            QtCore.QObject.disconnect(item[2])
        return bool(ended)

    def __eq__(self, other: object) -> bool:
        return unwrap(self) == unwrap(other)

    def __hash__(self) -> int:
        return hash(unwrap(self))

    def __repr__(self) -> str:
        return f"{type(self).__name__} ({unwrap(self)!r})"


class SignalWrapper:
    """``button.clicked``: connected without a signature."""

    def __init__(self, sender: Wrapper, name: str) -> None:
        self._sender, self._name = sender, name
        class_name = type(sender).__name__
        listed = [s for s in sorted(names.signals(class_name)) if s.startswith(f"{name}(")]
        usable = [s for s in listed if _is_here(unwrap(sender), _with_python_objects(s))]
        if not usable:
            raise NotStoodIn(f"the signal {class_name}.{name}")
        self._signature = max(usable, key=lambda text: (text.endswith("*)"), len(text)))

    def connect(self, slot: Any) -> bool:
        return self._sender.connect(self._signature, slot)

    def disconnect(self, slot: Any = None) -> bool:
        return self._sender.disconnect(self._signature, slot)

    def emit(self, *arguments: Any) -> None:
        getattr(unwrap(self._sender), self._name).emit(*map(unwrap, arguments))


HAND_MADE = {
    "name": lambda qt_object: qt_object.objectName(),
    "className": lambda qt_object: lambda: wrapper_class(type(qt_object)).__name__,
    "inherits": lambda qt_object: lambda name: any(base.__name__ == name for base in type(qt_object).__mro__),
}


@cache
def wrapper_class(qt_class: type) -> type:
    """The PythonQt side of a PySide6 class, with its bases, so that ``isinstance`` works."""
    shown = next(base for base in qt_class.__mro__ if base.__module__.startswith("PySide6") or _is_added(base))
    if shown is not qt_class:
        return wrapper_class(shown)
    inherited = [base for base in qt_class.__bases__ if issubclass(base, shiboken6.Object)]
    bases = tuple(wrapper_class(base) for base in inherited if base is not shiboken6.Object) or (Wrapper,)
    return WrapperType(qt_class.__name__, bases, {"qt_class": qt_class})


def add_class(qt_class: type) -> type:
    """Lets a PySide6 class stand in for the Slicer class of the same name."""
    meta = qt_class.staticMetaObject
    added_classes[qt_class.__name__] = qt_class
    added_properties[qt_class.__name__] = frozenset(meta.property(n).name() for n in range(meta.propertyCount()))
    return qt_class


def wrap(value: Any) -> Any:
    """What PythonQt shows of a value of PySide6."""
    if isinstance(value, enum.Enum):
        return Enumerator(value)
    if isinstance(value, list | tuple):
        return tuple(map(wrap, value))
    if not isinstance(value, shiboken6.Object):
        return value
    known = getattr(value, "__dict__", {}).get("_wrapper")
    if known is None:
        known = object.__new__(wrapper_class(type(value)))
        object.__setattr__(known, "_qt", value)
        value._wrapper = known  # the same object is shown by the same wrapper, as in PythonQt
    return known


def unwrap(value: Any) -> Any:
    """What PySide6 takes for a value of the window's code."""
    if isinstance(value, Wrapper):
        return object.__getattribute__(value, "_qt")
    if isinstance(value, Enumerator):
        return value.member
    if isinstance(value, WrapperType):
        return value.qt_class
    if isinstance(value, list | tuple):
        return [unwrap(item) for item in value]
    return _relay(value) if inspect.isfunction(value) or inspect.ismethod(value) else value


def find_class(name: str) -> Any:
    """A wrapped class by its name; None where neither PySide6 nor the stand-in has it."""
    found = added_classes.get(name) or next((getattr(lib, name) for lib in LIBRARIES if hasattr(lib, name)), None)
    return wrapper_class(found) if isinstance(found, type) and issubclass(found, shiboken6.Object) else None


class _QtNamespace:
    """``qt.Qt``."""

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("Key_"):
            _require("Qt", name)
        return wrap(getattr(QtCore.Qt, name))


class QtModule(ModuleType):
    """``qt`` or ``ctk``."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name not in names.of_module(self.__name__):
            raise AttributeError(f"module '{self.__name__}' has no attribute '{name}'")
        found = _QtNamespace() if name == "Qt" else find_class(name)
        if found is None:
            raise NotStoodIn(f"{self.__name__}.{name}")
        setattr(self, name, found)
        return found


def _is_added(qt_class: type) -> bool:
    return added_classes.get(qt_class.__name__) is qt_class


def _require(class_name: str, name: str) -> None:
    if not names.is_described(class_name):
        if class_name in names.of_module("qt") or class_name in names.of_module("ctk"):
            return  # a class whose names were not selected
        if not class_name.startswith("q"):
            return  # a class that PySide6 gives back by itself, as QMainWindow
        raise NotStoodIn(f"the class {class_name} is not in slicer_names.json")
    if name.rstrip("_") not in names.of_class(class_name):
        raise AttributeError(f"{class_name} has no attribute named '{name}'")


def _properties(qt_object: Any) -> frozenset[str]:
    class_name = wrapper_class(type(qt_object)).__name__
    if names.is_described(class_name) and names.listing()["classes"][class_name].get("properties"):
        return names.properties(class_name)
    if not isinstance(qt_object, QtCore.QObject):
        return frozenset()
    meta = qt_object.metaObject()
    return frozenset(meta.property(index).name() for index in range(meta.propertyCount()))


def _member(owner: Any, name: str) -> Any:
    if name.rstrip("_") in WAITS_FOR_A_PERSON:
        raise NotStoodIn(f"{name} waits for a person; a test must answer it")
    try:
        found = getattr(owner, name)
    except AttributeError as error:
        raise NotStoodIn(f"{owner!r} has no {name} here") from error
    if isinstance(found, QtCore.SignalInstance):
        return SignalWrapper(wrap(owner), name)
    if isinstance(found, type) and issubclass(found, enum.Enum):
        return found
    if not callable(found):
        return wrap(found)
    return lambda *arguments: wrap(found(*map(unwrap, arguments)))


def _normalised(qt_object: Any, class_name: str, signature: str) -> str | None:
    """The signature as PySide6 knows it; None for a signal that Slicer does not have."""
    listed = names.is_described(class_name) and "signals" in names.listing()["classes"][class_name]
    if listed and signature not in names.signals(class_name):
        return None
    here = _with_python_objects(signature)
    if _is_here(qt_object, here):
        return here
    if listed:
        raise NotStoodIn(f"the signal {class_name}.{signature} (Qt 6 may have given it up)")
    return None


def _with_python_objects(signature: str) -> str:
    return re.sub(r"vtk\w+\s*\*", "PyObject", signature)


def _is_here(qt_object: Any, signature: str) -> bool:
    return qt_object.metaObject().indexOfSignal(signature) >= 0


def _connections(qt_object: Any) -> list:
    return qt_object.__dict__.setdefault("_connections", [])


def _relay(slot: Any) -> Any:
    """A slot that gets as many arguments as it takes, wrapped, and whose exception is kept."""
    try:
        parameters = inspect.signature(slot).parameters.values()
        takes = sum(item.kind in (item.POSITIONAL_ONLY, item.POSITIONAL_OR_KEYWORD) for item in parameters)
        takes = None if any(item.kind is item.VAR_POSITIONAL for item in parameters) else takes
    except ValueError:  # a builtin
        takes = None

    def relay(*arguments: Any) -> None:
        try:
            slot(*map(wrap, arguments[:takes]))
        except Exception as error:  # noqa: BLE001 - as PythonQt: Qt goes on
            slot_errors.append(error)

    return relay
