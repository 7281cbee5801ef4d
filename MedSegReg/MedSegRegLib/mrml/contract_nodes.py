"""What a transform node promises: into the check, and its outcome as a table node. Beside the registration walk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import vtk
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from ..geometry import Geometry
from ..transform import Displacement, Transform
from .result_links import in_own_place, linked
from .tables import write_table
from .transforms import transform_from_node
from .volumes import image_from_node

POINTS = 20_000


def read_contract_nodes(transform: Any, fixed: Any = None, moving: Any = None) -> dict[str, Any]:
    """Transforms and images by name, as the job ``check_transform`` takes them; no node is changed.

    Args:
        transform: a vtkMRMLTransformNode; all its parents belong to it.
        fixed, moving: the volumes that it is meant for, or None; their own place counts, not one under a result.

    Raises:
        NodeError, InputError, InvalidGeometry: of ``transform_from_node`` and ``image_from_node``.
    """
    with in_own_place([fixed, moving]):
        values: dict[str, Any] = {
            name: image_from_node(node) for name, node in (("fixed", fixed), ("moving", moving)) if node is not None
        }
    grid = values["fixed"].geometry if fixed is not None else None
    values["transform"] = transform_from_node(transform, grid)
    inverse = linked(transform, "inverse")
    if inverse is not None:
        values["inverse"] = transform_from_node(inverse, grid)
    return values


def slicer_disagreement_mm(node: Any, transform: Transform, grid: Geometry | None = None) -> float:
    """The largest distance between where Slicer and this library take points that lie inside all displacement grids.

    Args:
        node: a vtkMRMLTransformNode.
        transform: what was read of it.
        grid: where to look; None takes the first displacement grid, else 100 mm around the origin.
    """
    points = _points(transform, grid)
    inside, moved = np.ones(len(points), bool), points
    for stage in transform.stages:
        if isinstance(stage, Displacement):
            voxels = stage.geometry.map_points(moved)
            inside &= ((voxels >= 0) & (voxels <= np.array(stage.geometry.size_ijk) - 1)).all(axis=1)
        moved = stage.map_points(moved)
    if not inside.any():
        return 0.0
    from_world, taken, given = vtk.vtkGeneralTransform(), vtk.vtkPoints(), vtk.vtkPoints()
    node.GetTransformFromWorld(from_world)
    given.SetData(numpy_to_vtk(points[inside], deep=True))
    taken.SetDataTypeToDouble()
    from_world.TransformPoints(given, taken)
    return float(np.linalg.norm(vtk_to_numpy(taken.GetData()) - moved[inside], axis=1).max())


def write_contract(facts: Mapping[str, Any], slicer_mm: float, scene: Any, name: str) -> Any:
    """Add a vtkMRMLTableNode with the columns Measure and Value.

    Args:
        facts: as the job ``check_transform`` gives them.
        slicer_mm: of :func:`slicer_disagreement_mm`.
    """
    error, folding, support, way = (facts[name] for name in ("inverse", "folding", "support", "direction"))
    rows = {f"Stage {number}": stage for number, stage in enumerate(facts["stages"], 1)}
    rows["Points, images and ITK agree to (mm)"] = f"{facts['points_and_images_mm']:.4f}"
    rows["Slicer agrees to (mm)"] = f"{slicer_mm:.4f}"
    for what, key in (("mean", "mean_mm"), ("99 %", "p99_mm"), ("largest", "max_mm")):
        rows[f"Inverse error, {what} (mm)"] = f"{error[key]:.3f}"
    if folding is not None:
        rows["Folded voxels"] = str(folding["voxels_any_corner"])
    if support is not None:
        box = zip("RAS", support["lowest_ras_mm"], support["highest_ras_mm"], strict=True)
        rows["Extent of the field (mm)"] = ", ".join(f"{axis} {low:.0f} to {high:.0f}" for axis, low, high in box)
        rows["Fixed points in the field (%)"] = f"{100 * support['covered']:.1f}"
        rows["Longest vector on its border (mm)"] = f"{support['border_mm']:.2f}"
    if way is not None:
        for what in ("through", "without", "reversed"):
            rows[f"Alikeness, {what}"] = f"{way[what]:.3f}"
    return write_table(scene, name, {"Measure": list(rows), "Value": list(rows.values())})


def _points(transform: Transform, grid: Geometry | None) -> np.ndarray:
    """[N, 3] RAS mm, evenly over a grid, in fixed space."""
    if grid is None:
        dense = [stage for stage in transform.stages if isinstance(stage, Displacement)]
        grid = dense[0].geometry if dense else Geometry.from_spacing((21, 21, 21), (10.0,) * 3, (-100.0,) * 3)
    step = max(1, round((np.prod(grid.size_ijk) / POINTS) ** (1 / 3)))
    i, j, k = (np.arange(0, size, step) for size in grid.size_ijk)
    return grid.map_voxels(np.stack(np.meshgrid(i, j, k, indexing="ij"), axis=-1).reshape(-1, 3))
