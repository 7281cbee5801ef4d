"""The models of this computer in the window: their cards, and how they come and go."""
# ruff: noqa: N802 - Slicer's names are camelCase

from __future__ import annotations

from pathlib import Path

import qt
import slicer
from slicer.i18n import tr as _

from .model_cards import ModelCard, readCards, userStore
from .panel import Panel

ARCHIVES = "*.zip"


class ModelsPanel(Panel):
    """The section Models. It keeps nothing in the scene: models belong to the computer."""

    def __init__(self, ui, logic, runner) -> None:
        super().__init__(ui, logic, runner)
        self._cards: list[ModelCard] | None = None
        menu = qt.QMenu(ui.importButton)
        menu.addAction(_("File...")).connect("triggered()", self.onImportFile)
        menu.addAction(_("Folder...")).connect("triggered()", self.onImportFolder)
        ui.importButton.setMenu(menu)
        ui.modelList.connect("currentRowChanged(int)", self.onModelChosen)
        ui.verifyButton.connect("clicked(bool)", self.onVerify)
        ui.exportButton.connect("clicked(bool)", self.onExport)
        ui.removeButton.connect("clicked(bool)", self.onRemove)
        ui.storageLabel.connect("linkActivated(QString)", self.onFolderAsked)

    def update(self) -> None:
        """Show the models that are there now."""
        cards = readCards()
        if cards != self._cards:
            self._cards = cards
            self._showList(cards)
        card = self._card()
        idle = not self.runner.busy
        self.ui.importButton.enabled = idle
        self.ui.verifyButton.enabled = self.ui.exportButton.enabled = idle and card is not None
        self.ui.removeButton.enabled = idle and card is not None and not card.isShipped

    def onModelChosen(self, _row: int = 0) -> None:
        """Show the card of the chosen model."""
        card = self._card()
        self.ui.modelsMessageLabel.text = ""
        if card is None:
            self.ui.cardBrowser.clear()
        else:
            self.ui.cardBrowser.searchPaths = [str(card.folder)]
            self.ui.cardBrowser.setMarkdown(card.text)
        self.update()

    def onVerify(self, _checked: bool = False) -> None:
        """Check the files of the chosen model."""
        card = self._card()
        self._start(
            _("Verifying {model}").format(model=card.name),
            "verify",
            {"model": str(card.folder)},
            lambda data: _("{model} is whole, {signature}.").format(model=card.name, signature=data["signature"]),
        )

    def onImportFile(self) -> None:
        """Install from a file that the user chooses."""
        self.importFrom(qt.QFileDialog.getOpenFileName(slicer.util.mainWindow(), _("Import a model")))

    def onImportFolder(self) -> None:
        """Install from a folder that the user chooses."""
        self.importFrom(qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), _("Import a model")))

    def importFrom(self, path: str, replace: bool = False) -> None:
        """Install the model, or the models, of a file or folder; nothing happens without a path."""
        if path:
            self._start(
                _("Importing {name}").format(name=Path(path).name),
                "install",
                {"source": path, "replace": replace},
                lambda data: "\n".join([*(f"{n}: {what}" for n, what in data["outcomes"].items()), *data["findings"]]),
            )

    def onExport(self, _checked: bool = False) -> None:
        """Write the chosen model into an archive."""
        card = self._card()
        suggested = str(Path.home() / f"{card.name}.zip")
        path = qt.QFileDialog.getSaveFileName(slicer.util.mainWindow(), _("Export the model"), suggested, ARCHIVES)
        if path:
            self._start(
                _("Exporting {model}").format(model=card.name),
                "export",
                {"models": [str(card.folder)], "path": path},
                lambda data: _("{models} written, sha256 {digest}").format(
                    models=", ".join(data["models"]), digest=data["sha256"]
                ),
            )

    def onRemove(self, _checked: bool = False) -> None:
        """Remove the chosen model, if the user means it."""
        card = self._card()
        question = _("Remove the model '{title}' from this computer?").format(title=card.title)
        if slicer.util.confirmOkCancelDisplay(question, _("Remove a model")):
            self._start(
                _("Removing {model}").format(model=card.name),
                "remove",
                {"model": card.folder.name},
                lambda _data: _("{model} was removed.").format(model=card.name),
            )

    def onFolderAsked(self, _link: str = "") -> None:
        """Open the user's folder of models."""
        qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(userStore())))

    def _start(self, title: str, task: str, arguments: dict, sentence) -> None:
        def onDone(result) -> None:
            self._cards = None
            self.update()
            self.ui.modelsMessageLabel.text = sentence(result.data)

        self.ui.modelsMessageLabel.text = ""
        self.runner.start(title, task, arguments, {}, onDone)

    def _showList(self, cards: list[ModelCard]) -> None:
        models, row = self.ui.modelList, max(self.ui.modelList.currentRow, 0)
        blocked = models.blockSignals(True)
        models.clear()
        for card in cards:
            damaged = _("damaged: {name}").format(name=card.name)
            item = qt.QListWidgetItem(damaged if card.fault else card.title)
            where = _("shipped") if card.isShipped else _("your own")
            item.setToolTip(card.fault or f"{card.name} {card.version}, {where}, {card.licence}")
            models.addItem(item)
        models.setCurrentRow(min(row, len(cards) - 1))
        models.blockSignals(blocked)
        own = sum(card.sizeBytes for card in cards if not card.isShipped) / 2**20
        shipped = sum(card.sizeBytes for card in cards if card.isShipped) / 2**20
        link = f'<a href="folder">{_("your models")}</a>'
        self.ui.storageLabel.text = _("On disk: {own:.1f} MiB of {link}, {shipped:.1f} MiB shipped").format(
            own=own, link=link, shipped=shipped
        )
        self.onModelChosen()

    def _card(self) -> ModelCard | None:
        row = self.ui.modelList.currentRow
        return self._cards[row] if self._cards and 0 <= row < len(self._cards) else None
