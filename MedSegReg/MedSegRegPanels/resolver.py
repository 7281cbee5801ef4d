"""What pip would do, asked before it does it: nothing that Slicer has may be replaced. Part of ``installer``."""
# ruff: noqa: N802 - Slicer's names are camelCase

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Sequence
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from slicer.i18n import tr as _

from MedSegRegLib.errors import FileError, MissingPackage

CONFLICTS = ("ResolutionImpossible", "conflicting dependencies")
CONSTRAINTS, REPORT = "constraints.txt", "report.json"


def planArguments(wanted: Sequence[Requirement], folder: Path, options: Sequence[str] = ()) -> list[str]:
    """For ``pip install``, to say what it would add: it resolves, and installs nothing.

    Args:
        folder: for what pip reads and writes, until after the installation.
        options: further options of ``pip install``, such as where wheels lie.
    """
    asked = {canonicalize_name(requirement.name) for requirement in wanted}
    kept = {name: version for name, version in installedVersions().items() if name not in asked}
    lines = [f"{name}=={version}\n" for name, version in sorted(kept.items())]
    (folder / CONSTRAINTS).write_text("".join(lines), encoding="utf-8")
    return ["--quiet", "--dry-run", "--report", str(folder / REPORT), *installArguments(wanted, folder, options)]


def installArguments(wanted: Sequence[Requirement], folder: Path, options: Sequence[str] = ()) -> list[str]:
    """For ``pip install``, after :func:`planArguments`: packages that are there keep their versions."""
    return [*options, "--constraint", str(folder / CONSTRAINTS), *map(str, wanted)]


def readPlan(wanted: Sequence[Requirement], folder: Path, code: int, said: Sequence[str]) -> list[str]:
    """What pip would add, each "name version".

    Args:
        code, said: how pip ended, and the lines that it said.

    Raises:
        MissingPackage: it would replace a package that is there, or found no solution.
        FileError: it found no packages: no network, or a bundle that is not complete.
    """
    if code:
        raise _refusal(wanted, said)
    report = json.loads((folder / REPORT).read_text(encoding="utf-8"))
    planned = [entry["metadata"] for entry in report["install"]]
    exempt = {canonicalize_name(requirement.name) for requirement in wanted}
    replaced = [p["name"] for p in planned if canonicalize_name(p["name"]) in installedVersions().keys() - exempt]
    if replaced:
        raise _conflict(wanted, ", ".join(replaced))
    return [f"{package['name']} {package['version']}" for package in planned]


def installedVersions() -> dict[str, str]:
    """Canonical name -> version of every distribution in this Python."""
    found = {}
    for distribution in importlib.metadata.distributions():
        name = distribution.metadata["Name"]
        if name:  # a folder that was left behind has none
            found.setdefault(canonicalize_name(name), distribution.version)
    return found


def _refusal(requirements: Sequence[Requirement], said: Sequence[str]) -> FileError | MissingPackage:
    lines = [line.strip() for line in said if line.strip()]
    last = next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1] if lines else "")
    if any(word in line for word in CONFLICTS for line in lines):
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
