"""The whole of a training: folder of pairs -> split -> network -> held-out test -> model package with its card."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from ..device import pick_device
from ..errors import DatasetError, OutputNotWritable
from ..evaluate.scores import StructureScores, StructureSummary, compare_labels, summarize
from ..evaluate.tables import write_csv
from ..files import read_image, read_labels
from ..files.atomic import atomic_path
from ..files.model_package import ModelSpec, read_model, write_model
from ..files.settings_file import read_settings_file
from ..progress import SILENT, Progress
from ..segment.model import load_model
from ..segment.predict import segment
from .card import write_card
from .checkpoint import History
from .dataset import Case, Split, find_cases, load_examples, split_by_patient
from .loop import train_network
from .settings import TrainingSettings

CARD_METRICS = ("dice", "hd95_mm", "assd_mm", "nsd")


def read_settings(path: Path) -> TrainingSettings:
    """Settings from a JSON file.

    Raises:
        InvalidSetting: names the first entry that is wrong.
    """
    return read_settings_file(path, TrainingSettings)


def train_model(
    data: Path, settings: TrainingSettings, output: Path, *, device: str = "auto", progress: Progress = SILENT
) -> ModelSpec:
    """Train, test on the held-out patients with the product's own predictor, and write the package.

    Args:
        data: folder with ``images`` and ``labels``.
        settings: what to train and how.
        output: gets ``checkpoint.safetensors`` (a second call goes on from it), ``curve.png``, ``events/``,
            ``settings.json``, ``split.json``, ``test_scores.csv`` and the finished ``model/``.

    Raises:
        DatasetError: all faults of all cases at once, before the first epoch; or the checkpoint in ``output`` comes
            from another split, so that test cases of now may have been training cases then.
        OutputNotWritable: the folder cannot be made.
    """
    chosen_device = pick_device(device)
    split = split_by_patient(find_cases(data), settings.validation, settings.test, settings.seed)
    _begin(split, settings, output)
    examples = load_examples((*split.train, *split.validation, *split.test), settings.model, progress.part(0.0, 0.05))
    first, second = len(split.train), len(split.train) + len(split.validation)
    best, history = train_network(
        examples[:first],
        examples[first:second],
        settings,
        output,
        device=chosen_device,
        progress=progress.part(0.05, 0.95),
    )
    return finish_model(split, settings, best, history, output, progress=progress.part(0.95, 1.0))


def finish_model(
    split: Split,
    settings: TrainingSettings,
    best: dict[str, torch.Tensor],
    history: History,
    output: Path,
    *,
    progress: Progress = SILENT,
) -> ModelSpec:
    """Test the package as a user would run it, then write it with the scores in its description and card."""
    with tempfile.TemporaryDirectory(dir=output) as untested:
        write_model(Path(untested), settings.model, best, "")
        cases = score_cases(untested, split.test or split.validation, progress)
    folder, held_out = output / "model", "test" if split.test else "validation"
    summaries = summarize(cases)
    write_csv(cases, output / "test_scores.csv")
    spec = settings.model.model_copy(
        update={
            "scores": {s.name: _numbers(s) for s in summaries},
            "training": {
                **settings.model.training,
                "cases": f"{len(split.train)} training, {len(split.validation)} validation, {len(split.test)} test",
                "split": f"by patient, seed {settings.seed}; scores are of the {held_out} cases",
                "epochs": len(history.losses),
                "best_epoch": history.best_epoch + 1,
                "seed": settings.seed,
            },
        }
    )
    write_model(folder, spec, best, write_card(spec, summaries, list(cases)))
    return read_model(folder)[0]


def score_cases(
    model: Path | str, cases: Sequence[Case], progress: Progress = SILENT
) -> dict[str, list[StructureScores]]:
    """Segment each case from its file and compare with its labels: name -> scores."""
    loaded = load_model(model)
    scores = {}
    for number, case in enumerate(cases):
        progress.update(number / max(1, len(cases)), f"testing {case.name}")
        found = segment(read_image(case.image), loaded).labels
        scores[case.name] = compare_labels(read_labels(case.labels), found, loaded.spec.structures)
    return scores


def _numbers(summary: StructureSummary) -> dict[str, float]:
    """Mean and worst value of the card's metrics, none for a structure that is in no case."""
    numbers = {"cases": float(summary.cases), "missed": float(summary.missed)}
    for name in CARD_METRICS if summary.cases else ():
        metric = summary.metrics[name]
        numbers |= {f"{name}_mean": round(metric.mean, 4), f"{name}_worst": round(metric.worst, 4)}
    return numbers


def _begin(split: Split, settings: TrainingSettings, output: Path) -> None:
    """Make the folder, and write down what is trained and on which cases."""
    groups = {name: [case.name for case in getattr(split, name)] for name in ("train", "validation", "test")}
    written = output / "split.json"
    if (output / "checkpoint.safetensors").exists() and written.exists() and json.loads(written.read_text()) != groups:
        raise DatasetError(
            f"The training in '{output.name}' was begun with another split of the cases",
            "the same cases, shares and seed",
            "use a new output folder",
        )
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputNotWritable(
            f"The folder '{output}' cannot be made ({error.strerror})",
            "a writable folder",
            "choose another output folder",
        ) from None
    texts = {written: json.dumps(groups, indent=1), output / "settings.json": settings.model_dump_json(indent=1)}
    for path, text in texts.items():
        with atomic_path(path) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")
