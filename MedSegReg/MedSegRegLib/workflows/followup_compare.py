"""Two successive visits, once their motion is known: what each structure and each lesion did, and how surely.

Follow-up's walk: change, volumes, lesions -> [compare] -> followup -> report.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from ..errors import InputError
from ..geometry import Geometry
from ..image import Image, Labels, Structure
from ..sampling import sample_linear
from ..transform import Affine, Displacement, Transform
from .followup_change import Motion, subtract
from .followup_lesions import Parts, is_lesion, match_parts
from .followup_midway import Midway, Visit
from .followup_volumes import CONFIDENCE, PATCH_MM, Size, measure_lesions, measure_size, placing_variance

UNCHANGED = "unchanged"
VERDICTS = ("new", "grown", UNCHANGED, "shrunk", "gone")

Mask = tuple[np.ndarray, Geometry]


@dataclass(frozen=True)
class Change:
    """Of one structure, or one lesion, between two visits. Errors are half the width of a 95 % error bar.

    Attributes:
        name: of the structure; of a lesion with its number, the largest first.
        value: of the structure.
        lesion: whether it is one lesion and not a whole structure.
        before_ml, after_ml: by its labels; None where the visit has none.
        change_ml, error_ml: by the labels of both visits; None without both.
        percent: change / volume before * 100; None where there was nothing before.
        deformation_ml, deformation_error_ml: by the deformation over the labels (the mean over both visits' where
            there are both): what tissue did, whatever was drawn.
        verdict: new, grown, unchanged (within the error), shrunk, gone; by the labels where both visits have some, else
            by the deformation.
        centre_ras: [3] mm in the mid-way space.
    """

    name: str
    value: int
    lesion: bool
    before_ml: float | None
    after_ml: float | None
    change_ml: float | None
    error_ml: float | None
    percent: float | None
    deformation_ml: float
    deformation_error_ml: float
    verdict: str
    centre_ras: tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class Interval:
    """Between two successive visits.

    Attributes:
        earlier, later: numbers of the visits, from 0.
        transform: earlier visit RAS to later visit RAS: place the later study under it, and it lies on the earlier one.
        inverse: later visit RAS to earlier visit RAS.
        subtraction: see :func:`.followup_change.subtract`; on the mid-way grid, as are the next two.
        jacobian: local volume change, later / earlier.
        error_mm: of the registration.
        changes: structures, then lesions.
    """

    earlier: int
    later: int
    transform: Transform
    inverse: Transform
    subtraction: Image
    jacobian: Image
    error_mm: Image
    changes: tuple[Change, ...]


class Comparison:
    """Of two successive visits.

    Args:
        later: number of the later visit.
        motion: in the mid-way space.
        border_mm, lesions: as in :func:`.followup.follow_up`.
    """

    def __init__(
        self,
        visits: Sequence[Visit],
        midway: Midway,
        later: int,
        motion: Motion,
        border_mm: float | None,
        lesions: Sequence[str] | None,
    ) -> None:
        self._numbers = later - 1, later
        self._visits = visits[later - 1], visits[later]
        self._matrices = midway.to_visit[later - 1], midway.to_visit[later]
        self._grid, self._motion, self._border_mm, self._lesions = midway.grid, motion, border_mm, lesions
        out = [Transform((Affine(matrix),)) for matrix in self._matrices]
        self._home = [Transform((Affine(matrix).inverse(),)) for matrix in self._matrices]
        self._forward = _joined(self._home[0], motion.transform, out[1])
        self._backward = _joined(self._home[1], motion.inverse, out[0])

    def interval(self) -> Interval:
        """All that is told of the two."""
        motion = self._motion
        images = self._visits[0].image, self._visits[1].image
        return Interval(
            *self._numbers,
            self._forward,
            self._backward,
            subtract(images, self._matrices, motion),
            motion.jacobian,
            motion.error_mm,
            (*self._structures(), *self._separate_lesions()),
        )

    def _structures(self) -> Iterator[Change]:
        parts = [None if visit.labels is None else _parts(visit) for visit in self._visits]
        for structure in structures_of(self._visits):
            masks = [None if one is None else one.mask([structure.value]) for one in parts]
            yield self._change(structure, structure.name, False, masks)

    def _separate_lesions(self) -> Iterator[Change]:
        """Only where both visits were drawn: else nobody knows what is new."""
        before, after = (visit.labels for visit in self._visits)
        if before is None or after is None:
            return
        for structure in structures_of(self._visits):
            if is_lesion(structure, self._lesions):
                parts = [Parts.separate(labels, structure.value) for labels in (before, after)]
                matched = match_parts(parts[0], parts[1], self._forward, self._backward)
                for number, chosen in enumerate(matched, start=1):
                    masks = [one.mask(numbers) for one, numbers in zip(parts, chosen, strict=True)]
                    yield self._change(structure, f"{structure.name} {number}", True, masks)

    def _change(self, structure: Structure, name: str, lesion: bool, masks: Sequence[Mask | None]) -> Change:
        """Of one thing, by its mask at each visit (None where nothing was drawn)."""
        measure = measure_lesions if is_lesion(structure, self._lesions) else measure_size
        sizes = [None if mask is None else measure(*mask, self._border_mm) for mask in masks]
        told, centres = [], []
        for number, (mask, size) in enumerate(zip(masks, sizes, strict=True)):
            if mask is not None and size is not None and size.mm3:
                points = self._midway_points(number, *mask)
                told.append(self._by_deformation(points, mask[1].voxel_volume_mm3, number, size))
                centres.append(points.mean(axis=0))
        before, after = sizes
        moved, variance = np.mean(told, axis=0).tolist()
        by_deformation = moved / 1000, CONFIDENCE * float(np.sqrt(variance)) / 1000
        by_labels = None if before is None or after is None else _difference(before, after)
        r, a, s = np.mean(centres, axis=0).tolist()
        return Change(
            name=name,
            value=structure.value,
            lesion=lesion,
            before_ml=None if before is None else before.mm3 / 1000,
            after_ml=None if after is None else after.mm3 / 1000,
            change_ml=by_labels and by_labels[0],
            error_ml=by_labels and by_labels[1],
            percent=100_000 * by_labels[0] / before.mm3 if by_labels and before and before.mm3 else None,
            deformation_ml=by_deformation[0],
            deformation_error_ml=by_deformation[1],
            verdict=_verdict(before, after, *(by_labels or by_deformation)),
            centre_ras=(r, a, s),
        )

    def _midway_points(self, number: int, mask: np.ndarray, geometry: Geometry) -> np.ndarray:
        return self._home[number].map_points(geometry.map_voxels(np.argwhere(mask)[:, ::-1]))

    def _by_deformation(self, points: np.ndarray, voxel_mm3: float, number: int, size: Size) -> tuple[float, float]:
        """Volume change in mm3 of voxels at these points of the mid-way space, and its variance."""
        voxels = torch.from_numpy(self._grid.map_points(points))
        ratio, error = (
            sample_linear(image.tensor, voxels)[0].double().numpy()
            for image in (self._motion.jacobian, self._motion.error_mm)
        )
        grown = ratio - 1 if number == 0 else 1 - 1 / ratio
        spread = float(np.sqrt(np.square(error).mean()))
        return float(grown.sum() * voxel_mm3), placing_variance(size.surface_mm2, spread, self._patch_mm)

    @property
    def _patch_mm(self) -> float:
        """Over which the registration's errors are alike: as far as its regularisation reaches."""
        dense = self._motion.settings.deformable
        if dense is None or dense.stiffness == "auto":
            return PATCH_MM
        return max(PATCH_MM, dense.update_sigma_voxels * float(dense.stiffness) * self._grid.spacing_mm[0])


def structures_of(visits: Sequence[Visit]) -> list[Structure]:
    """Those that hold a voxel at any of the visits, by value; the first visit that has one names it."""
    found: dict[int, Structure] = {}
    for labels in (visit.labels for visit in visits if visit.labels is not None):
        named = {structure.value: structure for structure in labels.structures}
        for value in np.unique(labels.numpy()).tolist():
            if value > 0:
                found.setdefault(value, named.get(value, Structure(value, f"label {value}")))
    return [found[value] for value in sorted(found)]


def with_shared_values(visits: Sequence[Visit]) -> list[Visit]:
    """The visits with labels in which structures of one name have one value; values without a name are left alone.

    Raises:
        InputError: labels with two structures of one name.
    """
    values: dict[str, int] = {}
    highest = max((int(visit.labels.tensor.max()) for visit in visits if visit.labels is not None), default=0)
    shared = []
    for visit in visits:
        if visit.labels is None:
            shared.append(visit)
            continue
        names = [structure.name for structure in visit.labels.structures]
        if len(set(names)) < len(names):
            raise InputError(f"The labels hold {', '.join(names)}", "each name once", "rename or remove structures")
        table = np.arange(highest + 1 + len(names) + len(values))
        for structure in visit.labels.structures:
            if structure.name not in values:
                taken = structure.value in values.values()
                values[structure.name] = highest + 1 + len(values) if taken else structure.value
            if structure.value <= highest:
                table[structure.value] = values[structure.name]
        structures = tuple(replace(one, value=values[one.name]) for one in visit.labels.structures)
        labels = Labels.from_array(table[visit.labels.numpy()], visit.labels.geometry, structures, visit.labels.name)
        shared.append(replace(visit, labels=labels))
    return shared


def _joined(*parts: Transform) -> Transform:
    """One after the other, with linear stages that follow each other as one."""
    stages: list[Affine | Displacement] = []
    for stage in (stage for part in parts for stage in part.stages):
        before = stages[-1] if stages else None
        if isinstance(stage, Affine) and isinstance(before, Affine):
            stages[-1] = Affine(stage.matrix @ before.matrix)
        else:
            stages.append(stage)
    return Transform(tuple(stages))


def _parts(visit: Visit) -> Parts:
    assert visit.labels is not None
    return Parts(visit.labels.numpy(), visit.labels.geometry)


def _difference(before: Size, after: Size) -> tuple[float, float]:
    """In ml, with half the width of its error bar."""
    error = CONFIDENCE * float(np.sqrt(before.variance_mm6 + after.variance_mm6))
    return (after.mm3 - before.mm3) / 1000, error / 1000


def _verdict(before: Size | None, after: Size | None, change: float, error: float) -> str:
    if abs(change) <= error:
        return UNCHANGED
    if before is not None and not before.mm3:
        return "new"
    if after is not None and not after.mm3:
        return "gone"
    return "grown" if change > 0 else "shrunk"
