"""Tasks on the store of models: check, install, pass on, remove. Jobs walk: worker -> [storing] -> store."""

from __future__ import annotations

from pathlib import Path

from ...files.model_archive import write_archive
from ...files.model_delta import missing_parents
from ...files.model_signature import signature_state
from ...files.model_store import model_folder, remove_model
from ...model_import.install import install_models
from ...segment.model import load_model
from ..values import JobResult
from ..work import Work


def verify(work: Work, *, model: str) -> JobResult:
    """Every hash, the signature, and that all weights are finite and fit: model (name or folder) -> signature."""
    folder = model_folder(model)
    load_model(folder, progress=work.progress)
    return JobResult({"model": folder.name, "signature": str(signature_state(folder))}, {})


def install(work: Work, *, source: str, replace: bool = False, licence: str | None = None) -> JobResult:
    """An archive, a package or a model of another tool -> outcomes {name: what happened}, findings."""
    outcomes, findings = install_models(
        Path(source), {"licence": licence}, replace=replace, progress=work.progress.part(0.0, 0.95)
    )
    return JobResult({"outcomes": outcomes, "findings": [str(finding) for finding in findings]}, {})


def export(work: Work, *, models: list[str], path: str) -> JobResult:
    """Models, and those that they were adapted from, into one archive -> models, sha256."""
    folders = [model_folder(model) for model in models]
    folders += missing_parents(folders)
    work.progress.update(0.1, "writing")
    return JobResult({"sha256": write_archive(folders, Path(path)), "models": [folder.name for folder in folders]}, {})


def remove(work: Work, *, model: str) -> JobResult:
    """A model of the user's own goes -> folder."""
    work.progress.check_cancelled()
    return JobResult({"folder": str(remove_model(model))}, {})
