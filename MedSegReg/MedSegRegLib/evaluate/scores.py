"""Truth and prediction -> scores a structure, and scores of many cases -> a summary. Evaluation, third stop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from scipy.ndimage import find_objects

from ..errors import GeometryMismatch, InvalidSetting
from ..geometry import Geometry
from ..image import Labels, Structure
from ..progress import SILENT, Progress
from .metrics import METRICS, Metric, StructureScores
from .overlap import count_overlaps, number_labels
from .surface import measure_surfaces

RESAMPLES = 2000


@dataclass(frozen=True)
class MetricSummary:
    """One metric of one structure over cases.

    Attributes:
        mean, median: over the cases where the metric applies.
        low, high: 95 % percentile bootstrap interval of the mean over cases; None for fewer than two cases.
        worst, worst_case: the value farthest from the best, and whose it is.
    """

    mean: float
    median: float
    low: float | None
    high: float | None
    worst: float
    worst_case: str


@dataclass(frozen=True)
class StructureSummary:
    """One structure over cases.

    Attributes:
        cases: where the structure is in the truth or the prediction: those that the means are over.
        absent: cases where it is in neither, left out of the means.
        missed, invented: cases where it is only in the truth, only in the prediction; in the means as worst values.
        metrics: by the names in :data:`METRICS`; one that applies to no case is left out.
    """

    name: str
    value: int
    cases: int
    absent: int
    missed: int
    invented: int
    metrics: dict[str, MetricSummary]


def compare_labels(
    truth: Labels,
    prediction: Labels,
    structures: Sequence[Structure] | None = None,
    tolerance_mm: float = 1.0,
    progress: Progress = SILENT,
) -> list[StructureScores]:
    """Score a prediction against the truth, structure by structure.

    Args:
        truth, prediction: on the same grid; structures are matched by value.
        structures: what to score; None: all that either map names or holds (the truth's name wins).
        tolerance_mm: distance up to which the surfaces count as equal in the normalised surface Dice.

    Returns:
        One StructureScores a structure, by ascending value.

    Raises:
        GeometryMismatch: the grids differ.
        InvalidSetting: the tolerance is negative or not finite.
    """
    _require_same_grid(truth.geometry, prediction.geometry)
    if not (np.isfinite(tolerance_mm) and tolerance_mm >= 0):
        raise InvalidSetting(f"The tolerance is {tolerance_mm} mm", "0 mm or more", "give a tolerance such as 1.0")
    names = _structure_names(truth, prediction) if structures is None else {s.value: s.name for s in structures}
    values = np.array(sorted(names), np.int64)
    if not len(values):
        return []
    reference, found = number_labels(truth.numpy(), values), number_labels(prediction.numpy(), values)
    overlaps = count_overlaps(reference, found, len(values), truth.geometry.voxel_volume_mm3)
    boxes = zip(find_objects(reference, len(values)), find_objects(found, len(values)), strict=True)
    axes_mm = truth.geometry.ijk_to_ras[:3, :3]
    scores = []
    for n, (value, overlap, (box, other)) in enumerate(zip(values.tolist(), overlaps, boxes, strict=True)):
        progress.update(n / len(values), f"Scoring {names[value]}")
        nsd, hd95_mm, assd_mm = None, None, None
        if overlap.outcome == "scored":
            crop = tuple(slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(box, other, strict=True))
            surfaces = measure_surfaces(reference[crop] == n + 1, found[crop] == n + 1, axes_mm)
            nsd, hd95_mm, assd_mm = surfaces.nsd(tolerance_mm), surfaces.hd95_mm, surfaces.assd_mm
        elif overlap.outcome != "absent":
            nsd, hd95_mm, assd_mm = 0.0, diagonal_mm(truth.geometry), diagonal_mm(truth.geometry)
        scores.append(
            StructureScores(
                **asdict(overlap),
                name=names[value],
                value=value,
                tolerance_mm=tolerance_mm,
                nsd=nsd,
                hd95_mm=hd95_mm,
                assd_mm=assd_mm,
            )
        )
    progress.update(1.0)
    return scores


def diagonal_mm(geometry: Geometry) -> float:
    """The longest distance between two corners of the field of view."""
    corners = geometry.corners_ras()
    return float(np.linalg.norm(corners[:, None] - corners, axis=-1).max())


def summarize(cases: Mapping[str, Sequence[StructureScores]], seed: int = 0) -> list[StructureSummary]:
    """Put the scores of many cases together: scored a case first, then averaged, so that each case weighs the same.

    Args:
        cases: case name -> its scores. Structures belong together when value and name are equal.
        seed: of the bootstrap; the same seed and cases give the same interval.

    Returns:
        One StructureSummary a structure, by ascending value.
    """
    rows: dict[tuple[int, str], dict[str, StructureScores]] = {}
    for case, scores in cases.items():
        for score in scores:
            rows.setdefault((score.value, score.name), {})[case] = score
    return [_summarize_structure(name, value, by_case, seed) for (value, name), by_case in sorted(rows.items())]


def _summarize_structure(name: str, value: int, by_case: dict[str, StructureScores], seed: int) -> StructureSummary:
    outcomes = [score.outcome for score in by_case.values()]
    metrics = {}
    for metric in METRICS:
        found = {case: getattr(s, metric.name) for case, s in by_case.items() if s.outcome != "absent"}
        found = {case: number for case, number in found.items() if number is not None}
        if found:
            metrics[metric.name] = _summarize_metric(metric, found, seed)
    absent = outcomes.count("absent")
    return StructureSummary(
        name, value, len(outcomes) - absent, absent, outcomes.count("missed"), outcomes.count("invented"), metrics
    )


def _summarize_metric(metric: Metric, by_case: dict[str, float], seed: int) -> MetricSummary:
    numbers = np.array(list(by_case.values()))
    badness = {"high": -numbers, "low": numbers, "zero": np.abs(numbers)}[metric.best]
    worst = int(badness.argmax())
    low, high = None, None
    if len(numbers) > 1:
        means = np.random.default_rng(seed).choice(numbers, (RESAMPLES, len(numbers))).mean(axis=1)
        low, high = (float(bound) for bound in np.percentile(means, (2.5, 97.5)))
    return MetricSummary(
        float(numbers.mean()), float(np.median(numbers)), low, high, float(numbers[worst]), list(by_case)[worst]
    )


def _require_same_grid(truth: Geometry, prediction: Geometry) -> None:
    if not truth.same_grid(prediction):
        raise GeometryMismatch(
            f"The prediction has {_describe(prediction)}",
            f"the truth's grid: {_describe(truth)}",
            "resample the prediction onto the truth's grid",
        )


def _describe(geometry: Geometry) -> str:
    size, spacing = (" x ".join(f"{n:.4g}" for n in numbers) for numbers in (geometry.size_ijk, geometry.spacing_mm))
    return f"{size} voxels of {spacing} mm from {geometry.origin_ras.round(2).tolist()} (RAS)"


def _structure_names(truth: Labels, prediction: Labels) -> dict[int, str]:
    present = np.union1d(np.unique(truth.numpy()), np.unique(prediction.numpy())).tolist()
    named = {s.value: s.name for labels in (prediction, truth) for s in labels.structures}
    return {**{value: f"label {value}" for value in present if value > 0}, **named}
