"""Putting a registration right in the window: a result and points or regions in, the same nodes with a better field."""
# ruff: noqa: N802, N815, PLC0415 - Slicer's names are camelCase; the bridge to the scene is loaded when it is used

from __future__ import annotations

import slicer
from slicer import vtkMRMLMarkupsFiducialNode, vtkMRMLTransformNode
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import parameterNodeWrapper

from MedSegRegLib.mrml.moving_study import place_under
from MedSegRegLib.mrml.provenance import read_provenance
from MedSegRegLib.mrml.result_links import FORWARD, linked

from .panel import Panel
from .parameters import LabelsNode
from .run import showingErrors

MOST_UNDONE = 5  # each keeps a field and its inverse in memory


@parameterNodeWrapper
class CorrectParameters:
    """The panel's settings. Each field without a default is a reference to a node, None at first."""

    correctTransform: vtkMRMLTransformNode
    correctFixedPoints: vtkMRMLMarkupsFiducialNode
    correctMovingPoints: vtkMRMLMarkupsFiducialNode
    correctRigid: LabelsNode
    correctIgnore: LabelsNode


class CorrectPanel(Panel):
    """The section Correct."""

    Parameters = CorrectParameters

    def __init__(self, ui, logic, runner) -> None:
        super().__init__(ui, logic, runner)
        self._preview = None
        self._before: list[tuple] = []  # (transform node, what it held), the last correction last
        self._watchedPoints = None
        ui.correctTransformSelector.addAttribute("vtkMRMLTransformNode", FORWARD)
        ui.correctMovingPointsSelector.connect("nodeAddedByUser(vtkMRMLNode*)", self.onMovingPointsAdded)
        ui.addPairButton.connect("clicked(bool)", self.onAddPair)
        ui.correctButton.connect("clicked(bool)", self.onCorrect)
        ui.undoButton.connect("clicked(bool)", self.onUndo)

    def update(self) -> None:
        """Show what can be corrected, and undone."""
        if not self.runner.busy:
            self._endPreview()
        self._before = [step for step in self._before if step[0].GetScene() is not None]
        self._watchPoints()
        transform = None if self.parameters is None else self.parameters.correctTransform
        facts = {} if transform is None else read_provenance(transform)
        self.ui.correctStudyLabel.text = facts.get("sentence", "")
        self.ui.correctStudyLabel.visible = bool(facts)
        self.ui.addPairButton.enabled = bool(facts)
        missing = self._missing()
        self.ui.correctButton.enabled = not missing
        self.ui.correctButton.toolTip = missing or _("Change the field near what was placed, and nothing farther away.")
        steps = self._steps(transform)
        self.ui.undoButton.enabled = bool(steps) and not self.runner.busy
        self.ui.undoButton.toolTip = (
            _("Go back to before the last correction ({count} can be undone).").format(count=len(steps))
            if steps
            else _("There is no correction to undo.")
        )

    def onMovingPointsAdded(self, node) -> None:
        """A new list of moving points shows where the moving study is now."""
        if self.parameters is not None and self.parameters.correctTransform is not None:
            place_under([node], self.parameters.correctTransform)

    def onAddPair(self, _checked: bool = False) -> None:
        """Let the user place a point on the fixed study; its partner follows, see :meth:`onPointPlaced`."""
        chosen = self.parameters
        scene = chosen.correctTransform.GetScene()
        if chosen.correctFixedPoints is None:
            chosen.correctFixedPoints = _newList(scene, _("Correct fixed"), (0.2, 0.8, 0.2))
        if chosen.correctMovingPoints is None:
            chosen.correctMovingPoints = _newList(scene, _("Correct moving"), (0.9, 0.5, 0.1))
        self._takeOverPoints()
        markups = slicer.modules.markups.logic()
        markups.SetActiveList(chosen.correctFixedPoints)
        markups.StartPlaceMode(False)

    def onPointPlaced(self, _caller=None, _event=None) -> None:
        """Give a new fixed point its partner in the moving list."""
        from MedSegRegLib.mrml.points import add_partners

        chosen = self.parameters
        if chosen is not None and None not in (chosen.correctFixedPoints, chosen.correctMovingPoints):
            add_partners(chosen.correctFixedPoints, chosen.correctMovingPoints)

    def onCorrect(self, _checked: bool = False) -> None:
        """Start a correction from where the result stands."""
        if not self.runner.ready():
            return
        title = _("Correcting {transform}").format(transform=self.parameters.correctTransform.GetName())
        with showingErrors(title):
            self._takeOverPoints()
            self._start(title)

    def onUndo(self, _checked: bool = False) -> None:
        """Go back to before the last correction."""
        node = self.parameters.correctTransform
        step = self._steps(node)[-1]
        self._before.remove(step)
        with showingErrors(_("Undo correction")):
            self._write(step[1], node, self.parameters)
            self.ui.correctLabel.text = _("The last correction was undone.")
        self.update()

    def cleanup(self) -> None:
        """The window is closed."""
        self._endPreview()
        self._before.clear()
        super().cleanup()

    def _start(self, title: str) -> None:
        from MedSegRegLib.mrml.correction_inputs import CorrectionNodes
        from MedSegRegLib.mrml.live_preview import LivePreview
        from MedSegRegLib.mrml.moving_study import nodes_under

        chosen, node = self.parameters, self.parameters.correctTransform
        points = chosen.correctFixedPoints, chosen.correctMovingPoints
        arguments, values = CorrectionNodes(node, *points, chosen.correctRigid, chosen.correctIgnore).read()
        preview = LivePreview(nodes_under(node))
        started = self.runner.start(
            title,
            "correct",
            arguments,
            values,
            lambda result: self._onCorrected(result, node, chosen),
            watched=(node, linked(node, "fixed"), linked(node, "moving"), linked(node, "inverse")),
            onEvent=lambda event: preview.show(event.result.transform("transform")),
        )
        self._preview = preview if started else None

    def _onCorrected(self, result, node, parameters) -> None:
        from MedSegRegLib.mrml.registration_results import Result, read_registration

        from .register_run import factsOf

        before = read_registration(node)
        found = Result(result.transform("transform"), result.transform("inverse"), factsOf(result))
        written = self._write(found, node, parameters)
        self._before = [*((written if one is node else one, held) for one, held in self._before), (written, before)]
        del self._before[:-MOST_UNDONE]
        self.ui.correctLabel.text = _outcome(found.facts)
        self.update()

    def _write(self, result, node, parameters):
        """Let the nodes hold a result; gives the transform node, which may be a new one."""
        from MedSegRegLib.mrml.registration_results import write_registration

        written = write_registration(result, linked(node, "fixed"), linked(node, "moving"), node)
        parameters.correctTransform = written
        return written

    def _takeOverPoints(self) -> None:
        """Moving points that are not under the result yet, such as those it was made with, are put there."""
        chosen = self.parameters
        if chosen.correctMovingPoints is not None:
            place_under([chosen.correctMovingPoints], chosen.correctTransform)

    def _steps(self, transform) -> list[tuple]:
        return [step for step in self._before if step[0] is transform]

    def _missing(self) -> str:
        """Why nothing can be corrected now; empty when it can."""
        chosen = self.parameters
        if chosen is None or chosen.correctTransform is None:
            return _("Select the transform to correct first. Section Register makes one.")
        if (chosen.correctFixedPoints is None) != (chosen.correctMovingPoints is None):
            return _("Select the points of both studies, or of neither.")
        if chosen.correctFixedPoints is None and chosen.correctRigid is None and chosen.correctIgnore is None:
            return _("Place a pair of points, or paint a region, first.")
        if self.runner.busy:
            return _("A job is running. Wait for it, or cancel it.")
        return ""

    def _watchPoints(self) -> None:
        """Follow the chosen list of fixed points."""
        points = None if self.parameters is None else self.parameters.correctFixedPoints
        if points is self._watchedPoints:
            return
        self.removeObservers(self.onPointPlaced)
        if points is not None:
            self.addObserver(points, slicer.vtkMRMLMarkupsNode.PointPositionDefinedEvent, self.onPointPlaced)
        self._watchedPoints = points

    def _endPreview(self) -> None:
        if self._preview is not None:
            preview, self._preview = self._preview, None
            preview.end()


def _newList(scene, name: str, color: tuple[float, float, float]):
    node = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", scene.GenerateUniqueName(name))
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().SetSelectedColor(*color)
    node.SetControlPointLabelFormat("%d")
    return node


def _outcome(facts: dict) -> str:
    """What a correction brought, in a line or two."""
    points = facts["landmarks_mm"]
    lines = [_("Corrected in {seconds:.1f} s.").format(seconds=facts["seconds"])]
    if points is not None:
        lines.append(_("Distance of the points: {before:.1f} \u2192 {after:.1f} mm.").format(**points))
    return " ".join([*lines, *facts["warnings"]])
