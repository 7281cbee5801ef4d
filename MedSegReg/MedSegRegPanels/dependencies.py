"""Before either walk starts: the Python packages that the library needs, installed only after the user agreed."""
# ruff: noqa: N802, N803, PLC0415 - Slicer's names are camelCase; these packages may be missing

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from subprocess import CalledProcessError

import slicer
from packaging.requirements import Requirement
from slicer.i18n import tr as _

TORCH = Requirement("torch>=2.10")


def ensureDependencies(requirementsFile: Path) -> bool:
    """Whether torch and the packages of a requirements file are there; asks before installing anything.

    Call it when work starts, on the main thread. False after the user declined or an installation failed; the user
    has then seen why.
    """
    try:
        return _ensureTorch() and _ensurePackages(loadRequirements(requirementsFile))
    except CalledProcessError as error:
        slicer.util.errorDisplay(
            _(
                "A Python package could not be installed (pip ended with {code}). Check the network connection and the"
                " Python console, then try again."
            ).format(code=error.returncode)
        )
        return False


def loadRequirements(path: Path) -> list[Requirement]:
    """The requirements in a file, one a line; comments and empty lines are skipped."""
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def isInstalled(requirement: Requirement) -> bool:
    """Whether a distribution of a fitting version is installed; imports nothing."""
    try:
        return requirement.specifier.contains(importlib.metadata.version(requirement.name), prereleases=True)
    except importlib.metadata.PackageNotFoundError:
        return False


def _ensureTorch() -> bool:
    """PyTorch through the extension of that name, which picks the build that fits the graphics card."""
    if isInstalled(TORCH):
        return True
    try:
        import PyTorchUtils
    except ModuleNotFoundError:
        slicer.util.errorDisplay(
            _(
                "PyTorch is needed. Open View / Extensions Manager, install the extension 'PyTorch', restart Slicer and"
                " press the button again."
            )
        )
        return False
    if PyTorchUtils.PyTorchUtilsLogic.torchInstalled():
        slicer.util.errorDisplay(
            _(
                "PyTorch {found} is installed, but {needed} is needed. Open the module 'PyTorch Util', uninstall"
                " PyTorch, restart Slicer and press the button again."
            ).format(found=importlib.metadata.version(TORCH.name), needed=str(TORCH.specifier))
        )
        return False
    logic = PyTorchUtils.PyTorchUtilsLogic()
    return logic.installTorch(askConfirmation=True, torchVersionRequirement=str(TORCH.specifier)) is not None


def _ensurePackages(requirements: list[Requirement]) -> bool:
    missing = [requirement for requirement in requirements if not isInstalled(requirement)]
    if not missing:
        return True
    try:
        from slicer.packaging import pip_ensure
    except ModuleNotFoundError:  # Slicer 5.10 and older
        return _askAndInstall([str(requirement) for requirement in missing])
    try:
        pip_ensure(missing, requester="MedSegReg")
    except RuntimeError:  # pip_ensure's word for "the user declined"
        return False
    return True


def _askAndInstall(packages: list[str]) -> bool:
    question = _("MedSegReg needs these Python packages. Install them into Slicer's Python now?")
    if not slicer.util.confirmOkCancelDisplay(question, "MedSegReg", detailedText="\n".join(packages)):
        return False
    slicer.util.pip_install(packages)
    return True
