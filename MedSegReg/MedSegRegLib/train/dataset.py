"""Training data: pairs of images and labels, their faults, and the split by patient."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ..check_image import Need, check_image
from ..errors import DatasetError, MedSegRegError
from ..files import LABEL_EXTENSIONS, read_image, read_labels
from ..files.atomic import extension_of
from ..files.model_spec import ModelSpec
from ..progress import SILENT, Progress
from ..resample import resample_labels
from ..segment.prepare import prepare


@dataclass(frozen=True)
class Case:
    """A label map and its image; ``patient`` decides its side of a split.

    Where images are made from label maps, ``image`` is the label map too.
    """

    name: str
    patient: str
    image: Path
    labels: Path


@dataclass(frozen=True)
class Split:
    """Three groups of cases that share no patient."""

    train: tuple[Case, ...]
    validation: tuple[Case, ...]
    test: tuple[Case, ...]


@dataclass(frozen=True, eq=False)
class Example:
    """A case on the model's grid: image [C, K, J, I] float32, labels [K, J, I] int64."""

    name: str
    image: torch.Tensor
    labels: torch.Tensor


def find_cases(folder: Path) -> tuple[Case, ...]:
    """Pairs of the same file name in ``folder/images`` and ``folder/labels``.

    The patient is the part of the name before an underscore followed by ``ses``, ``visit`` or ``scan`` (any case), else
    the whole name: visits of one patient stay together.

    Raises:
        DatasetError: folders missing, or files without a partner; all are listed.
    """
    pairs = pair_files(folder / "images", folder / "labels")
    return tuple(Case(name, _patient(name), image, labels) for name, image, labels in pairs)


def find_label_maps(folder: Path) -> tuple[Case, ...]:
    """The label maps in a folder, without images; patients as in :func:`find_cases`.

    Raises:
        DatasetError: folder missing, empty, or two files of one name.
    """
    files = _named_files(folder)
    if not files:
        raise DatasetError(f"There are no label maps in '{folder.name}'", "one or more", "check the path")
    return tuple(Case(name, _patient(name), path, path) for name, path in sorted(files.items()))


def pair_files(first: Path, second: Path) -> list[tuple[str, Path, Path]]:
    """Two files, or the files of equal names in two folders: (name, first, second), sorted by name.

    Raises:
        DatasetError: folder missing, two files of one name, or files without a partner; all are listed.
    """
    if first.is_file():
        if not second.is_file():
            raise DatasetError(f"'{first}' is a file, '{second}' is not", "two files or two folders", "check the paths")
        return [(first.name, first, second)]
    ones, others = _named_files(first), _named_files(second)
    alone = sorted(ones.keys() ^ others.keys())
    if alone or not ones:
        raise DatasetError(
            f"{len(ones)} files in '{first.name}' and {len(others)} in '{second.name}', "
            f"without partner: {', '.join(alone) or 'none'}",
            "a file of the same name in both folders",
            "add or remove the listed files",
        )
    return [(name, ones[name], others[name]) for name in sorted(ones)]


def split_by_patient(
    cases: Sequence[Case], validation: float, test: float, seed: int, folds: int = 0, fold: int = 0
) -> Split:
    """Shuffle the patients with a seed and cut: the ``test`` share, then the ``validation`` share, then the rest.

    Args:
        validation, test: shares of the patients.
        folds: number of folds of a cross-validation; then the test patients are those of fold number ``fold``, and
            every patient is in exactly one fold.

    Raises:
        DatasetError: no patient is left for training.
    """
    patients = sorted({case.patient for case in cases})
    random.Random(seed).shuffle(patients)
    tests = patients[fold::folds] if folds else patients[: round(test * len(patients))]
    others = [patient for patient in patients if patient not in tests]
    validations = others[: max(1, round(validation * len(patients)))]
    trains = others[len(validations) :]
    if not trains:
        raise DatasetError(
            f"{len(patients)} patients leave none for training",
            "at least three patients",
            "add cases, or lower the validation and test shares",
        )
    return Split(*(tuple(c for c in cases if c.patient in chosen) for chosen in (trains, validations, tests)))


def load_examples(cases: Sequence[Case], spec: ModelSpec, progress: Progress = SILENT) -> list[Example]:
    """Read, check and preprocess all cases.

    Raises:
        DatasetError: lists the faults of all cases at once (unreadable, geometry mismatch, unknown label values).
    """
    examples, faults = [], []
    for number, case in enumerate(cases):
        progress.update(number / len(cases), f"reading {case.name}")
        try:
            examples.append(load_example(case, spec))
        except MedSegRegError as error:
            faults.append(f"{case.name}: {error}")
    if faults:
        raise DatasetError(
            f"{len(faults)} of {len(cases)} cases have faults:\n  " + "\n  ".join(faults) + "\n",
            "readable pairs on one grid",
            "correct or remove these cases",
        )
    return examples


def require_labels(examples: Sequence[Example], spec: ModelSpec) -> None:
    """Refuse with DatasetError to train on no examples, or for a label that none of them has."""
    if not examples:
        raise DatasetError("There are no training cases", "at least one", "add cases")
    values = {value for example in examples for value in example.labels.unique().tolist()}
    if missing := [label.name for label in spec.labels if label.value not in values]:
        raise DatasetError(
            f"In no training case: {', '.join(missing)}",
            "every label of the model in one or more",
            "add cases, or leave these labels out of the model and renumber the others",
        )


def load_example(case: Case, spec: ModelSpec) -> Example:
    """One case on the model's grid."""
    image, _ = check_image(read_image(case.image), Need("segment", channels=len(spec.channels)))
    labels = read_labels(case.labels)
    if not labels.geometry.same_grid(image.geometry):
        raise DatasetError(
            f"Image grid {image.geometry.size_ijk}, label grid {labels.geometry.size_ijk}",
            "the same voxels at the same places",
            "resample the labels onto the image",
        )
    unknown = sorted(set(labels.tensor.unique().tolist()) - set(range(spec.classes)))
    if unknown:
        raise DatasetError(
            f"Label values {unknown}", f"0 to {spec.classes - 1}", "add them to the model's labels or remove them"
        )
    prepared = prepare(image, spec)
    target = resample_labels(labels, prepared.geometry)
    return Example(case.name, prepared.tensor, target.tensor.long())


def _named_files(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise DatasetError(
            f"There is no folder '{folder}'", "an existing folder of images or label maps", "check the path"
        )
    files: dict[str, Path] = {}
    twice = []
    for path in sorted(folder.iterdir()):
        extension = extension_of(path, LABEL_EXTENSIONS)
        if extension and not path.name.startswith("."):
            name = path.name[: -len(extension)]
            twice += [f"{files[name].name} and {path.name}"] if name in files else []
            files[name] = path
    if twice:
        raise DatasetError(
            f"Files of one name in '{folder.name}': {', '.join(twice)}",
            "one file a case",
            "remove or rename one of each",
        )
    return files


def _patient(name: str) -> str:
    parts = name.split("_")
    for number, part in enumerate(parts[1:], start=1):
        if part.lower().startswith(("ses", "visit", "scan")):
            return "_".join(parts[:number])
    return name
