"""Label maps without images, from which examples are made. Training walk: files -> [label maps] -> synthesise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from pydantic import Field, model_validator

from ..errors import DatasetError, MedSegRegError
from ..files import read_labels
from ..files.architectures import Strict
from ..model_grid import model_grid
from ..progress import SILENT, Progress
from ..resample import resample_labels

MARGIN_VOXELS = 2


class LabelRoles(Strict):
    """What the values of the label maps stand for.

    Attributes:
        targets: for label 1, 2, 3... of the model the values that become it; all others become background.
        pairs: (left, right) values: they look alike, and change places in a mirrored example.
        alike: groups of values that are one tissue, with the same intensities in every example.
        kindred: groups of values of one kind of tissue, whose intensities are near each other in some examples.
        removable: groups of values, one of which is cleared where the surroundings are removed; 0 belongs to none.
    """

    targets: tuple[tuple[int, ...], ...] = Field(min_length=1)
    pairs: tuple[tuple[int, int], ...] = ()
    alike: tuple[tuple[int, ...], ...] = ()
    kindred: tuple[tuple[int, ...], ...] = ()
    removable: tuple[tuple[int, ...], ...] = ()

    @model_validator(mode="after")
    def _each_value_once(self) -> LabelRoles:
        for name in ("targets", "pairs", "alike", "kindred"):
            counts = Counter(value for group in getattr(self, name) for value in group)
            if twice := [value for value, count in counts.items() if count > 1]:
                raise ValueError(f"{name} names {twice[0]} twice")
        return self


@dataclass(frozen=True, eq=False)
class LabelMaps:
    """Label maps as indices into a list of values, with what each index stands for; all on one device.

    Attributes:
        names: of the maps.
        volumes: uint8 [K, J, I] each, axes right, anterior, superior; index 0 is value 0.
        centres: of what has a target, or one point of a space that all maps are in; (i, j, k) in voxels.
        spacing_mm: of the isotropic voxels.
        tissues: [V] long; indices of one tissue look alike.
        kinds: [T] long, the kind of each tissue; a tissue without kindred is its own kind.
        targets: [V] long, label of the model.
        mirrored_targets: [V] long, in a mirrored example.
        kept: bool [R, V], what stays where group R of ``removable`` is cleared.
    """

    names: tuple[str, ...]
    volumes: tuple[torch.Tensor, ...]
    centres: tuple[tuple[float, float, float], ...]
    spacing_mm: float
    tissues: torch.Tensor
    kinds: torch.Tensor
    targets: torch.Tensor
    mirrored_targets: torch.Tensor
    kept: torch.Tensor

    def to(self, device: torch.device | str) -> LabelMaps:
        """The same on another device."""
        tables = ("tissues", "kinds", "targets", "mirrored_targets", "kept")
        return replace(
            self,
            volumes=tuple(volume.to(device) for volume in self.volumes),
            **{name: getattr(self, name).to(device) for name in tables},
        )

    def subset(self, chosen: Sequence[int]) -> LabelMaps:
        """Only these maps."""
        return replace(
            self,
            names=tuple(self.names[n] for n in chosen),
            volumes=tuple(self.volumes[n] for n in chosen),
            centres=tuple(self.centres[n] for n in chosen),
        )


def read_label_maps(
    paths: Sequence[Path],
    roles: LabelRoles,
    spacing_mm: float,
    progress: Progress = SILENT,
    centre_ras_mm: tuple[float, float, float] | None = None,
) -> LabelMaps:
    """Read label maps onto isotropic grids along right, anterior, superior, cut to what is not background.

    Args:
        centre_ras_mm: the centre of every map, where all are in one space; else each has its own.

    Raises:
        DatasetError: lists the faults of all maps at once: unreadable, nothing that has a target, or more than 255
            values in all.
    """
    grids, faults = [], []
    for number, path in enumerate(paths):
        progress.update(number / len(paths), f"reading {path.name}")
        try:
            grids.append(_read_volume(path, roles, spacing_mm, centre_ras_mm))
        except MedSegRegError as error:
            faults.append(f"{path.name}: {error}")
    if faults:
        raise DatasetError(
            f"{len(faults)} of {len(paths)} label maps have faults:\n  " + "\n  ".join(faults) + "\n",
            "readable label maps that have labels of the model",
            "correct or remove these maps",
        )
    values = np.unique(np.concatenate([[0], *(np.unique(volume) for volume, _ in grids)]))
    if len(values) > 255:
        raise DatasetError(f"The label maps have {len(values)} values", "at most 255", "merge some of them")
    volumes = tuple(torch.from_numpy(np.searchsorted(values, volume).astype(np.uint8)) for volume, _ in grids)
    tables = _tables(values.tolist(), roles)
    return LabelMaps(tuple(path.name for path in paths), volumes, tuple(c for _, c in grids), spacing_mm, **tables)


def _read_volume(
    path: Path, roles: LabelRoles, spacing_mm: float, centre_ras_mm: tuple[float, float, float] | None
) -> tuple[np.ndarray, tuple[float, float, float]]:
    labels = read_labels(path)
    grid = model_grid(labels.geometry, (spacing_mm,) * 3)
    volume = resample_labels(labels, grid).tensor.numpy()
    boxes = [np.flatnonzero(volume.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    wanted = np.isin(volume, [value for group in roles.targets for value in group])
    if not wanted.any():
        raise DatasetError("No voxel becomes a label", "values that are in 'targets'", "check the values")
    starts = [max(0, box[0] - MARGIN_VOXELS) for box in boxes]
    cut = volume[tuple(slice(s, box[-1] + 1 + MARGIN_VOXELS) for s, box in zip(starts, boxes, strict=True))]
    if centre_ras_mm is None:
        centre = np.array([axis.mean() for axis in wanted.nonzero()])
    else:
        centre = grid.map_points(np.array(centre_ras_mm))[::-1]
    k, j, i = (centre - starts).tolist()
    return cut.astype(np.int32), (i, j, k)


def _tables(values: Sequence[int], roles: LabelRoles) -> dict[str, torch.Tensor]:
    """What each index stands for, from what each value stands for."""
    left_of = {right: left for left, right in roles.pairs}
    partner = {**left_of, **dict(roles.pairs)}
    label_of = {value: number for number, group in enumerate(roles.targets, start=1) for value in group}
    first_of = {value: group[0] for group in roles.alike for value in group}

    def look(value: int) -> int:
        left = left_of.get(value, value)
        return first_of.get(left, left)

    looks = [look(value) for value in values]
    tissue_values = sorted(set(looks))
    kind_of = {look(v): -1 - number for number, group in enumerate(roles.kindred) for v in group}
    kind_values = [kind_of.get(value, value) for value in tissue_values]
    kinds = sorted(set(kind_values))
    return {
        "tissues": torch.tensor([tissue_values.index(value) for value in looks]),
        "kinds": torch.tensor([kinds.index(kind) for kind in kind_values]),
        "targets": torch.tensor([label_of.get(value, 0) for value in values]),
        "mirrored_targets": torch.tensor([label_of.get(partner.get(value, value), 0) for value in values]),
        "kept": torch.tensor([[value not in group for value in values] for group in roles.removable], dtype=torch.bool),
    }
