"""Two segmentations of one study, its own and the one carried from the other study: fused and compared.

The fusion averages signed distances to each structure's border, with weights, so that the border comes to lie between
the two (shape-based averaging: Rohlfing and Maurer, IEEE Trans. Inf. Technol. Biomed. 2007).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan

import numpy as np
import torch
from scipy import ndimage

from ..evaluate.scores import compare_labels
from ..geometry import Geometry
from ..image import Image, Labels, Structure

REACH_MM = 12.0
DOUBTFUL_DICE = 0.7


@dataclass(frozen=True)
class StructureAgreement:
    """One structure of one study.

    Attributes:
        value, name: of the structure.
        dice: of the own and the carried segmentation.
        distance_mm: mean distance of their borders; None where one of them has none of it.
        own_confidence, carried_confidence: what each counts in the fusion, 0 to 1.
        own_ml, carried_ml, fused_ml: volumes.
    """

    value: int
    name: str
    dice: float
    distance_mm: float | None
    own_confidence: float
    carried_confidence: float
    own_ml: float
    carried_ml: float
    fused_ml: float


def signed_distance(mask: np.ndarray, geometry: Geometry) -> np.ndarray:
    """[K, J, I] float32 mm to the border of a mask, positive inside; beyond 12 mm it stays the same."""
    spacing = geometry.spacing_mm[::-1]
    most, half = REACH_MM, min(spacing) / 2
    depth = np.full(mask.shape, -most, np.float32)
    if not mask.any():
        return depth
    margin = [int(np.ceil(most / mm)) for mm in spacing]
    (box,) = ndimage.find_objects(mask.astype(np.uint8))
    around = tuple(slice(max(0, side.start - wide), side.stop + wide) for side, wide in zip(box, margin, strict=True))
    inside = mask[around]
    outwards = ndimage.distance_transform_edt(~inside, sampling=spacing)
    inwards = np.full(inside.shape, most) if inside.all() else ndimage.distance_transform_edt(inside, sampling=spacing)
    depth[around] = np.where(inside, inwards - half, half - outwards).clip(-most, most)
    return depth


def fuse(own: Labels, carried: Labels, own_weight: Mapping[int, float], carried_weight: Mapping[int, float]) -> Labels:
    """Where both agree, that; elsewhere the label whose weighted mean of both signed distances is the largest.

    Args:
        own, carried: on one grid.
        own_weight, carried_weight: by label value, 0 to 1; background counts as much as the mean of them.
    """
    ours, theirs = own.numpy(), carried.numpy()
    apart = ours != theirs
    best, winner = np.full(int(apart.sum()), -np.inf, np.float32), np.zeros(int(apart.sum()), ours.dtype)
    for value in np.union1d(ours[apart], theirs[apart]).tolist():
        depths = [signed_distance(one == value, own.geometry)[apart] for one in (ours, theirs)]
        weights = [_weight(of, value) for of in (own_weight, carried_weight)]
        depth = (weights[0] * depths[0] + weights[1] * depths[1]) / max(sum(weights), 1e-6)
        deeper = depth > best
        best[deeper], winner[deeper] = depth[deeper], value
    fused = ours.copy()
    fused[apart] = winner
    return Labels(torch.from_numpy(fused), own.geometry, _structures(own, carried), own.name)


def disagreement(own: Labels, carried: Labels) -> Image:
    """[1, K, J, I] mm: 0 where both segmentations agree, else how far it is to where they do."""
    apart = own.numpy() != carried.numpy()
    distance = ndimage.distance_transform_edt(apart, sampling=own.geometry.spacing_mm[::-1])
    return Image.from_array(distance.astype(np.float32), own.geometry, "disagreement")


def compare(
    own: Labels,
    carried: Labels,
    fused: Labels,
    own_weight: Mapping[int, float],
    carried_weight: Mapping[int, float],
) -> tuple[StructureAgreement, ...]:
    """Each structure that either has, the one that they agree least about first."""
    ml = own.geometry.voxel_volume_mm3 / 1000
    counts = dict(zip(*(part.tolist() for part in np.unique(fused.numpy(), return_counts=True)), strict=True))
    rows = [
        StructureAgreement(
            score.value,
            score.name,
            score.dice or 0.0,
            score.assd_mm if score.outcome == "scored" else None,
            _weight(own_weight, score.value),
            _weight(carried_weight, score.value),
            score.truth_ml,
            score.prediction_ml,
            counts.get(score.value, 0) * ml,
        )
        for score in compare_labels(own, carried)
        if score.outcome != "absent"
    ]
    return tuple(sorted(rows, key=lambda row: row.dice))


def agreement_columns(structures: Sequence[StructureAgreement]) -> dict[str, list[str] | list[float]]:
    """A :func:`compare` as columns of a table, headings with units; NaN where there is no number."""
    return {
        "structure": [row.name for row in structures],
        "Dice, own and carried": [row.dice for row in structures],
        "distance of borders (mm)": [nan if row.distance_mm is None else row.distance_mm for row in structures],
        "confidence, own": [row.own_confidence for row in structures],
        "confidence, carried": [row.carried_confidence for row in structures],
        "volume, own (ml)": [row.own_ml for row in structures],
        "volume, carried (ml)": [row.carried_ml for row in structures],
        "volume, proposed (ml)": [row.fused_ml for row in structures],
    }


def _weight(weights: Mapping[int, float], value: int) -> float:
    if value in weights:
        return weights[value]
    return float(np.mean(list(weights.values()))) if weights else 1.0


def _structures(own: Labels, carried: Labels) -> tuple[Structure, ...]:
    known = {structure.value: structure for structure in (*carried.structures, *own.structures)}
    return tuple(known[value] for value in sorted(known))
