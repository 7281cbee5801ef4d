"""How data lie on disk: a folder of pairs, a table, nnU-Net's raw layout. Training walk: path -> [layouts] -> cases."""

from __future__ import annotations

import csv
import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import get_args

from ..errors import DatasetError
from ..files import LABEL_EXTENSIONS
from ..files.atomic import extension_of
from .dataset import Case, Dataset, Side, find_cases, find_label_maps, named_files, patient_of

IMAGE = "image"
NNUNET = "dataset.json"
SIDES = get_args(Side)[1:]


def find_dataset(data: Path, generated: bool = False) -> Dataset:
    """The cases of a data set, with all that is wrong with their list.

    Args:
        data: a folder with ``images`` and ``labels`` (files of equal names); a CSV table; or a folder in nnU-Net's raw
            layout (``imagesTr``, ``labelsTr``, ``dataset.json``).
        generated: it is a folder of label maps, from which images are made.

    Raises:
        DatasetError: there is no case at all, or the table has not the columns that it needs.
    """
    if generated:
        return Dataset(find_label_maps(data))
    if data.suffix.lower() == ".csv":
        return read_table(data)
    if (data / NNUNET).is_file():
        return read_nnunet(data)
    try:
        return Dataset(find_cases(data))
    except DatasetError as error:
        return Dataset(_complete_pairs(data, error), faults=(error.found,))


def read_table(path: Path) -> Dataset:
    """Cases from a CSV table, a line each; its paths are relative to its folder.

    Columns: ``image`` for one image a case, or ``image_NAME`` for each channel (``image_T1``, ``image_FLAIR``, in the
    order of the columns); ``labels``; and where wanted ``name``, ``patient`` (see :func:`dataset.find_cases` for what
    they are otherwise) and ``split`` (train, validation or test).

    Raises:
        DatasetError: unreadable, no line, or no column of images or of labels.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            columns, *lines = [[cell.strip() for cell in line] for line in csv.reader(file) if line] or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"The table '{path}' cannot be read ({error})", "a CSV file", "check the path") from None
    images = [name for name in columns if name.lower() == IMAGE or name.lower().startswith(f"{IMAGE}_")]
    if not images or "labels" not in columns or not lines:
        raise DatasetError(
            f"'{path.name}' has the columns {', '.join(columns) or 'none'} and {len(lines)} lines",
            "the columns image (or image_T1, image_T2, ...) and labels, and a line for each case",
            "correct the table",
        )
    cases: dict[str, Case] = {}
    faults = []
    for number, line in enumerate(lines, start=2):
        case, wrong = _case_of_row(dict(itertools.zip_longest(columns, line, fillvalue="")), images, path.parent)
        wrong += [f"the name {case.name} occurs twice"] if case.name in cases else []
        faults += [f"line {number}: {fault}" for fault in wrong]
        if not wrong:
            cases[case.name] = case
    channels = tuple(name[len(IMAGE) + 1 :] for name in images)
    return Dataset(tuple(cases.values()), channels if any(channels) else (), faults=tuple(faults))


def read_nnunet(folder: Path) -> Dataset:
    """Cases in nnU-Net's raw layout (version 2): ``imagesTr/NAME_0000.nii.gz`` and ``labelsTr/NAME.nii.gz``.

    Raises:
        DatasetError: ``dataset.json`` does not say channels, labels and the file ending, or has regions; no cases.
    """
    try:
        content = json.loads((folder / NNUNET).read_text(encoding="utf-8"))
        ending, channels = str(content["file_ending"]), list(map(str, content["channel_names"].values()))
        values = {int(value): str(name) for name, value in content["labels"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(
            f"'{NNUNET}' of '{folder.name}' cannot be used ({type(error).__name__}: {error})",
            "channel_names, labels with one value each, and file_ending, as nnU-Net v2 writes them",
            "correct it, or write a CSV table",
        ) from None
    faults = []
    if sorted(values) != list(range(len(values))):
        faults.append(f"dataset.json: label values {sorted(values)}, and not 0, 1, 2, ...")
    known = {part: _endings(folder / part, ending) for part in ("imagesTr", "labelsTr")}
    cases = []
    for name in sorted(known["labelsTr"]):
        wanted = [f"{name}_{channel:04d}" for channel in range(len(channels))]
        if missing := [file + ending for file in wanted if file not in known["imagesTr"]]:
            faults.append(f"{name}: there is no {', '.join(missing)}")
            continue
        image, *further = (known["imagesTr"][file] for file in wanted)
        cases.append(Case(name, patient_of(name), image, known["labelsTr"][name], tuple(further)))
    used = {path for case in cases for path in (case.image, *case.further)}
    if alone := sorted(file for file, path in known["imagesTr"].items() if path not in used):
        faults.append(f"images without labels or other channels: {', '.join(alone)}")
    if not cases:
        raise DatasetError("\n  ".join(["There are no cases", *faults]), "one or more", "check the folder")
    labels = tuple(name for value, name in sorted(values.items()) if value)
    return Dataset(tuple(cases), tuple(channels), labels, tuple(faults))


def order_channels(dataset: Dataset, wanted: tuple[str, ...]) -> tuple[Dataset, list[str]]:
    """The data with channels in the order of a model, and what is wrong with them."""
    given = [name.casefold() for name in dataset.channels]
    asked = [name.casefold() for name in wanted]
    if given == asked or len(given) < 2:
        return dataset, []
    if sorted(given) != sorted(asked):
        return dataset, [f"the channels are {', '.join(dataset.channels)}, and the model's {', '.join(wanted)}"]
    places = [given.index(name) for name in asked]
    cases = []
    for case in dataset.cases:
        images = (case.image, *case.further)
        image, *further = (images[place] for place in places)
        cases.append(replace(case, image=image, further=tuple(further)))
    return replace(dataset, cases=tuple(cases), channels=wanted), []


def _complete_pairs(folder: Path, error: DatasetError) -> tuple[Case, ...]:
    """The pairs of a folder in which some files are alone; raises the error where there are none."""
    if not all((folder / part).is_dir() for part in ("images", "labels")):
        raise error
    images, labels = named_files(folder / "images"), named_files(folder / "labels")
    names = sorted(images.keys() & labels.keys())
    if not names:
        raise error
    return tuple(Case(name, patient_of(name), images[name], labels[name]) for name in names)


def _case_of_row(row: dict[str, str], images: list[str], folder: Path) -> tuple[Case, list[str]]:
    image, *further = (folder / row[column] for column in images)
    labels = folder / row["labels"]
    name = row.get("name") or labels.name[: -len(extension_of(labels, LABEL_EXTENSIONS)) or None]
    side = row.get("split", "").lower()
    faults = [f"no {column}" for column in (*images, "labels") if not row[column]]
    paths = [path for path in (image, *further, labels) if path != folder]
    faults += [f"there is no file '{path}'" for path in paths if not path.exists()]
    if side not in ("", *SIDES):
        faults.append(f"the split is '{side}', and not {', '.join(SIDES)}")
        side = ""
    return Case(name, row.get("patient") or patient_of(name), image, labels, tuple(further), side), faults  # type: ignore[arg-type]


def _endings(folder: Path, ending: str) -> dict[str, Path]:
    """Files of a folder by their names without the ending."""
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    return {path.name[: -len(ending)]: path for path in paths if path.name.endswith(ending)}
