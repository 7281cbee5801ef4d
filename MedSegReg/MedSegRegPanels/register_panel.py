"""The registration walk in the window: a fixed and a moving volume node in, a transform node and its inverse out."""
# ruff: noqa: N802, N803, N806, PLC0415 - Slicer's names are camelCase; late imports keep Slicer's start quick

from __future__ import annotations

from slicer.i18n import tr as _

from .run import runWithProgress


class RegisterPanel:
    """The section Register.

    Args:
        ui: the named widgets of MedSegReg.ui.
        logic: anything with ``register(...)`` of MedSegRegLogic.
        ready: asked before a run; False stops it (the user has seen why).
    """

    def __init__(self, ui, logic, ready) -> None:
        self.ui, self.logic, self.ready = ui, logic, ready
        self.parameters = None
        ui.registerButton.connect("clicked(bool)", self.onApply)

    def update(self, parameters) -> None:
        """Show a parameter node; None while there is none."""
        self.parameters = parameters
        missing = self._missing()
        self.ui.registerButton.enabled = not missing
        self.ui.registerButton.toolTip = missing or _("Find the transform from the moving to the fixed volume.")

    def _missing(self) -> str:
        if self.parameters is None or self.parameters.fixedVolume is None or self.parameters.movingVolume is None:
            return _("Select the fixed and the moving volume first.")
        if self.parameters.fixedVolume.GetID() == self.parameters.movingVolume.GetID():
            return _("Fixed and moving are the same volume. Select two different ones.")
        return ""

    def onApply(self, _checked: bool = False) -> None:
        """Register, and say how well it went."""
        if not self.ready():
            return
        chosen = self.parameters
        fixed, moving = chosen.fixedVolume, chosen.movingVolume
        earlier = _takenOutOfEarlierResult(moving)
        result = runWithProgress(
            _("Registering {moving} to {fixed}").format(moving=moving.GetName(), fixed=fixed.GetName()),
            lambda progress: self.logic.register(
                fixed,
                moving,
                chosen.preset.value,
                chosen.modality.value,
                device=chosen.device.value,
                progress=progress,
            ),
        )
        if result is None:
            moving.SetAndObserveTransformNodeID(earlier)
            return
        transformNode, _inverseNode, quality = result
        sentences = [quality["sentence"], *quality["warnings"]]
        if chosen.placeMoving:
            sentences.append(_placedUnder(transformNode, moving))
        self.ui.statusLabel.text = "\n".join(sentences)


def _takenOutOfEarlierResult(moving) -> str | None:
    """Take a volume out of the transform of an earlier run, to start from its own place; gives the id of its parent."""
    from MedSegRegLib.mrml.provenance import read_provenance

    parent = moving.GetParentTransformNode()
    if parent is None:
        return None
    if read_provenance(parent):
        moving.SetAndObserveTransformNodeID(None)
    return parent.GetID()


def _placedUnder(transformNode, moving) -> str:
    """Put a volume under the transform unless that would lose the transform it is under; says which."""
    if moving.GetParentTransformNode() is None:
        moving.SetAndObserveTransformNodeID(transformNode.GetID())
        return _("{moving} is shown in its new place.").format(moving=moving.GetName())
    return _("{moving} is under a transform of its own and was not moved: put that one under {result}.").format(
        moving=moving.GetName(), result=transformNode.GetName()
    )
