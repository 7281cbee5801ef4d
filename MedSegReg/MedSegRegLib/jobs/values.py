"""What goes to a job and comes back: arrays with a place in the world, as files. First and last stop of the jobs walk.

Needs no torch, and neither do the library's objects that are made of it, until a tensor of them is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..errors import InputError
from ..geometry import Geometry
from ..image import Code, Image, Labels, Structure
from ..transform import Affine, Displacement, Transform


@dataclass(frozen=True, eq=False)
class Voxels:
    """An array on a grid: an image, a label map or a displacement.

    Attributes:
        array: [K, J, I] or [C, K, J, I].
        geometry: its grid, RAS mm.
        name: of the study or node.
        structures: of a label map: fields of ``image.Structure``, codes as dicts, one a label.
        channel_names: of an image.
    """

    array: np.ndarray
    geometry: Geometry
    name: str = ""
    structures: tuple[dict[str, Any], ...] = ()
    channel_names: tuple[str, ...] = ()

    def image(self) -> Image:
        """As an Image; copies. Raises InputError, DimensionError, GeometryMismatch."""
        return Image.from_array(self.array, self.geometry, self.name, self.channel_names)

    def labels(self) -> Labels:
        """As Labels; copies. Raises InputError, GeometryMismatch."""

        def structure(fields: dict[str, Any]) -> Structure:
            codes = {key: Code(**code) for key in ("code", "category", "modifier") if (code := fields.get(key))}
            return Structure(**{**fields, "color": tuple(fields["color"]), **codes})

        return Labels.from_array(self.array, self.geometry, tuple(map(structure, self.structures)), self.name)


@dataclass(frozen=True, eq=False)
class Chain:
    """A transform, fixed RAS to moving RAS in mm; the first stage is applied first.

    Attributes:
        stages: 4x4 matrices, and displacements as Voxels [3, K, J, I] of vectors (r, a, s) in mm.
    """

    stages: tuple[np.ndarray | Voxels, ...] = ()

    def transform(self) -> Transform:
        """As a Transform of the same arrays. Raises InputError, InvalidGeometry."""
        return Transform(
            tuple(
                Displacement(stage.array, stage.geometry) if isinstance(stage, Voxels) else Affine(stage)
                for stage in self.stages
            )
        )


Value = np.ndarray | Voxels | Chain
Kind = TypeVar("Kind", bound=Value)


class Carried:
    """Values by name, and the library's objects made of them."""

    values: Mapping[str, Value]

    def array(self, name: str) -> np.ndarray:
        """A plain array. Raises InputError: no such value; so do all below."""
        return self._value(name, np.ndarray)

    def voxels(self, name: str) -> Voxels:
        """An image or a label map."""
        return self._value(name, Voxels)

    def chain(self, name: str) -> Chain:
        """A transform."""
        return self._value(name, Chain)

    def image(self, name: str) -> Image:
        """See :meth:`Voxels.image`."""
        return self.voxels(name).image()

    def labels(self, name: str) -> Labels:
        """See :meth:`Voxels.labels`."""
        return self.voxels(name).labels()

    def transform(self, name: str) -> Transform:
        """See :meth:`Chain.transform`."""
        return self.chain(name).transform()

    def _value(self, name: str, kind: type[Kind]) -> Kind:
        value = self.values.get(name)
        if not isinstance(value, kind):
            raise InputError(
                f"'{name}' is {'missing' if value is None else type(value).__name__} among {sorted(self.values)}",
                f"{kind.__name__} of that name",
                "give it, or ask for another name",
            )
        return value


@dataclass(frozen=True, eq=False)
class JobResult(Carried):
    """What a task gives.

    Attributes:
        data: plain JSON.
        values: arrays, voxels and chains by name.
    """

    data: dict[str, Any]
    values: Mapping[str, Value]


def as_value(thing: Any) -> Value:
    """An array, Voxels or a Chain as it is; an Image, Labels or a Transform as one of these, without a copy on the CPU.

    Raises:
        InputError: anything else.
    """
    if isinstance(thing, (np.ndarray, Voxels, Chain)):
        return thing
    if isinstance(thing, Transform):
        return Chain(tuple(_stage(stage) for stage in thing.stages))
    if isinstance(thing, Labels):
        structures = tuple(asdict(structure) for structure in thing.structures)
        return Voxels(thing.numpy(), thing.geometry, thing.name, structures)
    if isinstance(thing, Image):
        return Voxels(thing.numpy(), thing.geometry, thing.name, channel_names=tuple(thing.channel_names))
    raise InputError(
        f"A value is a {type(thing).__name__}",
        "an array, Voxels, a Chain, an Image, Labels or a Transform",
        "convert it, or put it among the arguments if it is plain JSON",
    )


def _stage(stage: Affine | Displacement) -> np.ndarray | Voxels:
    return stage.matrix if isinstance(stage, Affine) else Voxels(stage.numpy(), stage.geometry)


def write_values(values: Mapping[str, Value], folder: Path, prefix: str) -> dict[str, Any]:
    """Write each array as ``<prefix><n>.npy`` and describe all of them in JSON for :func:`read_values`.

    Components come last in a file: a scene has vectors in this order, so that a window takes them as they are.

    Plain writing and not a map: on a full disk it raises, where a map would end the process.

    Raises:
        OSError: no space, no permission, no folder.
    """
    written = 0

    def describe(value: Value) -> dict[str, Any]:
        nonlocal written
        if isinstance(value, Chain):
            return {"stages": [describe(stage) for stage in value.stages]}
        array = _turned(value.array, 0, -1) if isinstance(value, Voxels) else value
        path = folder / f"{prefix}{written}.npy"
        written += 1
        np.save(path, np.ascontiguousarray(array), allow_pickle=False)
        if not isinstance(value, Voxels):
            return {"file": path.name}
        return {
            "file": path.name,
            "ijk_to_ras": value.geometry.ijk_to_ras.tolist(),
            "size_ijk": value.geometry.size_ijk,
            "name": value.name,
            "structures": value.structures,
            "channel_names": value.channel_names,
        }

    return {name: describe(value) for name, value in values.items()}


def _turned(array: np.ndarray, source: int, destination: int) -> np.ndarray:
    """The components of [C, K, J, I] at the end, or back at the start; other arrays as they are."""
    return np.moveaxis(array, source, destination) if array.ndim == 4 else array


def read_values(described: Mapping[str, Any], folder: Path, mapped: bool) -> dict[str, Value]:
    """What :func:`write_values` described; the files are gone from their folder afterwards.

    Args:
        mapped: map the files, read-only, instead of reading them: not on Windows, where such files cannot be removed.

    Raises:
        OSError, ValueError: a file is not there or not whole.
    """

    def value(facts: dict[str, Any]) -> Value:
        if "stages" in facts:
            return Chain(tuple(value(stage) for stage in facts["stages"]))  # type: ignore[misc]
        path = folder / facts["file"]
        array = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
        path.unlink()
        if "ijk_to_ras" not in facts:
            return array
        return Voxels(
            _turned(array, -1, 0),
            Geometry(tuple(facts["size_ijk"]), np.array(facts["ijk_to_ras"])),  # type: ignore[arg-type]
            facts["name"],
            tuple(facts["structures"]),
            tuple(facts["channel_names"]),
        )

    return {name: value(facts) for name, facts in described.items()}
