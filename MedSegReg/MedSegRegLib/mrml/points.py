"""Two markups lists -> points that belong together: what a person knows before a registration, or puts right after."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer

from ..errors import InputError
from .guards import require_node

POINTS = "vtkMRMLMarkupsFiducialNode"
Placed = dict[int, tuple[str, tuple[float, float, float]]]


def paired_points(fixed: Any, moving: Any, transform: Any = None) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Points of two lists, row by row the same place, in world RAS mm; rows that neither has placed are left out.

    Args:
        fixed, moving: vtkMRMLMarkupsFiducialNode.
        transform: transform node that shows the moving study in its new place. Points of a moving list directly
            under it are taken in the moving study's own place.

    Returns:
        (names of the fixed points, fixed [N, 3], moving [N, 3]), float64.

    Raises:
        NodeError: no such nodes.
        InputError: no points, a point without its partner, or the same names in another order.
    """
    here, there = _placed(fixed, None), _placed(moving, transform)
    if here.keys() != there.keys() or not here:
        raise InputError(
            f"'{fixed.GetName()}' has {len(here)} points and '{moving.GetName()}' {len(there)}",
            "one or more rows, each with a point in both",
            "place or delete points until each has its partner in the same row",
        )
    (names, fixed_points), (moving_names, moving_points) = (zip(*rows.values(), strict=True) for rows in (here, there))
    if names != moving_names and sorted(names) == sorted(moving_names):
        raise InputError(
            "The fixed and the moving points have the same names in another order",
            "the same place in the same row of both lists",
            "sort one of the lists, or rename its points",
        )
    return list(names), np.array(fixed_points), np.array(moving_points)


def add_partners(fixed: Any, moving: Any) -> None:
    """Give each placed point that has no row in the moving list a partner there, of the same name and where it shows.

    Under a result that is where the moving study should be like the fixed one; the person then drags it to where it is.

    Raises:
        NodeError: no such nodes.
    """
    require_node(moving, POINTS)
    count = moving.GetNumberOfControlPoints()
    for row, (name, place) in _placed(fixed, None).items():
        if row >= count:
            moving.AddControlPointWorld(place, name)


def _placed(node: Any, transform: Any) -> Placed:
    """Name and place of each point that has one, by its row."""
    require_node(node, POINTS)
    beneath = transform is not None and node.GetTransformNodeID() == transform.GetID()
    place = node.GetNthControlPointPosition if beneath else node.GetNthControlPointPositionWorld
    defined = slicer.vtkMRMLMarkupsNode.PositionDefined
    rows = [n for n in range(node.GetNumberOfControlPoints()) if node.GetNthControlPointPositionStatus(n) == defined]
    return {n: (node.GetNthControlPointLabel(n), tuple(place(n))) for n in rows}
