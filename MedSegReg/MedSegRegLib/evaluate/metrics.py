"""What is measured of a structure: names and directions of the numbers, and the numbers. Evaluation, between the stops.

Imports nothing heavy: tables in Slicer's window are made of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .overlap import Overlap


@dataclass(frozen=True)
class Metric:
    """A number in the tables: attribute of :class:`StructureScores`, what people call it, and what is best."""

    name: str
    title: str
    best: Literal["high", "low", "zero"]
    decimals: int = 3


METRICS = (
    Metric("dice", "Dice", "high"),
    Metric("iou", "IoU", "high"),
    Metric("nsd", "NSD", "high"),
    Metric("hd95_mm", "HD95 (mm)", "low", 2),
    Metric("assd_mm", "ASSD (mm)", "low", 2),
    Metric("sensitivity", "Sensitivity", "high"),
    Metric("specificity", "Specificity", "high"),
    Metric("precision", "Precision", "high"),
    Metric("accuracy", "Accuracy", "high"),
    Metric("volume_error_ml", "Volume error (ml)", "zero", 2),
    Metric("volume_error_percent", "Volume error (%)", "zero", 1),
)


@dataclass(frozen=True)
class StructureScores(Overlap):
    """All scores of one structure in one case; :class:`Overlap` has the counts, volumes and the rule for empty masks.

    Attributes:
        name, value: of the structure.
        tolerance_mm: of the normalised surface Dice.
        nsd: normalised surface Dice, 0..1; 0 for a missed or invented structure, None for an absent one.
        hd95_mm, assd_mm: surface distances; the diagonal of the image (no distance in it can be larger) for a missed
            or invented structure, None for an absent one.
    """

    name: str
    value: int
    tolerance_mm: float
    nsd: float | None
    hd95_mm: float | None
    assd_mm: float | None
