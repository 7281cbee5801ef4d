"""The whole of a training: folder of cases -> split -> network -> held-out test -> model package with its card."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from pydantic import ValidationError

from ..errors import DatasetError, InvalidSetting, OutputNotWritable
from ..evaluate.scores import StructureScores, compare_labels, summarize
from ..evaluate.tables import write_csv
from ..files import read_labels
from ..files.atomic import atomic_path
from ..files.model_package import read_model, write_model
from ..files.model_spec import ModelSpec
from ..files.settings_file import read_settings_file
from ..geometry import Geometry
from ..image import Image, Labels
from ..progress import SILENT, Progress
from ..segment.model import load_model
from ..segment.predict import segment
from ..segment.prepare import grid_of
from .batches import AugmentedBatches, BatchSource, SyntheticBatches, synthetic_examples
from .card import card_numbers, write_card
from .checkpoint import Training, Weights
from .dataset import Case, Example, Split, load_examples, read_case_image
from .folds import train_folds
from .label_maps import LabelMaps, read_label_maps
from .layouts import find_dataset, order_channels
from .loop import is_over, train_network
from .settings import TrainingSettings
from .split import split_cases, split_faults
from .transfer import transfer
from .workers import Workers, join_workers

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
    parent: str | Path | None = None,
    stop_after_minutes: float = math.inf,
    progress: Progress = SILENT,
) -> ModelSpec | None:
    """Train, test on the held-out patients with the product's own predictor, and write the package.

    Started by ``torchrun``, the processes share each batch; the result is that of one process.

    Args:
        data: see :func:`layouts.find_dataset`; of label maps alone, if the settings say how images are made.
        settings: what to train and how; with ``folds`` and no ``fold``, all of them and their ensemble.
        output: gets ``checkpoint.safetensors`` (a second call goes on from it), ``curve.png``, ``events/``,
            ``settings.json``, ``split.json``, ``test_scores.csv`` and the finished ``model/``; of all folds
            ``fold-0/`` and so on, ``test_scores.csv`` and ``model/``.
        parent: name or folder of the model that ``settings.start`` names, where it is not installed under that name.
        stop_after_minutes: the training stops then, to go on with the next call.

    Returns:
        The description of the finished model; None if the time was over before.

    Raises:
        DatasetError: all faults of the data and of all cases at once, before the first epoch; or the checkpoint in
            ``output`` comes from another split, so that test cases of now may have been training cases then.
        UnknownModel, ModelMismatch: the model to start from is not there, or has other weights.
        OutputNotWritable: the folder cannot be made.
        WorkerLost: another process has ended.
    """
    initial = transfer(settings, parent).weights if settings.start else {}
    with join_workers(device) as (workers, chosen):
        train = partial(_train_split, data, initial=initial, workers=workers, device=chosen)
        if settings.folds and settings.fold is None:
            return train_folds(train, settings, output, stop_after_minutes, progress, workers)
        return train(settings, output, stop_after_minutes, progress)


def _train_split(
    data: Path,
    settings: TrainingSettings,
    output: Path,
    stop_after_minutes: float,
    progress: Progress,
    *,
    initial: Weights,
    workers: Workers,
    device: torch.device,
) -> ModelSpec | None:
    """Train on one split and test the model."""
    split = _find_split(data, settings, progress.part(0.0, 0.05))
    if workers.is_first:
        _begin(split, settings, output)
    if workers.decide(_is_finished(output)):
        return read_model(output / "model")[0]
    source, validation, held_out = _prepare(split, settings, progress.part(0.0, 0.05))
    training = train_network(
        source,
        validation,
        settings,
        output,
        device=device,
        initial=initial,
        workers=workers,
        stop_after_minutes=stop_after_minutes,
        progress=progress.part(0.05, 0.95),
    )
    if not is_over(training.history, settings):
        return None
    if workers.is_first:
        finish_model(split, held_out, settings, training, output, progress=progress.part(0.95, 1.0))
    workers.decide(True)  # the model is written
    return read_model(output / "model")[0]


def _find_split(data: Path, settings: TrainingSettings, progress: Progress) -> Split:
    """The cases on their sides; where the data as a whole have faults, these are listed with those of all cases."""
    dataset, faults = order_channels(
        find_dataset(data, settings.synthesis is not None), tuple(channel.name for channel in settings.model.channels)
    )
    faults = [*dataset.faults, *faults, *split_faults(dataset.cases, settings)]
    if faults:
        load_examples(dataset.cases, settings.model, progress, known=faults)
    return split_cases(dataset.cases, settings)


def _prepare(
    split: Split, settings: TrainingSettings, progress: Progress
) -> tuple[BatchSource, list[Example], HeldOut]:
    """What is trained on, what is validated on, and what the finished model is tested on."""
    held_out, first, second = split.test or split.validation, len(split.train), len(split.train) + len(split.validation)
    cases = (*split.train, *split.validation, *split.test)
    if settings.synthesis is None:
        examples = load_examples(cases, settings.model, progress, trained=first)
        return AugmentedBatches(examples[:first], settings), examples[first:second], read_cases(held_out)
    paths = [case.labels for case in cases]
    centre = settings.model.standard.centre_ras_mm if settings.model.standard else None
    maps = read_label_maps(paths, settings.synthesis.roles, settings.synthesis.map_spacing_mm, progress, centre)
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
        yield case.name, read_case_image(case), read_labels(case.labels)


def _make_cases(maps: LabelMaps, settings: TrainingSettings) -> HeldOut:
    """Twice as many generated examples as are validated on; the second half is new."""
    spec = settings.model
    geometry = grid_of(Geometry.from_spacing(spec.tile_ijk, spec.spacing_mm), spec)  # type: ignore[arg-type]
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
    fold = f", fold {settings.fold + 1} of {settings.folds}" if settings.fold is not None else ""
    summaries = summarize(cases)
    write_csv(cases, output / "test_scores.csv")
    spec = settings.model.model_copy(
        update={
            "scores": card_numbers(summaries),
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


def _is_finished(output: Path) -> bool:
    """Whether the model of the present settings is written."""
    model, settings = output / "model" / "model.json", output / "settings.json"
    return model.exists() and model.stat().st_mtime_ns > settings.stat().st_mtime_ns


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
        if not path.exists() or path.read_text(encoding="utf-8") != text + "\n":
            with atomic_path(path) as temporary:
                temporary.write_text(text + "\n", encoding="utf-8")
