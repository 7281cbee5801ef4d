"""A cross-validation: one training a fold, and their ensemble. Training walk: run -> [folds] -> package and card."""

from __future__ import annotations

import csv
import time
from dataclasses import fields
from pathlib import Path
from typing import Protocol

from ..evaluate.scores import StructureScores, summarize
from ..evaluate.tables import write_csv
from ..files.model_package import read_model, write_model
from ..files.model_spec import ModelSpec
from ..progress import Progress
from .card import card_numbers, write_card
from .settings import TrainingSettings
from .workers import Workers

TEXTS = ("name",)
NUMBERS = tuple(field.name for field in fields(StructureScores) if field.name not in TEXTS)


class TrainSplit(Protocol):
    """Trains on one split into a folder: the description of the model, None if the time was over before."""

    def __call__(
        self, settings: TrainingSettings, output: Path, stop_after_minutes: float, progress: Progress, /
    ) -> ModelSpec | None: ...


def train_folds(
    train: TrainSplit,
    settings: TrainingSettings,
    output: Path,
    stop_after_minutes: float,
    progress: Progress,
    workers: Workers,
) -> ModelSpec | None:
    """Train every fold into ``output/fold-N``, then write their ensemble to ``output/model``.

    The folds may also be trained one by one elsewhere and put there: those that are finished are not trained again.

    Returns:
        The description of the ensemble; None if the time was over before.
    """
    deadline = time.monotonic() + 60 * stop_after_minutes
    folders = [output / f"fold-{fold}" for fold in range(settings.folds)]
    for fold, folder in enumerate(folders):
        one = settings.model_copy(update={"fold": fold})
        part = progress.part(fold / settings.folds, (fold + 1) / settings.folds)
        if train(one, folder, max(0.0, deadline - time.monotonic()) / 60, part) is None:
            return None
    if workers.is_first:
        join_folds(settings, folders, output)
    workers.decide(True)  # the ensemble is written
    return read_model(output / "model")[0]


def join_folds(settings: TrainingSettings, folders: list[Path], output: Path) -> None:
    """Write the ensemble of trained folds, with the scores of all cases and of each fold."""
    models = [read_model(folder / "model") for folder in folders]
    cases: dict[str, list[StructureScores]] = {}
    for fold, folder in enumerate(folders, start=1):
        for name, scored in read_scores(folder / "test_scores.csv").items():
            cases[f"{name} (fold {fold})" if name in cases else name] = scored
    by_fold = {
        label.name: [spec.scores[label.name].get("dice_mean") for spec, _ in models] for label in settings.model.labels
    }
    summaries = summarize(cases)
    scores = card_numbers(summaries)
    for name, values in by_fold.items():
        scores[name] |= {f"dice_mean_fold_{n}": value for n, value in enumerate(values, start=1) if value is not None}
    spec = settings.model.model_copy(
        update={
            "weights": tuple(f"weights-{number}.safetensors" for number in range(len(models))),
            "scores": scores,
            "training": {
                **settings.model.training,
                "cases": f"{len(cases)}, each tested by the network of the fold that had not seen it",
                "split": f"{settings.folds} folds by patient, seed {settings.seed}; scores are of all cases",
                "epochs": settings.epochs,
                "seed": settings.seed,
            },
        }
    )
    write_csv(cases, output / "test_scores.csv")
    card = write_card(spec, summaries, list(cases), by_fold)
    write_model(output / "model", spec, [weights for _, (weights,) in models], card)


def read_scores(path: Path) -> dict[str, list[StructureScores]]:
    """Scores of cases from the table that :func:`evaluate.tables.write_csv` wrote."""
    cases: dict[str, list[StructureScores]] = {}
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            numbers = {name: _number(row[name]) for name in NUMBERS}
            cases.setdefault(row["case"], []).append(StructureScores(name=row["name"], **numbers))  # type: ignore[arg-type]
    return cases


def _number(cell: str) -> int | float | None:
    if not cell:
        return None
    return int(cell) if cell.lstrip("-").isdigit() else float(cell)
