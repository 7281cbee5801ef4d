"""Aligning in the window: several series of one patient in, their transforms, resampled volumes and labels out."""
# ruff: noqa: N802, N815, PLC0415 - Slicer's names are camelCase; the bridge to the scene is loaded when it is used

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Annotated, Any

from slicer import vtkMRMLScalarVolumeNode
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper

from .model_cards import ModelCard, readCards
from .panel import Panel
from .parameters import Device
from .run import showingErrors

ROWS = (1, 2, 3, 4)


class AlignPreset(Enum):
    """How series are moved; see MedSegRegLib.workflows.align."""

    RIGID = "rigid"
    AFFINE = "affine"

    def label(self) -> str:
        """As shown in the window."""
        return {"rigid": _("Shift and turn (rigid)"), "affine": _("Stretch too (affine)")}[self.value]


class FusionStyle(Enum):
    """How an aligned volume is shown above the reference; see MedSegRegLib.mrml.fusion."""

    BLEND = "blend"
    PET = "pet"

    def label(self) -> str:
        """As shown in the window."""
        return {"blend": _("Blend"), "pet": _("PET: only what is bright")}[self.value]


@parameterNodeWrapper
class AlignParameters:
    """The panel's settings. Each field without a default is a reference to a node, None at first."""

    alignName1: str = "T1"
    alignName2: str = "T1c"
    alignName3: str = "T2"
    alignName4: str = "FLAIR"
    alignVolume1: vtkMRMLScalarVolumeNode
    alignVolume2: vtkMRMLScalarVolumeNode
    alignVolume3: vtkMRMLScalarVolumeNode
    alignVolume4: vtkMRMLScalarVolumeNode
    alignReference: str = ""  # its name; the first series when it is none of the names
    alignPreset: AlignPreset = AlignPreset.RIGID
    alignModel: str = ""  # none: the series are only aligned
    alignNative: str = ""  # as alignReference; none: the reference
    alignDevice: Device = Device.AUTO
    alignFixed: vtkMRMLScalarVolumeNode  # the reference of the last result
    alignOverlay: vtkMRMLScalarVolumeNode
    alignStyle: FusionStyle = FusionStyle.BLEND
    alignOpacity: Annotated[float, WithinRange(0, 1)] = 0.5
    alignSaid: str = ""


class AlignPanel(Panel):
    """The section Align."""

    Parameters = AlignParameters

    def __init__(self, ui, logic, runner) -> None:
        super().__init__(ui, logic, runner)
        self._shown: tuple | None = None
        ui.alignReferenceSelector.connect("currentIndexChanged(int)", lambda _row: self._keep("alignReference"))
        ui.alignNativeSelector.connect("currentIndexChanged(int)", lambda _row: self._keep("alignNative"))
        ui.alignModelSelector.connect("currentIndexChanged(int)", self.onModelChosen)
        ui.alignButton.connect("clicked(bool)", self.onAlign)

    def update(self) -> None:
        """Show what can be aligned, and the last result."""
        chosen, names = self.parameters, list(self._volumes())
        cards = {card.name: card for card in readCards() if not card.fault}
        models = [(_("None: only align"), ""), *((card.title, card.name) for card in cards.values())]
        _offer(self.ui.alignModelSelector, models, "" if chosen is None else chosen.alignModel)
        _offer(self.ui.alignReferenceSelector, [(name, name) for name in names], self._reference())
        grids = [(_("The reference"), ""), *((name, name) for name in names)]
        _offer(self.ui.alignNativeSelector, grids, "" if chosen is None else chosen.alignNative)
        self.ui.alignNativeSelector.enabled = chosen is not None and bool(chosen.alignModel)
        missing = self._missing(cards)
        self.ui.alignButton.enabled = not missing
        self.ui.alignButton.toolTip = missing or _("Bring all series onto the reference, and say how sure that is.")
        self.ui.alignLabel.text = "" if chosen is None else chosen.alignSaid
        self.ui.alignLabel.visible = bool(self.ui.alignLabel.text)
        self._fuse()

    def onModelChosen(self, _row: int = 0) -> None:
        """Name the series after the model's channels."""
        self._keep("alignModel")
        card = next((card for card in readCards() if card.name == _chosen(self.ui.alignModelSelector)), None)
        if self.parameters is not None and card is not None and 1 < len(card.channels) <= len(ROWS):
            for number, (channel, _modality) in zip(ROWS, card.channels, strict=False):
                setattr(self.parameters, f"alignName{number}", channel)

    def onAlign(self, _checked: bool = False) -> None:
        """Align as it is set now."""
        if not self.runner.ready():
            return
        chosen, volumes, reference = self.parameters, self._volumes(), self._reference()
        with showingErrors(_("Aligning to {reference}").format(reference=reference)):
            from .align_run import AlignRun

            settings = {
                "reference": reference,
                "preset": chosen.alignPreset.value,
                "model": chosen.alignModel or None,
                "native": [chosen.alignNative] if chosen.alignNative in volumes else [],
                "device": chosen.alignDevice.value,
            }
            AlignRun(volumes, settings).start(
                self.runner, lambda nodes, said: self._onAligned(chosen, volumes[reference], nodes, said)
            )

    def _onAligned(self, parameters, reference, nodes, said: list[str]) -> None:
        parameters.alignFixed, parameters.alignSaid = reference, "\n".join(said)
        parameters.alignOverlay = next(iter(nodes.resampled.values()))
        self.update()

    def _fuse(self) -> None:
        """The chosen volume above the reference of the last result, when anything about it was changed.

        A scene that is opened with a result keeps the views that it was saved with.
        """
        chosen, before = self.parameters, self._shown
        if chosen is None:
            self._shown = None
            return
        wanted: tuple = (chosen.alignFixed, chosen.alignOverlay, chosen.alignStyle.value, chosen.alignOpacity)
        self._shown = wanted
        if before is not None and wanted != before and None not in wanted:
            with showingErrors(_("Showing the fusion")):
                from MedSegRegLib.mrml.fusion import show_fusion

                show_fusion(*wanted)

    def _volumes(self) -> dict[str, Any]:
        """The chosen volumes by the names of their series; of two with one name, the last."""
        if self.parameters is None:
            return {}
        rows = [(getattr(self.parameters, f"alignName{n}"), getattr(self.parameters, f"alignVolume{n}")) for n in ROWS]
        return {name.strip(): node for name, node in rows if node is not None}

    def _reference(self) -> str:
        names = list(self._volumes())
        wanted = "" if self.parameters is None else self.parameters.alignReference
        return wanted if wanted in names or not names else names[0]

    def _keep(self, field: str) -> None:
        selector = getattr(self.ui, f"{field}Selector")
        if self.parameters is not None and selector.currentIndex >= 0:
            setattr(self.parameters, field, _chosen(selector))

    def _missing(self, cards: dict[str, ModelCard]) -> str:
        """Why nothing can be aligned now; empty when it can."""
        volumes = self._volumes()
        nodes = [getattr(self.parameters, f"alignVolume{n}") for n in ROWS] if self.parameters is not None else []
        given = [node for node in nodes if node is not None]
        if len(given) < 2:
            return _("Select two or more volumes first.")
        if len(set(given)) < len(given):
            return _("One volume was chosen twice. Select different ones.")
        if "" in volumes or len({name.casefold() for name in volumes}) < len(given):
            return _("Give each series a name of its own, such as T1 or FLAIR.")
        card = cards.get(self.parameters.alignModel)
        channels = [] if card is None else [name for name, _modality in card.channels]
        absent = [name for name in channels if name.casefold() not in {one.casefold() for one in volumes}]
        if len(channels) > 1 and absent:
            return _("The model needs a series named {channel}.").format(channel=absent[0])
        if self.runner.busy:
            return _("A job is running. Wait for it, or cancel it.")
        return ""


def _chosen(selector: Any) -> str:
    return selector.itemData(selector.currentIndex)


def _offer(selector: Any, choices: Sequence[tuple[str, str]], chosen: str) -> None:
    """Choices (text, data) that are known only at run time, and the one that the scene keeps; else the first."""
    blocked = selector.blockSignals(True)
    if [(selector.itemText(row), selector.itemData(row)) for row in range(selector.count)] != list(choices):
        selector.clear()
        for text, data in choices:
            selector.addItem(text, data)
    selector.currentIndex = max(selector.findData(chosen), 0 if choices else -1)
    selector.blockSignals(blocked)
