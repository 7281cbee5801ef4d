"""Transform <-> transform nodes: the last stop of the registration walk, and the first when one is applied.

Everywhere fixed RAS -> moving RAS, which Slicer calls *from parent*: the moving volume is placed under the node.
In a chain the stage that the fixed point meets first is the outermost parent, because Slicer goes from the world
inwards.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from ..errors import InputError
from ..geometry import Geometry
from ..transform import Affine, Displacement, Transform
from .guards import require_node
from .volumes import geometry_of_extent, vtk_image

IDENTITY = Affine(np.eye(4))


def write_transform(transform: Transform, scene: Any, name: str) -> Any:
    """Add the nodes of a transform in one undo step and return the innermost: place the moving volume under it.

    An affine stage becomes a vtkMRMLLinearTransformNode, a dense stage a vtkMRMLGridTransformNode with linear
    interpolation. Inside a grid all of Slicer, ITK and :meth:`Transform.map_points` agree; outside it ITK and we
    stop moving, while VTK goes on with the vector of the border. Inverses are written from the inverse Transform.

    Args:
        transform: fixed -> moving RAS mm; no stage gives an identity node.
        scene: the scene to add to.
        name: of the innermost node; outer ones add "stage n of N".
    """
    stages = transform.stages or (IDENTITY,)
    nodes = [_linear_node(stage) if isinstance(stage, Affine) else _grid_node(stage) for stage in stages]
    scene.SaveStateForUndo()
    parent = None
    for number, node in enumerate(nodes, start=1):
        node.SetName(name if number == len(nodes) else f"{name} (stage {number} of {len(nodes)})")
        node.UndoEnabledOn()
        scene.AddNode(node)
        if parent is not None:
            node.SetAndObserveTransformNodeID(parent.GetID())
        parent = node
    return parent


def write_flat_transform(transform: Transform, grid: Geometry, scene: Any, name: str) -> Any:
    """Add one grid transform node for a whole chain, sampled at the voxels of ``grid``; exact at these points."""
    return write_transform(Transform((transform.to_displacement(grid),)), scene, name)


def transform_from_node(node: Any, grid: Geometry | None = None) -> Transform:
    """World -> local transform of a node and all its parents: where a point of the fixed image lies in the moving one.

    Linear and grid nodes are taken over exactly (a grid is read with linear interpolation, as ITK does; Slicer
    itself uses cubic for grids that come from a file). Any other kind (B-spline, thin plate, the numerically
    inverted side of a grid, hardened chains) makes the whole chain one dense field on ``grid``.

    Args:
        node: a vtkMRMLTransformNode.
        grid: the fixed image's grid, needed only for other kinds.

    Raises:
        NodeError: no transform node.
        InputError: a grid transform without a grid, or another kind and ``grid`` is None.
        InvalidGeometry: a singular or non-finite matrix.
    """
    require_node(node, "vtkMRMLTransformNode")
    chain = [node]
    while chain[0].GetParentTransformNode() is not None:
        chain.insert(0, chain[0].GetParentTransformNode())
    stages = [_stage(member) for member in chain]
    exact = tuple(stage for stage in stages if stage is not None)
    if len(exact) == len(stages):
        return Transform(exact)
    if grid is None:
        other = chain[stages.index(None)]
        raise InputError(
            f"The transform '{other.GetName()}' is neither linear nor a displacement grid",
            "a grid on which it can be sampled",
            "give the fixed image's geometry as grid",
        )
    return Transform((_sample(node, grid),))


def _linear_node(stage: Affine) -> Any:
    node = slicer.vtkMRMLLinearTransformNode()
    node.SetMatrixTransformFromParent(slicer.util.vtkMatrixFromArray(stage.matrix))
    return node


def _grid_node(stage: Displacement) -> Any:
    image = vtk_image(np.moveaxis(stage.numpy(), 0, -1), copy=False)
    image.SetSpacing(*stage.geometry.spacing_mm)
    image.SetOrigin(*stage.geometry.origin_ras)
    directions = np.eye(4)
    directions[:3, :3] = stage.geometry.directions
    grid = slicer.vtkOrientedGridTransform()
    grid.SetDisplacementGridData(image)
    grid.SetGridDirectionMatrix(slicer.util.vtkMatrixFromArray(directions))
    node = slicer.vtkMRMLGridTransformNode()
    node.SetAndObserveTransformFromParent(grid)
    return node


def _stage(node: Any) -> Affine | Displacement | None:
    """The node's own transform from parent if it is linear or a grid, else None."""
    if node.IsLinear():
        matrix = vtk.vtkMatrix4x4()
        node.GetMatrixTransformFromParent(matrix)
        return Affine(slicer.util.arrayFromVTKMatrix(matrix))
    grid = node.GetTransformFromParentAs("vtkOrientedGridTransform", False, True)
    return None if grid is None else _displacement(grid, node.GetName())


def _displacement(grid: Any, name: str) -> Displacement:
    image = grid.GetDisplacementGrid()
    if image is None or image.GetNumberOfPoints() < 2:
        raise InputError(
            f"The grid transform '{name}' has no displacement grid",
            "displacement vectors on a grid",
            "load the transform again, or choose another one",
        )
    matrix = np.eye(4)
    if grid.GetGridDirectionMatrix() is not None:
        matrix[:3, :3] = slicer.util.arrayFromVTKMatrix(grid.GetGridDirectionMatrix())[:3, :3]
    matrix[:3, :3] = matrix[:3, :3] * image.GetSpacing()
    matrix[:3, 3] = image.GetOrigin()
    geometry = geometry_of_extent(image.GetExtent(), matrix)
    vectors = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(*geometry.shape_kji, 3)
    scale, shift = grid.GetDisplacementScale(), grid.GetDisplacementShift()
    vectors = vectors.copy() if (scale, shift) == (1.0, 0.0) else vectors * scale + shift
    return Displacement(np.moveaxis(vectors, -1, 0), geometry)


def _sample(node: Any, grid: Geometry) -> Displacement:
    """World -> local of a node through VTK, as a float64 field on a grid."""
    from_world = vtk.vtkGeneralTransform()
    node.GetTransformFromWorld(from_world)
    i, j, k = grid.size_ijk
    kji = np.stack(np.meshgrid(np.arange(k), np.arange(j), np.arange(i), indexing="ij"), axis=-1)
    fixed = grid.map_voxels(kji[..., ::-1])
    points, moved = vtk.vtkPoints(), vtk.vtkPoints()
    points.SetData(numpy_to_vtk(fixed.reshape(-1, 3), deep=True))
    moved.SetDataTypeToDouble()
    from_world.TransformPoints(points, moved)
    vectors = vtk_to_numpy(moved.GetData()).reshape(fixed.shape) - fixed
    return Displacement(np.moveaxis(vectors, -1, 0), grid)
