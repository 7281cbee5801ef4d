"""CTK's controls, as far as the window uses them: real Qt widgets with CTK's properties and signals."""
# ruff: noqa: N801, N802, N815 - names of CTK

from __future__ import annotations

from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Property, Qt, Signal

from .pythonqt import add_class

MARKS = ("\N{BLACK RIGHT-POINTING SMALL TRIANGLE}", "\N{BLACK DOWN-POINTING SMALL TRIANGLE}")  # folded, open


def kept(name: str, kind: Any, default: Any) -> Property:
    """A property that is only kept: nothing is drawn from it here."""
    return Property(
        kind,
        lambda self: self.__dict__.get(f"_{name}", default),
        lambda self, value: self.__dict__.__setitem__(f"_{name}", value),
    )


@add_class
class ctkCollapsibleButton(QtWidgets.QAbstractButton):
    """A section with a title that folds. Its contents are cut off, not hidden, while it is folded."""

    contentsCollapsed = Signal(bool)
    collapsedHeight = kept("collapsedHeight", int, 10)
    flat = kept("flat", bool, False)

    def __init__(self, *arguments: Any) -> None:
        text = arguments[0] if arguments and isinstance(arguments[0], str) else ""
        super().__init__(*arguments[1:] if text else arguments)
        self.setText(text)
        self.setCheckable(True)
        self.setChecked(True)
        self.setSizePolicy(QtWidgets.QSizePolicy.Preferred, QtWidgets.QSizePolicy.Preferred)
        self.setFocusPolicy(Qt.StrongFocus)
        self.setContentsMargins(0, self._header(), 0, 0)
        self.toggled.connect(self._fold)

    def _header(self) -> int:
        return self.fontMetrics().height() + 10

    def _fold(self, is_open: bool) -> None:
        self.setMaximumHeight(16777215 if is_open else self._header())
        self.updateGeometry()
        self.contentsCollapsed.emit(not is_open)

    collapsed = Property(bool, lambda self: not self.isChecked(), lambda self, value: self.setChecked(not value))

    def collapse(self, value: bool) -> None:
        self.collapsed = value

    def sizeHint(self) -> QtCore.QSize:
        inner = self.layout().totalSizeHint() if self.layout() else QtCore.QSize(120, 0)
        return QtCore.QSize(inner.width(), max(inner.height(), self._header()) if self.isChecked() else self._header())

    def minimumSizeHint(self) -> QtCore.QSize:
        inner = self.layout().totalMinimumSize() if self.layout() else QtCore.QSize(80, 0)
        return QtCore.QSize(inner.width(), max(inner.height(), self._header()) if self.isChecked() else self._header())

    def hitButton(self, position: QtCore.QPoint) -> bool:
        return position.y() < self._header()

    def paintEvent(self, _event: QtGui.QPaintEvent) -> None:
        painter, option = QtWidgets.QStylePainter(self), QtWidgets.QStyleOptionButton()
        option.initFrom(self)
        option.rect = QtCore.QRect(0, 0, self.width(), self._header())
        option.state |= QtWidgets.QStyle.State_Raised
        painter.drawControl(QtWidgets.QStyle.CE_PushButtonBevel, option)
        painter.drawText(option.rect.adjusted(8, 0, 0, 0), Qt.AlignVCenter, f"{MARKS[self.isChecked()]} {self.text()}")


@add_class
class ctkCollapsibleGroupBox(QtWidgets.QGroupBox):
    """A group with a title that folds; checked while it is open."""

    collapsedHeight = kept("collapsedHeight", int, 14)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.setCheckable(True)
        self.setChecked(True)
        self.toggled.connect(self._fold)

    def _fold(self, is_open: bool) -> None:
        self.setMaximumHeight(16777215 if is_open else self.fontMetrics().height() + 6)

    collapsed = Property(bool, lambda self: not self.isChecked(), lambda self, value: self.setChecked(not value))

    def paintEvent(self, _event: QtGui.QPaintEvent) -> None:
        painter = QtGui.QPainter(self)
        painter.drawText(2, self.fontMetrics().ascent() + 2, f"{MARKS[self.isChecked()]} {self.title()}")


@add_class
class ctkPathLineEdit(QtWidgets.QWidget):
    """A line for a path and a button that asks for one; the button needs a person."""

    currentPathChanged = Signal(str)
    validInputChanged = Signal(bool)
    nameFilters = kept("nameFilters", "QStringList", [])
    settingKey = kept("settingKey", str, "")

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self.edit, button = QtWidgets.QLineEdit(self), QtWidgets.QToolButton(self)
        button.setText("\N{HORIZONTAL ELLIPSIS}")
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.edit)
        row.addWidget(button)
        self.setFocusProxy(self.edit)
        self.edit.textChanged.connect(self.currentPathChanged)

    currentPath = Property(str, lambda self: self.edit.text(), lambda self, path: self.edit.setText(path))

    def setCurrentPath(self, path: str) -> None:
        self.currentPath = path


def _of_box(name: str, kind: Any) -> Property:
    """A property that is the one of the inner spin box."""
    return Property(kind, lambda self: self.box.property(name), lambda self, value: self.box.setProperty(name, value))


@add_class
class ctkSliderWidget(QtWidgets.QWidget):
    """A slider and a spin box for one number."""

    valueChanged = Signal(float)
    valueIsChanging = Signal(float)
    decimalsChanged = Signal(int)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self.slider, self.box = QtWidgets.QSlider(Qt.Horizontal, self), QtWidgets.QDoubleSpinBox(self)
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.slider)
        row.addWidget(self.box)
        self.slider.setRange(0, 1000)
        self.slider.sliderMoved.connect(self._slide)
        self.box.valueChanged.connect(self._show)
        self.setFocusProxy(self.box)

    def _slide(self, step: int) -> None:
        self.box.setValue(self.minimum + (self.maximum - self.minimum) * step / 1000)

    def _show(self, value: float) -> None:
        self.slider.setValue(round(1000 * (value - self.minimum) / max(self.maximum - self.minimum, 1e-9)))
        self.valueChanged.emit(value)

    decimals = _of_box("decimals", int)
    singleStep = _of_box("singleStep", float)
    minimum = _of_box("minimum", float)
    maximum = _of_box("maximum", float)
    value = _of_box("value", float)
    prefix = _of_box("prefix", str)
    suffix = _of_box("suffix", str)
    pageStep = kept("pageStep", float, 1.0)
    tickInterval = kept("tickInterval", float, 0.0)
    tracking = kept("tracking", bool, True)
    spinBoxVisible = kept("spinBoxVisible", bool, True)

    def setValue(self, value: float) -> None:
        self.value = value


@add_class
class ctkComboBox(QtWidgets.QComboBox):
    defaultText = kept("defaultText", str, "")
    scrollWheelEffect = kept("scrollWheelEffect", int, 0)


@add_class
class ctkMenuButton(QtWidgets.QPushButton):
    """A button, with a menu behind its arrow."""
