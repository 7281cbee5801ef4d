"""Which lesion of the later visit is which of the earlier one. Follow-up's walk: volumes -> [lesions] -> report.

Nothing is resampled: each lesion voxel is taken through the transform to the other visit, and looks what lies there.
What has grown together or fallen apart between the visits is one lesion, whose parts are counted together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import ndimage
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from ..geometry import Geometry
from ..image import Labels, Structure
from ..transform import Transform
from .followup_volumes import TOUCHING

ABNORMAL = "49755003"
"""SNOMED CT: morphologically abnormal structure, the category of lesions in Slicer's terminologies."""
WORDS = ("lesion", "tumor", "tumour", "metasta", "nodule", "plaque", "cyst")


@dataclass(frozen=True, eq=False)
class Parts:
    """Numbered parts of one visit's field of view: structures, or separate lesions.

    Attributes:
        numbers: [K, J, I], 0 outside.
        geometry: of the numbers.
    """

    numbers: np.ndarray
    geometry: Geometry

    @classmethod
    def separate(cls, labels: Labels, value: int) -> Parts:
        """The connected components (26 neighbours) of a structure, from 1."""
        return cls(ndimage.label(labels.numpy() == value, TOUCHING)[0], labels.geometry)

    @cached_property
    def boxes(self) -> list[tuple[slice, ...] | None]:
        """Of the numbers 1, 2, ...; None for one that is not there."""
        return ndimage.find_objects(self.numbers)

    def mask(self, chosen: Sequence[int]) -> tuple[np.ndarray, Geometry]:
        """Some parts together, without what is empty around them: [K, J, I] bool and its grid; a voxel of none."""
        boxes = [box for number in chosen if number <= len(self.boxes) and (box := self.boxes[number - 1]) is not None]
        if not boxes:
            return np.zeros((1, 1, 1), bool), self.geometry.window((0, 0, 0), (1, 1, 1))
        k, j, i = (
            slice(min(box[axis].start for box in boxes), max(box[axis].stop for box in boxes)) for axis in range(3)
        )
        mask = np.isin(self.numbers[k, j, i], chosen)
        return mask, self.geometry.window((i.start, j.start, k.start), mask.shape[::-1])


def is_lesion(structure: Structure, names: Sequence[str] | None = None) -> bool:
    """Whether it is among these names; without any, by its category or its own name."""
    if names is not None:
        return structure.name in names
    return structure.category.value == ABNORMAL or any(word in structure.name.casefold() for word in WORDS)


def match_parts(
    earlier: Parts, later: Parts, forward: Transform, backward: Transform
) -> list[tuple[list[int], list[int]]]:
    """Parts of both visits that belong together, the largest first: numbers at the earlier, and at the later visit.

    Two parts belong together where a voxel of one comes to lie in the other or beside it.

    Args:
        forward: earlier visit RAS to later visit RAS. backward: the inverse.
    """
    pairs = [_hits(earlier, later, forward), _hits(later, earlier, backward)[:, ::-1]]
    edges = np.concatenate(pairs) - 1
    first = len(earlier.boxes)
    total = first + len(later.boxes)
    graph = coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1] + first)), (total, total))
    count, group = connected_components(graph, directed=False)
    mm3 = [np.bincount(p.numbers.ravel())[1:] * p.geometry.voxel_volume_mm3 for p in (earlier, later)]
    size = np.bincount(group, np.concatenate(mm3), minlength=count)
    members = [np.flatnonzero(group == number) for number in np.argsort(-size, kind="stable")]
    return [((one[one < first] + 1).tolist(), (one[one >= first] - first + 1).tolist()) for one in members]


def _hits(parts: Parts, others: Parts, transform: Transform) -> np.ndarray:
    """[N, 2]: numbers of a part and of another that a voxel of it meets."""
    kji = np.argwhere(parts.numbers)
    if not len(kji) or not others.boxes:
        return np.zeros((0, 2), int)
    numbers = parts.numbers[tuple(kji.T)]
    there = others.geometry.map_points(transform.map_points(parts.geometry.map_voxels(kji[:, ::-1])))
    middle = np.rint(there).astype(int)[:, ::-1]
    found = [np.zeros((0, 2), int)]
    for offset in np.argwhere(TOUCHING) - 1:
        place = middle + offset
        inside = np.all((place >= 0) & (place < others.numbers.shape), axis=1)
        met = others.numbers[tuple(place[inside].T)]
        found.append(np.stack((numbers[inside], met), axis=1)[met > 0])
    return np.unique(np.concatenate(found), axis=0)
