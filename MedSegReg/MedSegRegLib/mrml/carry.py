"""A segmentation, markups and models carried to another study: into the walk, and its result into the scene.

``Cargo`` says what to carry. Its :meth:`~Cargo.labels` and :meth:`~Cargo.points` go into ``workflows.carry.carry``,
in this process or in a child; what that gives comes back through :func:`write_carried`, in one undo step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from ..errors import InputError
from ..image import Labels
from ..transform import Transform
from .guards import require_image_volume, require_node
from .provenance import write_provenance
from .segmentations import labels_from_segmentation, write_segmentation
from .studies import place_beside
from .tables import write_table
from .transforms import write_transform
from .undo import one_undo_step
from .volumes import geometry_of_node

MADE_OF_POINTS = tuple(f"vtkMRMLMarkups{kind}Node" for kind in ("Fiducial", "Line", "Angle", "Curve", "ClosedCurve"))

Columns = Mapping[str, Sequence[str] | Sequence[float]]


@dataclass(frozen=True, eq=False)
class Cargo:
    """Nodes that belong to one study, and where they are wanted. Parent transforms of any kind are respected, except
    non-linear ones above volumes and segmentations.

    Attributes:
        source: the volume that they were drawn on.
        target: the volume of the other study.
        segmentation: a vtkMRMLSegmentationNode, or None.
        markups: lists, lines, angles and curves.
        models: vtkMRMLModelNode.

    Raises:
        NodeError, NotAnImage, ComponentCount, EmptyVolume: not such nodes.
        InputError: markups that would not stay what they are, as a box or a plane.
    """

    source: Any
    target: Any
    segmentation: Any = None
    markups: tuple[Any, ...] = ()
    models: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        for volume in (self.source, self.target):
            require_image_volume(volume)
        if self.segmentation is not None:
            require_node(self.segmentation, "vtkMRMLSegmentationNode")
        for model in self.models:
            require_node(model, "vtkMRMLModelNode")
        for node in self.markups:
            require_node(node, "vtkMRMLMarkupsNode")
            if node.GetClassName() not in MADE_OF_POINTS:
                raise InputError(
                    f"'{node.GetName()}' is a {node.GetClassName()}, which does not keep its shape in another study",
                    "points, a line, an angle or a curve",
                    "leave it out, or carry its corners as points",
                )

    def labels(self) -> Labels | None:
        """The segmentation on the source volume's grid; None without one.

        Raises:
            InputError: under a non-linear transform, or no label map can be made from it.
        """
        if self.segmentation is None:
            return None
        return labels_from_segmentation(self.segmentation, geometry_of_node(self.source))

    def points(self) -> np.ndarray | None:
        """[N, 3] world RAS mm: all placed control points of all markups, one after the other; None without any."""
        points = [
            node.GetNthControlPointPositionWorld(number) for node in self.markups for number in _placed_numbers(node)
        ]
        return np.array(points, np.float64) if points else None

    def point_names(self) -> list[str]:
        """The label of each of :meth:`points`."""
        return [node.GetNthControlPointLabel(number) for node in self.markups for number in _placed_numbers(node)]


@dataclass(frozen=True, eq=False)
class CarriedNodes:
    """What was added to the scene; ``tables`` in the order given, the others as in :class:`Cargo`."""

    transform: Any
    inverse: Any
    segmentation: Any
    markups: tuple[Any, ...]
    models: tuple[Any, ...]
    tables: tuple[Any, ...]


def write_carried(
    cargo: Cargo,
    transform: Transform,
    inverse: Transform,
    labels: Labels | None = None,
    tables: Mapping[str, Columns] | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> CarriedNodes:
    """Add everything that was carried to the scene, in one undo step; what it was made from stays as it is.

    Args:
        cargo: what was asked for.
        transform: target to source RAS: the source volume may be placed under its node.
        inverse: source to target RAS: markups and models go through it.
        labels: the carried segmentation, on the target's grid.
        tables: name -> columns, see :func:`.tables.write_table`.
        provenance: facts for the nodes' attributes.

    Raises:
        NodeError: a node of the cargo has left the scene.
    """
    cargo.__post_init__()  # a node may have gone while the registration ran
    scene, name = cargo.target.GetScene(), cargo.target.GetName()
    markups = [_carry_markups(node, inverse, f"{node.GetName()} on {name}") for node in cargo.markups]
    models = [_carry_model(node, inverse, f"{node.GetName()} on {name}") for node in cargo.models]
    with one_undo_step(scene):
        ways = [
            write_transform(way, scene, title)
            for way, title in (
                (transform, f"{cargo.source.GetName()} to {name}"),
                (inverse, f"{name} to {cargo.source.GetName()} (inverse)"),
            )
        ]
        segmentation = None
        if labels is not None:
            title = f"{cargo.segmentation.GetName() if cargo.segmentation else labels.name} on {name}"
            segmentation = write_segmentation(labels, scene, name=title, reference=cargo.target)
        for original, node in zip((*cargo.markups, *cargo.models), (*markups, *models), strict=True):
            _add(scene, node, original)
        written = [write_table(scene, title, columns) for title, columns in (tables or {}).items()]
        made = [*ways, *([segmentation] if segmentation else []), *markups, *models, *written]
        for node in made:
            place_beside(node, cargo.target)
            if provenance:
                write_provenance(node, provenance)
    return CarriedNodes(ways[0], ways[1], segmentation, tuple(markups), tuple(models), tuple(written))


def _placed_numbers(node: Any) -> list[int]:
    defined = slicer.vtkMRMLMarkupsNode.PositionDefined
    return [n for n in range(node.GetNumberOfControlPoints()) if node.GetNthControlPointPositionStatus(n) == defined]


def _carry_markups(node: Any, inverse: Transform, name: str) -> Any:
    copy = node.GetScene().CreateNodeByClass(node.GetClassName())
    copy.UnRegister(None)
    copy.CopyContent(node)
    copy.SetName(name)
    numbers = _placed_numbers(node)
    points = np.array([node.GetNthControlPointPositionWorld(number) for number in numbers], np.float64)
    for number, place in zip(numbers, inverse.map_points(points.reshape(-1, 3)).tolist(), strict=True):
        copy.SetNthControlPointPosition(number, place)
    return copy


def _carry_model(node: Any, inverse: Transform, name: str) -> Any:
    mesh = node.GetMesh().NewInstance()
    mesh.DeepCopy(_in_world(node))
    moved = inverse.map_points(vtk_to_numpy(mesh.GetPoints().GetData()).astype(np.float64))
    points = vtk.vtkPoints()
    points.SetData(numpy_to_vtk(moved.astype(np.float32), deep=True))
    mesh.SetPoints(points)
    if mesh.GetPointData().GetNormals() is not None:
        mesh = _with_normals(mesh)
    copy = slicer.vtkMRMLModelNode()
    copy.SetName(name)
    copy.SetAndObserveMesh(mesh)
    return copy


def _in_world(node: Any) -> Any:
    """The model's mesh in world coordinates, whatever transforms it is under."""
    if node.GetParentTransformNode() is None:
        return node.GetMesh()
    to_world = vtk.vtkGeneralTransform()
    node.GetParentTransformNode().GetTransformToWorld(to_world)
    through = vtk.vtkTransformFilter()
    through.SetInputData(node.GetMesh())
    through.SetTransform(to_world)
    through.Update()
    return through.GetOutput()


def _with_normals(mesh: Any) -> Any:
    normals = vtk.vtkPolyDataNormals()
    normals.SetInputData(mesh)
    normals.SplittingOff()
    normals.ConsistencyOff()
    normals.Update()
    return normals.GetOutput()


def _add(scene: Any, node: Any, original: Any) -> None:
    """To the scene, shown in the colours of what it was made from."""
    node.UndoEnabledOn()
    scene.AddNode(node)
    node.CreateDefaultDisplayNodes()
    display, like = node.GetDisplayNode(), original.GetDisplayNode()
    if display is not None and like is not None:
        display.SetColor(like.GetColor())
        display.SetOpacity(like.GetOpacity())
