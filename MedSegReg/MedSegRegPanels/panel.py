"""One section of the window: what every panel has in common. Window's walk: module file -> [panel] -> runner -> nodes.

A panel is a ``.ui`` file and a class of this kind. Its settings are in the scene's parameter node of the module, in a
``@parameterNodeWrapper`` class of its own, whose field names no other panel uses; a widget of the ``.ui`` file is bound
to a field by its property ``SlicerParameterName``.
"""
# ruff: noqa: N802 - Slicer's names are camelCase

from __future__ import annotations

import vtk
from slicer.util import VTKObservationMixin

PROPERTY = "SlicerParameterName"


class Panel(VTKObservationMixin):
    """A section of the window.

    A subclass connects its buttons in ``__init__``, names its ``Parameters``, and shows the state in ``update``, which
    is called when a setting was changed, when the scene or the module is changed, and when a job starts or ends.
    Settings can change while a job runs, also by a script: what is needed to write its result is taken when it is
    started. ``parameters`` is None while a scene is being closed. A panel's file is imported when the window is opened,
    also where torch is missing: what needs it is imported by functions, after ``runner.ready()`` has said yes.

    Args:
        ui: the named widgets of its ``.ui`` file.
        logic: MedSegRegLogic, or anything with the same functions.
        runner: :class:`.run.Runner`, which runs the jobs of the whole window.
    """

    Parameters: type | None = None

    def __init__(self, ui, logic, runner) -> None:
        VTKObservationMixin.__init__(self)
        self.ui, self.logic, self.runner = ui, logic, runner
        self.parameterNode = self.parameters = None
        self._guiTag = None

    def setParameterNode(self, node) -> None:
        """Follow a parameter node (vtkMRMLScriptedModuleNode) of a scene, or none.

        The widgets stay connected until another node is followed: Slicer's wrapper cannot take back all that a
        connection adds to the node, and ``connectGui`` gives no tag for what it can.
        """
        if node is not self.parameterNode:
            if self.parameters is not None:
                self.parameters.disconnectGui(self._guiTag)
                self.removeObservers(self.onParametersChanged)
            self.parameterNode, self.parameters = node, None
            if node is not None and self.Parameters is not None:
                self.parameters = self.Parameters(node)
                self._guiTag = self.parameters.connectParametersToGui(self._boundWidgets())
                self.addObserver(node, vtk.vtkCommand.ModifiedEvent, self.onParametersChanged)
        self.update()

    def _boundWidgets(self) -> dict:
        """Name of the field -> widget."""
        widgets = vars(self.ui).values()
        return {widget.property(PROPERTY): widget for widget in widgets if widget.property(PROPERTY)}

    def onParametersChanged(self, _caller=None, _event=None) -> None:
        """A setting was changed, in the window or by a script."""
        self.update()

    def update(self) -> None:
        """Show the current state."""

    def cleanup(self) -> None:
        """The window is closed: let go of everything."""
        self.setParameterNode(None)
        self.removeObservers()
