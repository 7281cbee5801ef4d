"""Task ``evaluate``. Jobs walk: worker -> [evaluating] -> scores."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import torch

from ...errors import InvalidSetting
from ...evaluate.scores import compare_labels
from ...image import Labels
from ..values import JobResult
from ..work import Work


def evaluate(work: Work, *, tolerance_mm: float = 1.0, match: str = "name") -> JobResult:
    """See :mod:`MedSegRegLib.jobs`."""
    if match not in ("name", "value"):
        raise InvalidSetting(f"Structures are matched by '{match}'", "name or value", "choose one of them")
    truth, prediction = work.labels("truth"), work.labels("prediction")
    if match == "name":
        prediction = renumbered_by_name(prediction, truth)
    scores = compare_labels(truth, prediction, tolerance_mm=tolerance_mm, progress=work.progress)
    return JobResult({"scores": [asdict(score) for score in scores]}, {})


def renumbered_by_name(labels: Labels, like: Labels) -> Labels:
    """Labels with the values that structures of the same names (in any case) have in others; new ones for the rest."""
    wanted = {structure.name.casefold(): structure.value for structure in like.structures}
    taken = [*wanted.values(), *np.unique(like.numpy()).tolist()]
    named = {structure.value: structure.name for structure in labels.structures}
    present = {*named, *(value for value in np.unique(labels.numpy()).tolist() if value > 0)}
    free = max(taken, default=0) + 1
    values = {0: 0}
    for value in sorted(present):
        name = named.get(value, f"label {value}").casefold()
        values[value] = wanted.pop(name, free)
        free += values[value] == free
    table = torch.zeros(max(values) + 1, dtype=torch.int32)
    table[list(values)] = torch.tensor(list(values.values()), dtype=torch.int32)
    structures = tuple(replace(s, value=values[s.value]) for s in labels.structures)
    return replace(labels, tensor=table[labels.tensor.long()], structures=structures)
