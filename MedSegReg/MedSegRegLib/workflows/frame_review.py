"""How far the labels of each frame of a sequence can be trusted: what a person looks at after :mod:`.sequence`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..evaluate.overlap import count_overlaps, number_labels
from ..image import Image, Labels
from ..register.solution import Solution
from ..transform import Transform
from .carry_review import StructureReview, review_structures

POINTS_LOOKED_AT = 5000


@dataclass(frozen=True)
class FrameReview:
    """One frame that has no labels of its own.

    Attributes:
        number: of the frame.
        key: the nearest key frame.
        confidence: mean over its structures of the estimated Dice, 0 to 1.
        lowest: of the least certain structure.
        doubtful: the name of that structure.
        disagreement_mm: how far the smoothed direct way and the way over the neighbour are apart, mean over the
            structures' points.
        motion_mm: how far these points have moved since the key frame, mean.
        structures: each, the least certain first; the second registration there is the way over the neighbour.
    """

    number: int
    key: int
    confidence: float
    lowest: float
    doubtful: str
    disagreement_mm: float
    motion_mm: float
    structures: tuple[StructureReview, ...]


@dataclass(frozen=True)
class KeyReview:
    """What a key frame would have got from another one: a measured error, where the others are estimated.

    Attributes:
        number: of the key frame.
        key: the other one.
        dice: structure -> Dice with its own labels; None where neither has it.
    """

    number: int
    key: int
    dice: dict[str, float | None]


def review_frame(
    number: int,
    key: int,
    images: tuple[Image, Image],
    drawn: tuple[Labels, Labels],
    solution: Solution,
    over_neighbour: Transform,
) -> FrameReview:
    """Judge the labels of a frame.

    Args:
        images: the key frame, and the frame.
        drawn: labels of the key frame, and of the frame as they will be given.
        solution: key frame RAS to frame RAS.
        over_neighbour: the same, by another registration.
    """
    structures = review_structures(*images, *drawn, solution.inverse, over_neighbour)
    places = np.argwhere(drawn[0].numpy() > 0)[:, ::-1]
    points = drawn[0].geometry.map_voxels(places[:: max(1, len(places) // POINTS_LOOKED_AT)])
    direct = solution.transform.map_points(points)
    apart, moved = (np.linalg.norm(direct - other, axis=1) for other in (over_neighbour.map_points(points), points))
    worst, confidence = structures[0], float(np.mean([structure.confidence for structure in structures]))
    distances = float(apart.mean()), float(moved.mean())
    return FrameReview(number, key, confidence, worst.confidence, worst.name, *distances, structures)


def review_key(number: int, key: int, own: Labels, carried: Labels) -> KeyReview:
    """Compare the own labels of a key frame with those of another one, carried to it."""
    structures = sorted(own.structures, key=lambda structure: structure.value)
    values = np.array([structure.value for structure in structures])
    truth, found = (number_labels(labels.numpy(), values) for labels in (own, carried))
    overlaps = count_overlaps(truth, found, len(values), own.geometry.voxel_volume_mm3)
    dice = {structure.name: overlap.dice for structure, overlap in zip(structures, overlaps, strict=True)}
    return KeyReview(number, key, dice)


def frame_columns(reviews: Sequence[FrameReview]) -> dict[str, list[str] | list[float]]:
    """The reviews as columns of a table in the order of time, headings with units."""
    ordered = sorted(reviews, key=lambda review: review.number)
    return {
        "frame": [float(review.number) for review in ordered],
        "confidence": [review.confidence for review in ordered],
        "least certain": [review.doubtful for review in ordered],
        "its confidence": [review.lowest for review in ordered],
        "two ways apart (mm)": [review.disagreement_mm for review in ordered],
        "motion (mm)": [review.motion_mm for review in ordered],
        "key frame": [float(review.key) for review in ordered],
        "remark": [review.structures[0].remark for review in ordered],
    }
