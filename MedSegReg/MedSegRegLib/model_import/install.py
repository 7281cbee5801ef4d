"""A model of whatever kind into the user's store. Import walk: file or folder -> staging -> [install] -> store."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import InvalidSetting
from ..files.model_store import Outcome, install, is_package, stage, staging_folder
from ..progress import SILENT, Progress
from ..report import Finding
from ..segment.model import load_model
from .run import import_model


def install_models(
    source: Path, wishes: Mapping[str, Any] | None = None, *, replace: bool = False, progress: Progress = SILENT
) -> tuple[dict[str, Outcome], tuple[Finding, ...]]:
    """Install an archive or a folder of packages, or convert and install a model of another tool. All, or nothing.

    Args:
        source: what ``medsegreg model export`` wrote, a package, or anything of :func:`.run.import_model`.
        wishes: further arguments of :func:`.run.import_model` (name, licence, configuration, folds, description).
        replace: a model of the same name and other content gives way.
        progress: may cancel.

    Returns:
        What happened to each name, and what the user should know.

    Raises:
        InvalidSetting: wishes for a package, which has its own name and licence.
        FileError, ModelError, MissingPackage, Cancelled: of :func:`.run.import_model`, ``stage`` and ``install``.
    """
    given = {key: value for key, value in (wishes or {}).items() if value is not None}
    findings: tuple[Finding, ...] = ()
    with staging_folder() as staging:
        if not is_package(source):
            spec, findings = import_model(source, staging / "imported", **given, progress=progress)
            packages = [(staging / "imported").rename(staging / spec.name)]
        elif given:
            raise InvalidSetting(
                f"'{source.name}' is a model of MedSegReg, which has its name, licence and folds",
                "these options only with models of other tools",
                "leave them out",
            )
        else:
            packages = stage(source, staging)
        for package in packages:
            load_model(package)
        progress.check_cancelled()
        return install(packages, replace), findings
