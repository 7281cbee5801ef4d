"""What the algorithms work on: an image and a label map, each a tensor on a grid. Second stop of both walks.

Tensors are ``[C, K, J, I]`` (image) and ``[K, J, I]`` (labels); k is the slowest voxel axis, as in Slicer. torch is
imported when one is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from .errors import DimensionError, GeometryMismatch, InputError
from .geometry import Geometry
from .report import Finding
from .tensor_field import TensorField, as_array, held

if TYPE_CHECKING:
    import torch

EXACT_FLOAT32_INTEGERS = 2**24


@dataclass(frozen=True)
class Code:
    """A coded concept, e.g. ``Code("SCT", "10200004", "Liver")``."""

    scheme: str
    value: str
    meaning: str


@dataclass(frozen=True)
class Structure:
    """One label of a label map.

    Attributes:
        value: voxel value, 1 or more.
        name: shown to people.
        color: red, green, blue in 0..1.
        code: anatomical or finding code (SNOMED CT), if known.
        category: code of its kind (anatomical structure, lesion, ...).
        modifier: laterality or subpart code, if any.
    """

    value: int
    name: str
    color: tuple[float, float, float] = (0.5, 0.7, 0.9)
    code: Code | None = None
    category: Code = Code("SCT", "123037004", "Anatomical Structure")
    modifier: Code | None = None


@dataclass(frozen=True, eq=False)
class Image:
    """Intensities on a grid.

    Attributes:
        tensor: [C, K, J, I] float32; may be given as an array.
        geometry: the grid that all channels share.
        name: of the study or node; for outputs and messages, never parsed.
        channel_names: one a channel, may be empty strings.
        findings: what was noticed while it was read; the check battery passes them on.

    Raises:
        GeometryMismatch: tensor and grid do not fit.
        InputError: the tensor is not floating point.
    """

    tensor: TensorField = TensorField()  # noqa: RUF009 - a descriptor
    geometry: Geometry  # type: ignore[misc] # mypy takes the field before for a default
    name: str = ""
    channel_names: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()

    def __post_init__(self) -> None:
        values = held(self, "tensor")
        _require_fit(tuple(values.shape[1:]), self.geometry, "image")
        if not _is_floating_point(values):
            raise InputError(f"The image tensor has type {values.dtype}", "float32", "use Image.from_array")

    @classmethod
    def from_array(
        cls,
        array: np.ndarray,
        geometry: Geometry,
        name: str = "",
        channel_names: tuple[str, ...] = (),
        findings: tuple[Finding, ...] = (),
    ) -> Image:
        """From [K, J, I] or [C, K, J, I] of any real type, byte order and memory layout; always copies.

        Integers beyond 2^24 cannot all be held by float32: that is added as a warning.
        """
        array = np.asarray(array)
        if array.ndim not in (3, 4):
            raise DimensionError(
                f"The array has {array.ndim} axes, shape {array.shape}",
                "[K, J, I] or [C, K, J, I]",
                "choose one frame or one volume",
            )
        if array.dtype.kind not in "biuf":
            raise InputError(f"The voxels have type {array.dtype}", "real numbers", "convert the image to a real type")
        whole = array.size and array.dtype.kind in "iu"
        largest = max(abs(int(array.max())), abs(int(array.min()))) if whole else 0
        if largest > EXACT_FLOAT32_INTEGERS:
            findings = (
                *findings,
                Finding.warn(
                    f"Integers up to {largest} are rounded (float32 is exact up to {EXACT_FLOAT32_INTEGERS})",
                    "Rescale the image if small differences between large values matter.",
                ),
            )
        with np.errstate(over="ignore"):  # beyond float32 becomes infinite, which the check battery refuses
            data = np.array(array if array.ndim == 4 else array[None], dtype=np.float32, order="C", copy=True)
        return cls(data, geometry, name, channel_names, findings)

    def numpy(self) -> np.ndarray:
        """[C, K, J, I] float32 on the CPU."""
        return as_array(self, "tensor")

    def with_tensor(self, tensor: torch.Tensor) -> Image:
        """The same place and name with other intensities."""
        return replace(self, tensor=tensor)


@dataclass(frozen=True, eq=False)
class Labels:
    """A label map on a grid; 0 is background.

    Attributes:
        tensor: [K, J, I] integer (uint8 up to 255 labels, else int32); may be given as an array.
        geometry: its grid.
        structures: what the values mean.
        name: of the result.
    """

    tensor: TensorField = TensorField()  # noqa: RUF009 - a descriptor
    geometry: Geometry  # type: ignore[misc] # as above
    structures: tuple[Structure, ...] = field(default=())
    name: str = ""

    def __post_init__(self) -> None:
        values = held(self, "tensor")
        _require_fit(tuple(values.shape), self.geometry, "label map")
        if _is_floating_point(values):
            raise InputError(f"The label map has type {values.dtype}", "integers", "round the labels first")

    @classmethod
    def from_array(
        cls, array: np.ndarray, geometry: Geometry, structures: tuple[Structure, ...] = (), name: str = ""
    ) -> Labels:
        """From [K, J, I] of any real type that holds whole numbers 0..2147483647; always copies.

        Raises:
            InputError: fractions, negative, non-finite or too large values: nothing is wrapped around.
        """
        array = np.asarray(array)
        if array.dtype.kind not in "biuf" or (array.dtype.kind == "f" and not np.array_equal(array, np.rint(array))):
            raise InputError(
                f"The label map has type {array.dtype} with values that are not whole numbers",
                "whole numbers",
                "use the label map, not an image or a probability map",
            )
        low, high = (array.min().item(), array.max().item()) if array.size else (0, 0)
        if low < 0 or high > 2**31 - 1:
            raise InputError(
                f"Label values run from {low:.10g} to {high:.10g}", "0 to 2147483647", "renumber the labels"
            )
        data = np.array(array, dtype=np.uint8 if high <= 255 else np.int32, order="C", copy=True)
        return cls(data, geometry, structures, name)

    def numpy(self) -> np.ndarray:
        """[K, J, I] integers on the CPU."""
        return as_array(self, "tensor")


def _is_floating_point(values: torch.Tensor | np.ndarray) -> bool:
    return values.dtype.kind == "f" if isinstance(values, np.ndarray) else values.is_floating_point()


def _require_fit(shape_kji: tuple[int, ...], geometry: Geometry, what: str) -> None:
    if shape_kji != geometry.shape_kji:
        raise GeometryMismatch(
            f"The {what} has shape {shape_kji} (K, J, I)",
            f"{geometry.shape_kji} as its grid",
            "give the grid that belongs to these voxels",
        )
