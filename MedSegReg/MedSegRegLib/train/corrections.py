"""Corrected segmentations. Adaptation walk: files or scene -> [corrections] -> trials -> fine_tune -> adapt."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ..errors import DatasetError
from ..files import read_labels
from ..files.model_spec import ModelSpec
from ..geometry import Geometry
from ..image import Image, Labels, Structure
from ..segment.prepare import window_around
from ..terminology import generic_structure
from .dataset import Example, make_example, read_case_image
from .layouts import find_dataset

FOLDS = 5
UNKNOWN = -1  # a label that does not count


@dataclass(frozen=True, eq=False)
class Correction:
    """An image and its segmentation, right everywhere, on the same grid.

    Attributes:
        name: for reports.
        patient: what is measured on a patient was not trained on the same patient, if there are several.
    """

    name: str
    image: Image
    labels: Labels
    patient: str = ""


@dataclass(frozen=True, eq=False)
class HeldOut:
    """A correction to measure on, or a part of one.

    Attributes:
        name: for reports.
        correction: whole, so that the network sees all of the image.
        start_ijk, size_ijk: the box of its voxels whose labels count.
    """

    name: str
    correction: Correction
    start_ijk: tuple[int, int, int]
    size_ijk: tuple[int, int, int]

    def cut(self, labels: Labels) -> Labels:
        """The part of labels on the image's grid that counts."""
        i, j, k = (slice(start, start + n) for start, n in zip(self.start_ijk, self.size_ijk, strict=True))
        window = labels.geometry.window(self.start_ijk, self.size_ijk)
        return replace(labels, tensor=labels.tensor[k, j, i], geometry=window)


@dataclass(frozen=True, eq=False)
class Trial:
    """What is trained on, and what it is measured on: nothing is in both."""

    train: tuple[Correction, ...]
    test: tuple[HeldOut, ...]


def read_corrections(data: Path) -> list[Correction]:
    """The cases of a data set, see :func:`layouts.find_dataset`.

    Raises:
        DatasetError: no cases, or an incomplete one.
        FileError, InputError: a file that cannot be read.
    """
    dataset = find_dataset(data)
    if dataset.faults:
        raise DatasetError("; ".join(dataset.faults), "complete cases", "correct or remove what is listed")
    return [
        Correction(case.name, read_case_image(case), _named(read_labels(case.labels), dataset.labels), case.patient)
        for case in dataset.cases
    ]


def crops_of(correction: Correction, spec: ModelSpec) -> list[Correction]:
    """For a model that was trained on crops, the crops of a larger image: one a side whose structures are named.

    Structures are named as the model names them in a larger image, such as ``left anterior hippocampus``. Each crop has
    the size of the model's box, around the middle of its structures. Other corrections stay as they are.
    """
    crops = []
    for prefix, box in zip(spec.region.prefixes, spec.region.boxes_ras_mm, strict=True) if spec.region else ():
        start = f"{prefix} ".casefold()
        named = [s for s in correction.labels.structures if s.name.casefold().startswith(start)]
        mask = torch.isin(correction.labels.tensor, torch.tensor([s.value for s in named]))
        if not bool(mask.any()):
            continue
        geometry = correction.labels.geometry
        voxels = mask.nonzero().flip(1).numpy()
        middle = geometry.ijk_to_ras @ (*(voxels.min(axis=0) + voxels.max(axis=0)) / 2, 1.0)
        corners = middle[:3] + np.array(list(itertools.product(*zip(*box, strict=True)))) - np.mean(box, axis=0)
        crops.append(_crop(correction, named, mask, window_around(geometry, corners), prefix))
    return crops or [correction]


def _crop(
    correction: Correction, named: Sequence[Structure], mask: torch.Tensor, window: Geometry, prefix: str
) -> Correction:
    first = np.rint(correction.labels.geometry.map_points(window.origin_ras)).astype(int)
    i, j, k = (slice(start, start + n) for start, n in zip(first, window.size_ijk, strict=True))
    structures = tuple(replace(s, name=s.name[len(prefix) + 1 :]) for s in named)
    tensor = torch.where(mask, correction.labels.tensor, 0)[k, j, i]
    return Correction(
        f"{correction.name}, {prefix}",
        replace(correction.image, tensor=correction.image.tensor[:, k, j, i].contiguous(), geometry=window),
        Labels(tensor, window, structures),
        correction.patient or correction.name,
    )


def to_model_labels(labels: Labels, spec: ModelSpec) -> Labels:
    """The values that the model gives its labels, found by the structures' names.

    A structure without a name of its own (``label 2``, as of plain files) keeps its value.

    Raises:
        DatasetError: names, with voxels, that the model does not have; all are listed.
    """
    wanted = {label.name.casefold(): label.value for label in spec.labels}
    named = {structure.value: structure.name for structure in labels.structures}
    tensor, unknown = torch.zeros_like(labels.tensor, dtype=torch.int32), []
    for value in labels.tensor.unique().tolist():
        name = named.get(value, generic_structure(value).name)
        plain = value if name == generic_structure(value).name and value <= len(spec.labels) else 0
        target = wanted.get(name.casefold(), plain)
        if value and not target:
            unknown.append(name)
        tensor[labels.tensor == value] = target if value else 0
    if unknown:
        raise DatasetError(
            f"'{spec.name}' has no structure {', '.join(unknown)}",
            f"some of {', '.join(label.name for label in spec.labels)}",
            "rename these segments, or remove them",
        )
    return replace(labels, tensor=tensor, structures=spec.structures)


def to_examples(corrections: Sequence[Correction], spec: ModelSpec) -> list[Example]:
    """The corrections on the model's grid.

    Raises:
        DatasetError, InputError: of :func:`dataset.make_example`.
    """
    return [make_example(one.name, one.image, one.labels, spec) for one in corrections]


def make_trials(corrections: Sequence[Correction]) -> tuple[list[Trial], str]:
    """How to measure on what was not trained on, and how that is said in words.

    Of several patients, each is left out once (in at most five groups); of several cases of one patient, each case. A
    single case is cut into two halves, so that each has about half of the voxels of every structure; one half is
    trained on and the other measured, and the reverse.
    """
    if len(corrections) == 1:
        return _halves(corrections[0]), "on the half of the same image that was not trained on"
    patients = {one.patient or one.name for one in corrections}
    by = "patient" if len(patients) > 1 else "case"
    keys = [(one.patient or one.name) if len(patients) > 1 else str(n) for n, one in enumerate(corrections)]
    groups = sorted(set(keys))
    folds = min(FOLDS, len(groups))
    trials = []
    for fold in range(folds):
        tested = groups[fold::folds]
        train = tuple(one for one, key in zip(corrections, keys, strict=True) if key not in tested)
        test = tuple(_whole(one) for one, key in zip(corrections, keys, strict=True) if key in tested)
        trials.append(Trial(train, test))
    return trials, f"on each {by} when it was not trained on ({folds} trials)"


def _named(labels: Labels, names: Sequence[str]) -> Labels:
    """Labels whose values 1, 2, ... have these names; as they are where there are none."""
    if not names:
        return labels
    known = dict(enumerate(names, start=1))
    return replace(labels, structures=tuple(replace(s, name=known.get(s.value, s.name)) for s in labels.structures))


def _whole(correction: Correction) -> HeldOut:
    return HeldOut(correction.name, correction, (0, 0, 0), correction.labels.geometry.size_ijk)


def _halves(correction: Correction) -> list[Trial]:
    labels, size = correction.labels.numpy(), correction.labels.geometry.size_ijk
    axis, plane = _fairest_cut(labels)
    parts = []
    for side, (start, stop) in enumerate(((0, plane), (plane, size[axis]))):
        starts, sizes = [0, 0, 0], list(size)
        starts[axis], sizes[axis] = start, stop - start
        name = f"{correction.name}, {'lower' if side == 0 else 'upper'} half along {'ijk'[axis]}"
        parts.append(HeldOut(name, correction, tuple(starts), tuple(sizes)))  # type: ignore[arg-type]
    return [Trial((_without(correction, part),), (part,)) for part in parts]


def _fairest_cut(labels: np.ndarray) -> tuple[int, int]:
    """Axis (0, 1, 2 for i, j, k) and plane for which every label [K, J, I] has most of its voxels on either side."""
    fairest = (-1.0, 0, 1)
    for axis in range(3):
        if labels.shape[2 - axis] < 2:
            continue
        others = tuple(n for n in range(3) if n != 2 - axis)
        counts = np.array([(labels == value).sum(axis=others) for value in np.unique(labels[labels > 0])])
        shares = counts.cumsum(axis=1)[:, :-1] / counts.sum(axis=1, keepdims=True)
        fairness = np.minimum(shares, 1 - shares).min(axis=0)
        plane = int(fairness.argmax())
        fairest = max(fairest, (float(fairness[plane]), axis, plane + 1), key=lambda one: one[0])
    return fairest[1], fairest[2]


def _without(correction: Correction, part: HeldOut) -> Correction:
    """The labels of a part become unknown; the image stays."""
    tensor = correction.labels.tensor.to(torch.int32, copy=True)
    i, j, k = (slice(start, start + n) for start, n in zip(part.start_ijk, part.size_ijk, strict=True))
    tensor[k, j, i] = UNKNOWN
    return replace(correction, labels=replace(correction.labels, tensor=tensor))
