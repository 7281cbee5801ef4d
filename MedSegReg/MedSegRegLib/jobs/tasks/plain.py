"""The library's objects as plain JSON, and settings of plain JSON. Jobs walk: task -> [plain] -> parent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from pydantic import BaseModel, ValidationError

from ...errors import InvalidSetting

Settings = TypeVar("Settings", bound=BaseModel)


def points_of(points: Sequence[Sequence[float]] | None) -> np.ndarray | None:
    """[N, 3] float64, RAS mm; None without any.

    Raises:
        InvalidSetting: not rows of three numbers.
    """
    if not points:
        return None
    try:
        array = np.array(points, np.float64).reshape(len(points), 3)
    except (TypeError, ValueError) as error:
        raise InvalidSetting(f"The points are no list of (r, a, s): {error}", "three numbers each", "correct") from None
    return array


def settings_of(kind: type[Settings], given: dict[str, Any]) -> Settings:
    """Checked settings.

    Raises:
        InvalidSetting: unknown names, or values that are not allowed.
    """
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidSetting(
            f"The setting '{'.'.join(map(str, first['loc']))}' is not allowed: {first['msg']}",
            f"settings of {kind.__name__}",
            "correct it",
        ) from None
