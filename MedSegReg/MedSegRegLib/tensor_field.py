"""How an image, a label map and a displacement keep their values: below both walks.

Slicer's window reads and writes nodes but computes nothing, and torch takes seconds to import: there values are arrays
from one end to the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

import numpy as np

if TYPE_CHECKING:
    import torch


class TensorField:
    """A field of a dataclass: set to a tensor or an array, read as a tensor.

    An array becomes a tensor when it is first read, and torch is not imported before. They share their memory, unless
    the array lies in another order or cannot be written.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __set__(self, instance: Any, value: torch.Tensor | np.ndarray) -> None:
        vars(instance)[self._name] = value

    @overload
    def __get__(self, instance: None, owner: type) -> TensorField: ...

    @overload
    def __get__(self, instance: object, owner: type) -> torch.Tensor: ...

    def __get__(self, instance: object | None, owner: type) -> torch.Tensor | TensorField:
        if instance is None:
            raise AttributeError(self._name)  # the field has no default
        value = vars(instance)[self._name]
        if isinstance(value, np.ndarray):
            import torch  # noqa: PLC0415 - see above

            value = vars(instance)[self._name] = torch.from_numpy(np.require(value, requirements=["C", "W"]))
        return value


def held(instance: object, name: str) -> torch.Tensor | np.ndarray:
    """What a tensor field holds, as it is: to look at its shape or type."""
    return vars(instance)[name]


def as_array(instance: object, name: str) -> np.ndarray:
    """What a tensor field holds, as an array on the CPU; without a copy where it is there already."""
    value = held(instance, name)
    return value if isinstance(value, np.ndarray) else value.detach().cpu().numpy()
