"""Which cases are trained on, validated on and tested on. Training walk: cases -> [split] -> examples."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence

from ..errors import DatasetError
from .dataset import Case, Split
from .settings import TrainingSettings


def split_cases(cases: Sequence[Case], settings: TrainingSettings) -> Split:
    """The split that the data give, else one by patient; validation cases are drawn where the data name none.

    Raises:
        DatasetError: no patient is left for training.
    """
    fold = settings.fold or 0
    if not any(case.side for case in cases):
        return split_by_patient(
            cases, settings.validation, settings.test, settings.seed, folds=settings.folds, fold=fold
        )
    train, validation, test = (
        tuple(case for case in cases if case.side == side) for side in ("train", "validation", "test")
    )
    if not validation:
        drawn = split_by_patient(train, settings.validation, 0.0, settings.seed)
        train, validation = drawn.train, drawn.validation
    return Split(train, validation, test)


def split_faults(cases: Sequence[Case], settings: TrainingSettings) -> list[str]:
    """What is wrong with the split that the data give, and with cases that share a file."""
    users: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        for path in (case.image, *case.further):
            users[str(path.resolve())].append(case)
    faults = [
        f"one image of several patients: {', '.join(case.name for case in sharing)}"
        for sharing in users.values()
        if len({case.patient for case in sharing}) > 1
    ]
    if not any(case.side for case in cases):
        return faults
    if settings.folds:
        faults.append("the data give a split, and the settings ask for folds")
    if without := [case.name for case in cases if not case.side]:
        faults.append(f"on no side of the split: {', '.join(without)}")
    sides: dict[str, set[str]] = defaultdict(set)
    for case in cases:
        if case.side:
            sides[case.patient].add(case.side)
    faults += [
        f"patient {patient} is on several sides of the split: {', '.join(sorted(on))}"
        for patient, on in sides.items()
        if len(on) > 1
    ]
    if not any(case.side == "train" for case in cases):
        faults.append("the split has no training cases")
    return faults


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
