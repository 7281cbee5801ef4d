"""What pip would do, asked before it does it: nothing that Slicer has may be replaced. Part of ``dependencies``."""
# ruff: noqa: N802 - Slicer's names are camelCase

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from slicer.i18n import tr as _

from MedSegRegLib.errors import FileError, MissingPackage
from MedSegRegLib.jobs.python import find_python

QUIET = ("--quiet", "--no-input", "--disable-pip-version-check", "--only-binary=:all:")
CONFLICTS = ("ResolutionImpossible", "conflicting dependencies", "No matching distribution found")
SECONDS = 300


def planInstallation(requirements: Sequence[Requirement], options: Sequence[str] = ()) -> list[str]:
    """What pip would add for these requirements, each "name version"; pip resolves, and installs nothing.

    Args:
        options: further options of ``pip install``, such as where wheels lie.

    Raises:
        MissingPackage: it would replace a package that is there, or pip found no solution.
        FileError: pip could not be run, or did not come to an end: no network, no space.
    """
    with constraintsFile(requirements) as constraints:
        report = constraints.with_name("report.json")
        arguments = ["install", "--dry-run", "--report", str(report), *QUIET, "--constraint", str(constraints)]
        done = _pip([*arguments, *options, *map(str, requirements)])
        if done.returncode:
            raise _refusal(requirements, done.stderr)
        planned = [entry["metadata"] for entry in json.loads(report.read_text(encoding="utf-8"))["install"]]
    exempt = {canonicalize_name(requirement.name) for requirement in requirements}
    replaced = [p["name"] for p in planned if canonicalize_name(p["name"]) in installedVersions().keys() - exempt]
    if replaced:
        raise _conflict(requirements, ", ".join(replaced))
    return [f"{package['name']} {package['version']}" for package in planned]


def installedVersions() -> dict[str, str]:
    """Canonical name -> version of every distribution in this Python."""
    found = {}
    for distribution in importlib.metadata.distributions():
        name = distribution.metadata["Name"]
        if name:  # a folder that was left behind has none
            found.setdefault(canonicalize_name(name), distribution.version)
    return found


@contextmanager
def constraintsFile(requirements: Sequence[Requirement]) -> Iterator[Path]:
    """A file for pip that keeps every installed package at its version, save those that are asked for."""
    asked = {canonicalize_name(requirement.name) for requirement in requirements}
    kept = {name: version for name, version in installedVersions().items() if name not in asked}
    with tempfile.TemporaryDirectory(prefix="medsegreg-pip-") as folder:
        path = Path(folder) / "constraints.txt"
        path.write_text("".join(f"{name}=={version}\n" for name, version in sorted(kept.items())), encoding="utf-8")
        yield path


def _pip(arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    command = [find_python(), "-m", "pip", *arguments]
    hidden = subprocess.CREATE_NO_WINDOW if sys.platform == "win32" else 0
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=SECONDS, check=False, creationflags=hidden
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FileError(
            _("pip did not answer ({error})").format(error=type(error).__name__),
            _("its plan within some minutes"),
            _("check the network connection, then try again"),
        ) from error


def _refusal(requirements: Sequence[Requirement], said: str) -> FileError | MissingPackage:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    last = next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1] if lines else "")
    if any(word in said for word in CONFLICTS[:2]):
        return _conflict(requirements, last.removeprefix("ERROR: "))
    return FileError(
        _("pip cannot find the packages: {reason}").format(reason=last.removeprefix("ERROR: ")),
        _("a connection to the package index, or a complete offline bundle"),
        _("check the network connection and the proxy, then try again"),
    )


def _conflict(requirements: Sequence[Requirement], reason: str) -> MissingPackage:
    return MissingPackage(
        _("Installing {packages} would replace packages that Slicer or other extensions use: {reason}").format(
            packages=", ".join(map(str, requirements)), reason=reason
        ),
        _("an installation that only adds packages"),
        _("nothing was changed; use a newer Slicer, or remove the extension that holds the older package"),
    )
