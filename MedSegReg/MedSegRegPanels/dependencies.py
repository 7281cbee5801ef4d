"""Before either walk starts: the Python packages that the library needs, installed only after the user agreed."""
# ruff: noqa: N802, N803, PLC0415 - Slicer's names are camelCase; these packages may be missing

from __future__ import annotations

import importlib.metadata
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CalledProcessError

import slicer
from packaging.requirements import Requirement
from slicer.i18n import tr as _

from .installer import Done, Installer

TORCH = Requirement("torch>=2.10")
IMPORT_NAMES = {"scikit-image": "skimage"}  # others are imported by the name of their distribution
VERSION = re.compile(r"^Version: *(\S+)", re.MULTILINE)
GPU_DRIVERS = ("/proc/driver/nvidia/version", "/dev/kfd")

INSTALLER = Installer()
"""There is one Python to install into, and so one at a time for all that ask."""
Log = Callable[[str], None]


def announce(done: bool) -> None:
    """Tell a person, who was asked and goes on with something else meanwhile, that the work can start."""
    if done:
        slicer.util.infoDisplay(_("The packages are installed. Press the button again to start the work."), "MedSegReg")


def ensureDependencies(requirementsFile: Path, installer: Installer = INSTALLER, onDone: Done = announce) -> bool:
    """Whether torch and the packages of a requirements file are there. Where they are not, their installation begins.

    Call it when work starts, on the main thread. False where the work cannot start now: the user was asked, or has seen
    why not. Nothing waits for pip, except the extension PyTorch.

    Args:
        onDone: told whether the packages are there, when an installation that was begun here has ended.
    """
    packages = [requirement for requirement in loadRequirements(requirementsFile) if not isInstalled(requirement)]
    if installer.busy:
        slicer.util.showStatusMessage(_("Packages are being installed: see the section Compute."), 4000)
        return False
    try:
        if not _ensureTorch(installer.log):
            return False
    except (CalledProcessError, ImportError) as error:
        _tell(_reason(error), installer.log)
        return False
    if packages:
        installer.install(packages, lambda done: onDone(done and not restartIsNeeded(requirementsFile, installer.log)))
        return False
    return not restartIsNeeded(requirementsFile, installer.log)


def repair(requirementsFile: Path, installer: Installer, onDone: Done) -> None:
    """Install the packages of a requirements file anew, at their present versions; torch is left to its extension."""
    wanted = [requirement for requirement in loadRequirements(requirementsFile) if isInstalled(requirement)]
    installer.reinstall([f"{one.name}=={importlib.metadata.version(one.name)}" for one in wanted], onDone)


def installBundle(folder: Path, requirementsFile: Path, installer: Installer, onDone: Done) -> None:
    """Install what is missing, torch too, from a folder of wheels and without a network."""
    needed = [r for r in (TORCH, *loadRequirements(requirementsFile)) if not isInstalled(r)]
    if not needed:
        installer.log(_("All packages are there already."))
        onDone(True)
        return
    options = ["--no-index", "--find-links", str(folder)]
    installer.install(
        needed,
        lambda done: onDone(done and not restartIsNeeded(requirementsFile, installer.log)),
        options,
        ask=False,
    )


def loadRequirements(path: Path) -> list[Requirement]:
    """The requirements in a file, one a line; comments and empty lines are skipped."""
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def isInstalled(requirement: Requirement) -> bool:
    """Whether a distribution of a fitting version is installed; imports nothing."""
    version = installedVersion(requirement)
    return version is not None and requirement.specifier.contains(version, prereleases=True)


def installedVersion(requirement: Requirement) -> str | None:
    """The version of a distribution, None without it; imports nothing."""
    try:
        distribution = importlib.metadata.distribution(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return None
    text = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
    found = VERSION.search(text)  # four times as fast as metadata.version: the window asks at each change
    return None if found is None else found[1]


def packagesToRestartFor(requirementsFile: Path) -> list[str]:
    """Packages that this Slicer has loaded in another version than the one that is installed now."""
    stale = []
    for requirement in (TORCH, *loadRequirements(requirementsFile)):
        module = sys.modules.get(IMPORT_NAMES.get(requirement.name, requirement.name))
        loaded = getattr(module, "__version__", None)
        if loaded is not None and installedVersion(requirement) not in (None, str(loaded)):
            stale.append(f"{requirement.name} {loaded}")
    return stale


def _ensureTorch(log: Log) -> bool:
    """PyTorch through the extension of that name, which picks the build that fits the graphics card."""
    if isInstalled(TORCH):
        return True
    try:
        import PyTorchUtils
    except ModuleNotFoundError:
        _tell(
            _(
                "PyTorch is needed. Open View / Extensions Manager, install the extension 'PyTorch', restart Slicer and"
                " press the button again."
            ),
            log,
        )
        return False
    found = installedVersion(TORCH)
    if found is not None:
        _tell(
            _(
                "PyTorch {found} is installed, but {needed} is needed. Open the module 'PyTorch Util', uninstall"
                " PyTorch, restart Slicer and press the button again."
            ).format(found=found, needed=str(TORCH.specifier)),
            log,
        )
        return False
    log(_("Asking the extension PyTorch for torch {needed}").format(needed=str(TORCH.specifier)))
    logic = PyTorchUtils.PyTorchUtilsLogic()
    installed = logic.installTorch(
        askConfirmation=True, forceComputationBackend=_backend(), torchVersionRequirement=str(TORCH.specifier)
    )
    if installed is None:
        log(_("torch was not installed."))
    return installed is not None


def _backend() -> str | None:
    """The small build for a processor where no graphics card could use another; None leaves the choice open."""
    driver = shutil.which("nvidia-smi") or any(Path(path).exists() for path in GPU_DRIVERS)
    return None if driver or sys.platform == "darwin" else "cpu"


def restartIsNeeded(requirementsFile: Path, log: Log) -> bool:
    """Whether this Slicer uses other versions than are installed; the user has seen which then."""
    stale = packagesToRestartFor(requirementsFile)
    if stale:
        _tell(
            _(
                "Other versions of these packages are in use by this Slicer: {packages}. Restart Slicer, then press the"
                " button again."
            ).format(packages=", ".join(stale)),
            log,
        )
    return bool(stale)


def _reason(error: Exception) -> str:
    if isinstance(error, CalledProcessError):
        return _(
            "A Python package could not be installed (pip ended with {code}). Check the network connection and the"
            " Python console, then try again."
        ).format(code=error.returncode)
    if isinstance(error, ImportError):
        return _("An installed package cannot be loaded: {error}. Restart Slicer, then try again.").format(error=error)
    return str(error)


def _tell(text: str, log: Log) -> None:
    log(text)
    slicer.util.errorDisplay(text)
