"""Cases: images with labels, and what is wrong with them. Training walk: layouts -> split -> [dataset] -> batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from ..check_image import check_image
from ..errors import DatasetError, InputError, MedSegRegError
from ..files import LABEL_EXTENSIONS, read_image, read_labels
from ..files.atomic import extension_of
from ..files.model_spec import ModelSpec
from ..files.pictures import PICTURE_FORMATS
from ..image import Image, Labels
from ..progress import SILENT, Progress
from ..resample import resample_labels
from ..segment.predict import need_of
from ..segment.prepare import prepare

Side = Literal["", "train", "validation", "test"]


@dataclass(frozen=True)
class Case:
    """A label map and its image.

    Attributes:
        patient: decides the side of a split.
        image: of the first channel, or of all; the label map too, where images are made from label maps.
        further: images of the other channels, on the same grid.
        side: of the split that the data give; empty where they give none.
    """

    name: str
    patient: str
    image: Path
    labels: Path
    further: tuple[Path, ...] = ()
    side: Side = ""


@dataclass(frozen=True)
class Dataset:
    """Cases as they were found, nothing of them read yet.

    Attributes:
        channels: names of the images of each case, where the data name them.
        labels: names of the label values 1, 2, ..., where the data name them.
        faults: what is wrong already.
    """

    cases: tuple[Case, ...]
    channels: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()


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
    return tuple(Case(name, patient_of(name), image, labels) for name, image, labels in pairs)


def find_label_maps(folder: Path) -> tuple[Case, ...]:
    """The label maps in a folder, without images; patients as in :func:`find_cases`.

    Raises:
        DatasetError: folder missing, empty, or two files of one name.
    """
    files = named_files(folder)
    if not files:
        raise DatasetError(f"There are no label maps in '{folder.name}'", "one or more", "check the path")
    return tuple(Case(name, patient_of(name), path, path) for name, path in sorted(files.items()))


def pair_files(first: Path, second: Path) -> list[tuple[str, Path, Path]]:
    """Two files, or the files of equal names in two folders: (name, first, second), sorted by name.

    Raises:
        DatasetError: folder missing, two files of one name, or files without a partner; all are listed.
    """
    if first.is_file():
        if not second.is_file():
            raise DatasetError(f"'{first}' is a file, '{second}' is not", "two files or two folders", "check the paths")
        return [(first.name, first, second)]
    ones, others = named_files(first), named_files(second)
    alone = sorted(ones.keys() ^ others.keys())
    if alone or not ones:
        raise DatasetError(
            f"{len(ones)} files in '{first.name}' and {len(others)} in '{second.name}', "
            f"without partner: {', '.join(alone) or 'none'}",
            "a file of the same name in both folders",
            "add or remove the listed files",
        )
    return [(name, ones[name], others[name]) for name in sorted(ones)]


def load_examples(
    cases: Sequence[Case],
    spec: ModelSpec,
    progress: Progress = SILENT,
    *,
    trained: int = 0,
    known: Sequence[str] = (),
) -> list[Example]:
    """Read, check and preprocess all cases.

    Args:
        trained: so many of the first cases are trained on, and must show every label together.
        known: faults of the data that were found before.

    Raises:
        DatasetError: lists the faults of all cases at once (unreadable, geometry mismatch, unknown label values, a
            label that is in no training case).
    """
    examples, faults, seen, bad = [], list(known), set(), 0
    for number, case in enumerate(cases):
        progress.update(number / len(cases), f"reading {case.name}")
        try:
            examples.append(load_example(case, spec))
            seen |= set(examples[-1].labels.unique().tolist()) if number < trained else set()
        except MedSegRegError as error:
            bad += 1
            faults.append(f"{case.name}: {error}")
    if trained and (absent := [label.name for label in spec.labels if label.value not in seen]):
        faults.append(f"in no training case: {', '.join(absent)}")
    if faults:
        whole = f", and the data {len(faults) - bad} of the whole" if len(faults) > bad else ""
        raise DatasetError(
            "\n  ".join([f"{bad} of {len(cases)} cases have faults{whole}:", *faults, ""]),
            "readable pairs on one grid, every label of the model in one or more, and no patient on two sides",
            "correct or remove what is listed",
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
    return make_example(case.name, read_case_image(case), read_labels(case.labels), spec)


def read_case_image(case: Case) -> Image:
    """The image of a case, with all its channels.

    Raises:
        DatasetError: channels that lie on different grids.
    """
    images = [read_image(path) for path in (case.image, *case.further)]
    if others := [image.name for image in images if not image.geometry.same_grid(images[0].geometry)]:
        raise DatasetError(
            f"On another grid than {images[0].name}: {', '.join(others)}",
            "all channels with the same voxels at the same places",
            "resample them onto the first one",
        )
    return replace(images[0], tensor=torch.cat([image.tensor for image in images])) if case.further else images[0]


def make_example(name: str, image: Image, labels: Labels, spec: ModelSpec) -> Example:
    """An image and its labels on the model's grid; labels of -1 are kept, and do not count in the loss.

    Raises:
        DatasetError: not on one grid, or label values that the model does not have.
        InputError: an image that the model cannot take.
    """
    faults: list[MedSegRegError] = []
    try:
        image, _ = check_image(image, need_of(spec))
    except InputError as error:
        faults.append(error)
    if not labels.geometry.same_grid(image.geometry):
        faults.append(
            DatasetError(
                f"Image grid {image.geometry.size_ijk}, label grid {labels.geometry.size_ijk}",
                "the same voxels at the same places",
                "resample the labels onto the image",
            )
        )
    unknown = sorted(set(labels.tensor.unique().tolist()) - set(range(-1, len(spec.labels) + 1)))
    if unknown:
        faults.append(
            DatasetError(
                f"Label values {unknown}", f"0 to {len(spec.labels)}", "add them to the model's labels or remove them"
            )
        )
    if faults:
        raise faults[0] if len(faults) == 1 else DatasetError(" ".join(map(str, faults)))
    prepared = prepare(image, spec)
    target = resample_labels(labels, prepared.geometry)
    return Example(name, prepared.tensor, target.tensor.long())


def named_files(folder: Path) -> dict[str, Path]:
    """Images or label maps in a folder by their names without extension.

    Raises:
        DatasetError: folder missing, or two files of one name.
    """
    if not folder.is_dir():
        raise DatasetError(
            f"There is no folder '{folder}'", "an existing folder of images or label maps", "check the path"
        )
    files: dict[str, Path] = {}
    twice = []
    for path in sorted(folder.iterdir()):
        extension = extension_of(path, (*LABEL_EXTENSIONS, *PICTURE_FORMATS))
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


def patient_of(name: str) -> str:
    """The patient that a file name tells, see :func:`find_cases`."""
    parts = name.split("_")
    for number, part in enumerate(parts[1:], start=1):
        if part.lower().startswith(("ses", "visit", "scan")):
            return "_".join(parts[:number])
    return name
