"""Before either walk starts: the Python packages that the library needs, installed only after the user agreed."""
# ruff: noqa: N802, N803, PLC0415 - Slicer's names are camelCase; these packages may be missing

from __future__ import annotations

import importlib.metadata
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from subprocess import CalledProcessError

import slicer
from packaging.requirements import Requirement
from slicer.i18n import tr as _

from MedSegRegLib.errors import FileError, MissingPackage

from .resolver import constraintsFile, planInstallation

TORCH = Requirement("torch>=2.10")
IMPORT_NAMES = {"scikit-image": "skimage"}  # others are imported by the name of their distribution
GPU_DRIVERS = ("/proc/driver/nvidia/version", "/dev/kfd")

Log = Callable[[str], None]


def ensureDependencies(requirementsFile: Path, log: Log = lambda line: None) -> bool:
    """Whether torch and the packages of a requirements file are there; asks before installing anything.

    Call it when work starts, on the main thread. False after the user declined, an installation failed or Slicer has
    to be restarted; the user has then seen why, and nothing was half done that the next call would not finish.

    Args:
        log: told what is found and done, line by line.
    """
    packages = [requirement for requirement in loadRequirements(requirementsFile) if not isInstalled(requirement)]
    if isInstalled(TORCH) and not packages and not packagesToRestartFor(requirementsFile):
        return True
    try:
        done = _ensureTorch(log) and _install(packages, log)
    except (CalledProcessError, FileError, MissingPackage, ImportError) as error:
        _tell(_reason(error), log)
        return False
    return done and not _restartIsNeeded(requirementsFile, log)


def repair(requirementsFile: Path, log: Log) -> bool:
    """Install the packages of a requirements file anew, at their present versions; torch is left to its extension.

    False after an installation failed; the user has then seen why.
    """
    wanted = [r for r in loadRequirements(requirementsFile) if isInstalled(r)]
    same = [f"{r.name}=={importlib.metadata.version(r.name)}" for r in wanted]
    log(_("Installing anew: {packages}").format(packages=", ".join(same)))
    try:
        slicer.util.pip_install(["--force-reinstall", "--no-deps", "--only-binary=:all:", *same])
    except CalledProcessError as error:
        _tell(_reason(error), log)
        return False
    log(_("Done."))
    return True


def installBundle(folder: Path, requirementsFile: Path, log: Log) -> bool:
    """Install what is missing, torch too, from a folder of wheels and without a network.

    False where nothing could be installed; the user has then seen why.
    """
    needed = [r for r in (TORCH, *loadRequirements(requirementsFile)) if not isInstalled(r)]
    if not needed:
        log(_("All packages are there already."))
        return True
    options = ["--no-index", "--find-links", str(folder)]
    try:
        log(_("Would add: {packages}").format(packages=", ".join(planInstallation(needed, options))))
        with constraintsFile(needed) as constraints:
            slicer.util.pip_install([*options, "--constraint", str(constraints), *map(str, needed)])
    except (CalledProcessError, FileError, MissingPackage) as error:
        _tell(_reason(error), log)
        return False
    log(_("Done."))
    return not _restartIsNeeded(requirementsFile, log)


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
        return importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return None


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


def _install(missing: Sequence[Requirement], log: Log) -> bool:
    if not missing:
        return True
    log(_("Missing: {packages}").format(packages=", ".join(map(str, missing))))
    planned = planInstallation(missing)
    log(_("Would add: {packages}").format(packages=", ".join(planned)))
    with constraintsFile(missing) as constraints:
        try:
            from slicer.packaging import pip_ensure
        except ModuleNotFoundError:  # Slicer 5.10 and older
            return _askAndInstall(missing, planned, constraints, log)
        try:
            pip_ensure(list(missing), constraints=str(constraints), requester="MedSegReg")
        except RuntimeError:  # pip_ensure's word for "the user declined"
            log(_("Nothing was installed: it was declined."))
            return False
    log(_("Done."))
    return True


def _askAndInstall(missing: Sequence[Requirement], planned: Sequence[str], constraints: Path, log: Log) -> bool:
    question = _("MedSegReg needs these Python packages. Install them into Slicer's Python now?")
    if not slicer.util.confirmOkCancelDisplay(question, "MedSegReg", detailedText="\n".join(planned)):
        log(_("Nothing was installed: it was declined."))
        return False
    slicer.util.pip_install(["--constraint", str(constraints), *map(str, missing)])
    log(_("Done."))
    return True


def _restartIsNeeded(requirementsFile: Path, log: Log) -> bool:
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
