"""What this computer offers, in the window: packages, graphics card, memory, engines, and how missing ones come."""
# ruff: noqa: N802, N803 - Slicer's names are camelCase

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

import qt
import slicer
from slicer.i18n import tr as _

from .dependencies import (
    INSTALLER,
    TORCH,
    ensureDependencies,
    installBundle,
    installedVersion,
    isInstalled,
    loadRequirements,
    packagesToRestartFor,
    repair,
)
from .panel import Panel

REQUIREMENTS = Path(__file__).parents[1] / "Resources" / "requirements.txt"
GOOD, BAD = "\u2713", "\u2717"


class ComputePanel(Panel):
    """The section Compute. It keeps nothing in the scene: what it shows belongs to the computer."""

    def __init__(self, ui, logic, runner, requirementsFile: Path = REQUIREMENTS) -> None:
        super().__init__(ui, logic, runner)
        self.requirementsFile, self.installer = requirementsFile, INSTALLER
        self.installer.onChange = self.showInstallation
        self._found: dict | None = None  # what the computing process said
        ui.lookButton.connect("clicked(bool)", self.onLook)
        ui.installButton.connect("clicked(bool)", self.onInstall)
        ui.bundleButton.connect("clicked(bool)", self.onBundle)
        ui.restartButton.connect("clicked(bool)", self.onRestart)

    def update(self) -> None:
        """Show what is known now; imports none of the packages."""
        needed = [TORCH, *loadRequirements(self.requirementsFile)]
        missing = [requirement for requirement in needed if not isInstalled(requirement)]
        rows = [_("Packages"), *map(_packageRow, needed)]
        if self._found is not None:
            rows += _machineRows(self._found)
        self.ui.foundBrowser.setHtml(_table(rows))
        self.ui.lookButton.enabled = not self.runner.busy and not missing
        self.ui.bundleButton.enabled = not self.runner.busy and not self.installer.busy
        self.ui.installButton.enabled = not self.runner.busy or self.installer.busy
        self.ui.installButton.text = _("&Stop") if self.installer.busy else _("&Install") if missing else _("&Repair")
        self.ui.restartButton.visible = bool(packagesToRestartFor(self.requirementsFile))

    def showInstallation(self) -> None:
        """Show the log as it is now, and whether pip is at work."""
        if self.installer.lines:
            self.ui.logGroupBox.collapsed = False
        self.ui.logEdit.setPlainText("\n".join(self.installer.lines))
        self.ui.logEdit.moveCursor(qt.QTextCursor.End)
        self.update()

    def cleanup(self) -> None:
        """The window is closed; an installation goes on."""
        self.installer.onChange = lambda: None
        super().cleanup()

    def onLook(self, _checked: bool = False) -> None:
        """Ask the computing process what it finds."""
        self.runner.start(_("Looking at this computer"), "compute", {}, {}, self._onFound)

    def onInstall(self, _checked: bool = False) -> None:
        """Install what is missing; where nothing is, install the packages anew; while that runs, stop it."""
        if self.installer.busy:
            self.installer.cancel()
        elif ensureNeeded(self.requirementsFile):
            self._begin()
            if ensureDependencies(self.requirementsFile, self.installer, self._onInstalled):
                self._onInstalled(True)
            elif not self.installer.busy:
                self._onInstalled(False)
        elif slicer.util.confirmOkCancelDisplay(
            _("All packages are there. Install them anew, at the same versions?"), "MedSegReg"
        ):
            self._begin()
            repair(self.requirementsFile, self.installer, self._onInstalled)

    def onBundle(self, _checked: bool = False) -> None:
        """Install from a folder that the user chooses."""
        title = _("Folder with wheels and models")
        folder = qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), title)
        if folder:
            self.installFrom(Path(folder))

    def installFrom(self, folder: Path) -> None:
        """Install the packages of a bundle, then its models."""

        def onDone(done: bool) -> None:
            self._onInstalled(done)
            if done:
                self._installModels(sorted(folder.glob("*.zip")))

        self._begin()
        installBundle(folder, self.requirementsFile, self.installer, onDone)

    def onRestart(self, _checked: bool = False) -> None:
        """Restart Slicer, if the user means it."""
        question = _("Restart Slicer now? What is not saved in the scene is lost.")
        if slicer.util.confirmOkCancelDisplay(question, "MedSegReg"):
            slicer.util.restart()

    def _begin(self) -> None:
        self.runner.release()  # its process has the packages loaded
        self._found = None
        self.ui.computeMessageLabel.text = ""

    def _onInstalled(self, done: bool) -> None:
        text = _("The packages are ready.") if done else _("Not everything is ready: the log says what to do.")
        self.ui.computeMessageLabel.text = text
        self.update()

    def _installModels(self, archives: Sequence[Path]) -> None:
        """One job an archive."""
        if not archives:
            return
        first, *others = archives

        def onDone(result) -> None:
            for name, outcome in result.data["outcomes"].items():
                self.installer.log(f"{name}: {outcome}")
            self._installModels(others)

        title = _("Importing {name}").format(name=first.name)
        self.runner.start(title, "install", {"source": str(first), "replace": False}, {}, onDone)

    def _onFound(self, result) -> None:
        self._found = result.data
        self.update()


def ensureNeeded(requirementsFile: Path) -> bool:
    """Whether something is missing, too old, or waits for a restart."""
    needed = [TORCH, *loadRequirements(requirementsFile)]
    return not all(map(isInstalled, needed)) or bool(packagesToRestartFor(requirementsFile))


def _packageRow(requirement) -> tuple[str, str, str]:
    version = installedVersion(requirement)
    found = version or _("not installed")
    if version is not None and not isInstalled(requirement):
        found = _("{version}, {needed} is needed").format(version=version, needed=requirement.specifier)
    return (GOOD if isInstalled(requirement) else BAD, requirement.name, found)


def _machineRows(found: dict) -> list[str | tuple[str, str, str]]:
    rows: list[str | tuple[str, str, str]] = [_("Devices")]
    for device in found["devices"]:
        memory = "" if device["memory_bytes"] is None else f", {device['memory_bytes'] / 2**30:.0f} GiB"
        text = device["problem"] or f"{device['description']}{memory}"
        rows.append((GOOD if device["usable"] else BAD, device["name"], text))
    if found["free_host_bytes"] is not None:
        rows.append((GOOD, _("memory"), _("{free:.1f} GiB free").format(free=found["free_host_bytes"] / 2**30)))
    rows.append(_("Engines"))
    for name, version in found["engines"].items():
        rows.append((GOOD if version else "\u2013", name, version or _("not installed; optional")))
    return rows


def _table(rows: Sequence[str | tuple[str, str, str]]) -> str:
    """Titles and rows of three cells as HTML."""
    cells = []
    for row in rows:
        if isinstance(row, str):
            cells.append(f'<tr><td colspan="3"><b>{escape(row)}</b></td></tr>')
        else:
            mark, name, text = map(escape, row)
            cells.append(f"<tr><td>{mark}&nbsp;</td><td>{name}&nbsp;&nbsp;</td><td>{text}</td></tr>")
    return f"<table>{''.join(cells)}</table>"
