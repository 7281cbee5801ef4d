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
        self.requirementsFile = requirementsFile
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
        self.ui.installButton.text = _("&Install") if missing else _("&Repair")
        self.ui.lookButton.enabled = not self.runner.busy and not missing
        self.ui.installButton.enabled = self.ui.bundleButton.enabled = not self.runner.busy
        self.ui.restartButton.visible = bool(packagesToRestartFor(self.requirementsFile))

    def onLook(self, _checked: bool = False) -> None:
        """Ask the computing process what it finds."""
        self.runner.start(_("Looking at this computer"), "compute", {}, {}, self._onFound)

    def onInstall(self, _checked: bool = False) -> None:
        """Install what is missing; where nothing is, install the packages anew."""
        if ensureNeeded(self.requirementsFile):
            done = self._logged(lambda: ensureDependencies(self.requirementsFile, self.log))
        else:
            question = _("All packages are there. Install them anew, at the same versions?")
            if not slicer.util.confirmOkCancelDisplay(question, "MedSegReg"):
                return
            done = self._logged(lambda: repair(self.requirementsFile, self.log))
        self._say(done)

    def onBundle(self, _checked: bool = False) -> None:
        """Install from a folder that the user chooses."""
        title = _("Folder with wheels and models")
        folder = qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), title)
        if folder:
            self.installFrom(Path(folder))

    def installFrom(self, folder: Path) -> None:
        """Install the packages of a bundle, then its models."""
        done = self._logged(lambda: installBundle(folder, self.requirementsFile, self.log))
        self._say(done)
        if done:
            self._installModels(sorted(folder.glob("*.zip")))

    def onRestart(self, _checked: bool = False) -> None:
        """Restart Slicer, if the user means it."""
        question = _("Restart Slicer now? What is not saved in the scene is lost.")
        if slicer.util.confirmOkCancelDisplay(question, "MedSegReg"):
            slicer.util.restart()

    def log(self, line: str) -> None:
        """Add a line to the log."""
        self.ui.logEdit.appendPlainText(line)

    def _logged(self, work) -> bool:
        self.ui.logEdit.clear()
        self.ui.logGroupBox.collapsed = False
        self.runner.release()  # its process has the packages loaded
        done = work()
        self._found = None
        return done

    def _say(self, done: bool) -> None:
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
                self.log(f"{name}: {outcome}")
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
