"""How far each carried structure can be trusted, worst first: what a person looks at after :mod:`.carry`.

A structure's border is wrong by some distance; how much of its overlap that costs depends on its shape. The distance is
estimated from the voxel size, from where a second registration, made the other way round, disagrees, from how little
the images tell of each other around the border, and from extreme stretching. The weights were fitted on pairs with
known answers, see ``benchmarks/workflows/README.md``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage

from ..evaluate.border import border_agreement, sensitivity_per_mm
from ..evaluate.deformation import SMALLEST_JACOBIAN, jacobian_determinant
from ..evaluate.overlap import count_overlaps, number_labels
from ..geometry import Geometry
from ..image import Image, Labels, Structure
from ..resample import resample_image
from ..sampling import is_outside, sample_linear
from ..transform import Displacement, Transform
from .soft_labels import transfer_labels

PER_VOXEL, PER_CYCLE, PER_UNLIKENESS, PER_STRETCH = 0.7, 0.9, 2.8, 1.0
PLAUSIBLE_STRETCH = 0.7
POINTS_LOOKED_AT = 5000
DOUBTFUL = 0.7
SMALLEST_DICE = 1e-3
HALF, WHOLE = 0.5, 0.98
MARGIN = 4


@dataclass(frozen=True)
class StructureReview:
    """One carried structure.

    Attributes:
        value, name: of the structure.
        confidence: estimated Dice with the truth, 0 to 1; 0 for a structure that was lost.
        border_error_mm: estimated distance of its border from the true one; None for one that was lost.
        cycle_dice: overlap with itself after it was carried on, and back by the second registration.
        cycle_mm: mean distance by which its points miss themselves on that way; None for a structure that was lost.
        border_agreement: how well one image's intensities tell the other's around its border, 0 to 1 (square root of
            the correlation ratio: any modalities); None where one of them is constant.
        stretch: 95th percentile of |log J| of the deformation in it: 0.7 is twice, or half, the volume.
        visible: fraction of it that lies in the target's field of view, by the second registration.
        source_ml, target_ml: its volume before and after.
        remark: what is most doubtful, in words; empty when nothing is.
    """

    value: int
    name: str
    confidence: float
    border_error_mm: float | None
    cycle_dice: float
    cycle_mm: float | None
    border_agreement: float | None
    stretch: float
    visible: float
    source_ml: float
    target_ml: float
    remark: str


def review_structures(
    source: Image, target: Image, labels: Labels, carried: Labels, transform: Transform, second: Transform
) -> tuple[StructureReview, ...]:
    """Each structure that the labels hold, the least certain first.

    Args:
        labels: in the source's space.
        carried: the same on the target's grid.
        transform: target RAS to source RAS.
        second: source RAS to target RAS, by a registration of its own.
    """
    present = set(np.unique(labels.numpy()).tolist()) - {0}
    structures = [structure for structure in labels.structures if structure.value in present]
    named = {structure.value for structure in structures}
    structures += [Structure(value, f"label {value}") for value in sorted(present - named)]
    cycles = _cycle_dice(labels, transfer_labels(carried, labels.geometry, second), [s.value for s in structures])
    evidence = _Evidence(source, target, labels, carried, transform, second, _log_jacobian(transform))
    reviews = [evidence.review(structure, cycle) for structure, cycle in zip(structures, cycles, strict=True)]
    return tuple(sorted(reviews, key=lambda review: review.confidence))


def review_columns(review: Sequence[StructureReview]) -> dict[str, list[str] | list[float]]:
    """The review as columns of a table, headings with units; NaN where there is no number."""

    def numbers(*values: float | None) -> list[float]:
        return [float("nan") if value is None else value for value in values]

    return {
        "structure": [r.name for r in review],
        "confidence": [r.confidence for r in review],
        "border error (mm)": numbers(*(r.border_error_mm for r in review)),
        "Dice after there and back": [r.cycle_dice for r in review],
        "there and back (mm)": numbers(*(r.cycle_mm for r in review)),
        "agreement at the border": numbers(*(r.border_agreement for r in review)),
        "stretch |log J|": [r.stretch for r in review],
        "in the field of view (%)": [100 * r.visible for r in review],
        "volume before (ml)": [r.source_ml for r in review],
        "volume after (ml)": [r.target_ml for r in review],
        "remark": [r.remark for r in review],
    }


@dataclass(frozen=True, eq=False)
class _Evidence:
    """Everything that is asked about one structure after the other.

    Attributes:
        log_jacobian: [1, K, J, I] of the dense stage on its own grid; None for a linear transform.
    """

    source: Image
    target: Image
    labels: Labels
    carried: Labels
    transform: Transform
    second: Transform
    log_jacobian: Image | None

    def review(self, structure: Structure, cycle_dice: float) -> StructureReview:
        before = self.labels.numpy() == structure.value
        after = self.carried.numpy() == structure.value
        source_ml = float(before.sum() * self.labels.geometry.voxel_volume_mm3 / 1000)
        visible = self._visible(before)
        if not after.any():
            return _lost(structure, source_ml, visible)
        mask, window = _cut(after, self.carried.geometry)
        spacing = window.spacing_mm[::-1]
        voxel, per_mm = float(np.mean(spacing)), sensitivity_per_mm(mask, spacing)
        moved = resample_image(_first_channel(self.source), window, self.transform).numpy()[0]
        agreement = border_agreement(resample_image(_first_channel(self.target), window).numpy()[0], moved, mask)
        points = _some_points(mask, window)
        stretch = self._stretch(points)
        parts = {
            "": PER_VOXEL * voxel,
            "the second registration disagrees": -PER_CYCLE * float(np.log(max(cycle_dice, SMALLEST_DICE))) / per_mm,
            "the images are unlike around its border": PER_UNLIKENESS * voxel * (1 - (agreement or 0.0)),
            "stretched a lot": PER_STRETCH * voxel * max(0.0, stretch - PLAUSIBLE_STRETCH),
        }
        error = sum(parts.values())
        confidence = float(np.exp(-per_mm * error))
        return StructureReview(
            structure.value,
            structure.name,
            confidence,
            error,
            cycle_dice,
            self._cycle_mm(points),
            agreement,
            stretch,
            visible,
            source_ml,
            float(mask.sum() * window.voxel_volume_mm3 / 1000),
            _remark(parts, confidence, visible),
        )

    def _visible(self, mask: np.ndarray) -> float:
        points = self.second.map_points(_some_points(mask, self.labels.geometry))
        grid = self.target.geometry
        return float((~is_outside(torch.from_numpy(grid.map_points(points)), grid.size_ijk)).double().mean())

    def _cycle_mm(self, points: np.ndarray) -> float:
        back = self.second.map_points(self.transform.map_points(points))
        return float(np.linalg.norm(back - points, axis=1).mean())

    def _stretch(self, points: np.ndarray) -> float:
        if self.log_jacobian is None:
            return 0.0
        voxels = torch.from_numpy(self.log_jacobian.geometry.map_points(points)).float()
        return float(np.percentile(sample_linear(self.log_jacobian.tensor, voxels).abs().numpy(), 95))


def _lost(structure: Structure, source_ml: float, visible: float) -> StructureReview:
    remark = "lies outside the target's field of view" if visible < HALF else "lost: smaller than a voxel"
    return StructureReview(
        structure.value, structure.name, 0.0, None, 0.0, None, None, 0.0, visible, source_ml, 0.0, remark
    )


def _remark(parts: Mapping[str, float], confidence: float, visible: float) -> str:
    """What speaks most against a structure: cut off, or below the confidence of a doubtful one the largest part."""
    if visible < WHOLE:
        return f"{100 * (1 - visible):.0f} % of it lies outside the target's field of view"
    if confidence >= DOUBTFUL:
        return ""
    return max(parts, key=lambda part: parts[part]) or "thin or small: a small error costs much of it"


def _cycle_dice(labels: Labels, back: Labels, values: Sequence[int]) -> list[float]:
    order = np.array(sorted(values))
    there, again = (number_labels(one.numpy(), order) for one in (labels, back))
    overlaps = count_overlaps(there, again, len(order), labels.geometry.voxel_volume_mm3)
    dice = {value: overlap.dice or 0.0 for value, overlap in zip(order.tolist(), overlaps, strict=True)}
    return [dice[value] for value in values]


def _log_jacobian(transform: Transform) -> Image | None:
    """The logarithm of the local volume change of the deformation alone, on the grid of its first dense stage."""
    for stage in transform.stages:
        if isinstance(stage, Displacement):
            determinant = jacobian_determinant(stage).clamp_min(SMALLEST_JACOBIAN).log().float()
            return Image(determinant[None], stage.geometry)
    return None


def _cut(mask: np.ndarray, geometry: Geometry) -> tuple[np.ndarray, Geometry]:
    """The box around a structure, some voxels wider than it as far as the image goes: the mask in it, and its grid."""
    (box,) = ndimage.find_objects(mask.astype(np.uint8))
    wider = tuple(
        slice(max(0, part.start - MARGIN), min(n, part.stop + MARGIN)) for part, n in zip(box, mask.shape, strict=True)
    )
    k, j, i = mask[wider].shape
    along_k, along_j, along_i = wider
    return mask[wider], geometry.window((along_i.start, along_j.start, along_k.start), (i, j, k))


def _some_points(mask: np.ndarray, geometry: Geometry) -> np.ndarray:
    """[N, 3] RAS mm of voxels of a mask, evenly picked."""
    places = np.flatnonzero(mask)
    picked = places[np.linspace(0, len(places) - 1, min(len(places), POINTS_LOOKED_AT)).astype(int)]
    return geometry.map_voxels(np.stack(np.unravel_index(picked, mask.shape)[::-1], axis=1))


def _first_channel(image: Image) -> Image:
    return Image(image.tensor[:1], image.geometry)
