"""The whole of a training: folder of cases -> split -> network -> held-out test -> model package with its card."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from pydantic import ValidationError

from ..device import pick_device
from ..errors import DatasetError, InvalidSetting, OutputNotWritable
from ..evaluate.scores import StructureScores, StructureSummary, compare_labels, summarize
from ..evaluate.tables import write_csv
from ..files import read_image, read_labels
from ..files.atomic import atomic_path
from ..files.model_package import read_model, write_model
from ..files.model_spec import ModelSpec
from ..files.settings_file import read_settings_file
from ..geometry import Geometry
from ..image import Image, Labels
from ..progress import SILENT, Progress
from ..segment.model import load_model
from ..segment.predict import segment
from .batches import AugmentedBatches, BatchSource, SyntheticBatches, synthetic_examples
from .card import write_card
from .checkpoint import Training
from .dataset import Case, Example, Split, find_cases, find_label_maps, load_examples, split_by_patient
from .label_maps import LabelMaps, read_label_maps
from .loop import train_network
from .settings import TrainingSettings

CARD_METRICS = ("dice", "hd95_mm", "assd_mm", "nsd")
HeldOut = Iterable[tuple[str, Image, Labels]]


def read_settings(path: Path) -> TrainingSettings:
    """Settings from a JSON file.

    Raises:
        InvalidSetting: names the first entry that is wrong.
    """
    return read_settings_file(path, TrainingSettings)


def change_settings(settings: TrainingSettings, changes: Mapping[str, object]) -> TrainingSettings:
    """The settings with other values, as they are typed on the command line.

    Raises:
        InvalidSetting: they do not fit together.
    """
    try:
        return TrainingSettings.model_validate({**settings.model_dump(), **changes})
    except ValidationError as error:
        raise InvalidSetting(
            f"{', '.join(f'{name} {value}' for name, value in changes.items())}: {error.errors()[0]['msg']}",
            "values that fit the other settings",
            "change them, or the settings file",
        ) from None


def train_model(
    data: Path,
    settings: TrainingSettings,
    output: Path,
    *,
    device: str = "auto",
    stop_after_minutes: float = math.inf,
    progress: Progress = SILENT,
) -> ModelSpec | None:
    """Train, test on the held-out patients with the product's own predictor, and write the package.

    Args:
        data: folder with ``images`` and ``labels``; of label maps alone, if the settings say how images are made.
        settings: what to train and how.
        output: gets ``checkpoint.safetensors`` (a second call goes on from it), ``curve.png``, ``events/``,
            ``settings.json``, ``split.json``, ``test_scores.csv`` and the finished ``model/``.
        stop_after_minutes: the training stops then, to go on with the next call.

    Returns:
        The description of the finished model; None if the time was over before.

    Raises:
        DatasetError: all faults of all cases at once, before the first epoch; or the checkpoint in ``output`` comes
            from another split, so that test cases of now may have been training cases then.
        OutputNotWritable: the folder cannot be made.
    """
    chosen_device = pick_device(device)
    cases = find_cases(data) if settings.synthesis is None else find_label_maps(data)
    shares = settings.validation, settings.test
    split = split_by_patient(cases, *shares, settings.seed, settings.folds, settings.fold)
    _begin(split, settings, output)
    source, validation, held_out = _prepare(split, settings, progress.part(0.0, 0.05))
    training = train_network(
        source,
        validation,
        settings,
        output,
        device=chosen_device,
        stop_after_minutes=stop_after_minutes,
        progress=progress.part(0.05, 0.95),
    )
    if len(training.history.losses) < settings.epochs:
        return None
    return finish_model(split, held_out, settings, training, output, progress=progress.part(0.95, 1.0))


def _prepare(
    split: Split, settings: TrainingSettings, progress: Progress
) -> tuple[BatchSource, list[Example], HeldOut]:
    """What is trained on, what is validated on, and what the finished model is tested on."""
    held_out, first, second = split.test or split.validation, len(split.train), len(split.train) + len(split.validation)
    cases = (*split.train, *split.validation, *split.test)
    if settings.synthesis is None:
        examples = load_examples(cases, settings.model, progress)
        return AugmentedBatches(examples[:first], settings), examples[first:second], read_cases(held_out)
    paths = [case.labels for case in cases]
    maps = read_label_maps(paths, settings.synthesis.roles, settings.synthesis.map_spacing_mm, progress)
    train, validation = maps.subset(range(first)), maps.subset(range(first, second))
    unseen = maps.subset(range(second, len(cases))) if split.test else validation
    return (
        SyntheticBatches(train, settings),
        synthetic_examples(validation, settings, settings.validation_examples),
        _make_cases(unseen, settings),
    )


def read_cases(cases: Sequence[Case]) -> HeldOut:
    """Cases from their files, one after the other."""
    for case in cases:
        yield case.name, read_image(case.image), read_labels(case.labels)


def _make_cases(maps: LabelMaps, settings: TrainingSettings) -> HeldOut:
    """Twice as many generated examples as are validated on; the second half is new."""
    spec = settings.model
    geometry = Geometry.from_spacing(spec.tile_ijk, spec.spacing_mm)  # type: ignore[arg-type]
    for example in synthetic_examples(maps, settings, 2 * settings.validation_examples):
        labels = Labels(example.labels.to(torch.int32), geometry, spec.structures, example.name)
        yield example.name, Image(example.image, geometry, example.name), labels


def finish_model(
    split: Split,
    held_out: HeldOut,
    settings: TrainingSettings,
    training: Training,
    output: Path,
    *,
    progress: Progress = SILENT,
) -> ModelSpec:
    """Test the package as a user would run it, then write it with the scores in its description and card."""
    best, history = training.best, training.history
    with tempfile.TemporaryDirectory(dir=output) as untested:
        write_model(Path(untested), settings.model, [best], "")
        cases = score_cases(untested, held_out, progress)
    folder, side = output / "model", "test" if split.test else "validation"
    fold = f", fold {settings.fold + 1} of {settings.folds}" if settings.folds else ""
    summaries = summarize(cases)
    write_csv(cases, output / "test_scores.csv")
    spec = settings.model.model_copy(
        update={
            "scores": {s.name: _numbers(s) for s in summaries},
            "training": {
                **settings.model.training,
                "cases": f"{len(split.train)} training, {len(split.validation)} validation, {len(split.test)} test",
                "split": f"by patient, seed {settings.seed}{fold}; scores are of the {side} cases",
                "epochs": len(history.losses),
                "best_epoch": history.best_epoch + 1,
                "seed": settings.seed,
            },
        }
    )
    write_model(folder, spec, [best], write_card(spec, summaries, list(cases)))
    return read_model(folder)[0]


def score_cases(model: Path | str, held_out: HeldOut, progress: Progress = SILENT) -> dict[str, list[StructureScores]]:
    """Segment each image and compare with its labels: name -> scores."""
    loaded = load_model(model)
    scores = {}
    for name, image, labels in held_out:
        progress.update(0.5, f"testing {name}")
        scores[name] = compare_labels(labels, segment(image, loaded).labels, loaded.spec.structures)
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
