"""From a table of changes to its maps, chart and report: what a person looks at after a follow-up, in the scene."""

from __future__ import annotations

from typing import Any

import slicer

from .provenance import PREFIX

FOLLOW_UP = f"{PREFIX}followup"
"""Attribute of a table of changes that no other table has: for node selectors."""
ROLES = {name: f"{PREFIX}{name}" for name in ("earlier", "later", "change", "jacobian", "chart", "report")}
PLACE = ("R (mm)", "A (mm)", "S (mm)")
"""Columns of the table: where each change lies in the mid-way space."""


def link(table: Any, **nodes: Any) -> None:
    """Let a table of changes know what belongs to it; None is left out. All are saved with the scene."""
    table.SetAttribute(FOLLOW_UP, "1")
    for name, node in nodes.items():
        if node is not None:
            table.SetNodeReferenceID(ROLES[name], node.GetID())


def linked_to(table: Any, name: str) -> Any:
    """A node that belongs to a table of changes; None where there is none, or no table."""
    return None if table is None else table.GetNodeReference(ROLES[name])


def jump_to_change(table: Any, row: int) -> None:
    """Move all slice views to the change in a row."""
    place = [table.GetTable().GetValueByName(row, heading).ToDouble() for heading in PLACE]
    way = slicer.vtkMRMLSliceNode.CenteredJumpSlice
    slicer.vtkMRMLSliceNode.JumpAllSlices(table.GetScene(), *place, way)
