"""Volume node -> Image or Labels in world RAS, and Image -> volume node: first and last stop in the scene."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk

from ..errors import ComponentCount, InputError
from ..geometry import Geometry
from ..image import Image, Labels, Structure
from ..terminology import generic_structure
from .guards import require_image_volume, require_node, require_scalar_voxels


def geometry_of_node(node: Any) -> Geometry:
    """The grid of a volume node in world RAS mm, its linear parent transforms multiplied in; shear is kept.

    Raises:
        NodeError, EmptyVolume: no node, or no voxels.
        InputError: under a non-linear transform.
        InvalidGeometry: NaN, zero spacing or a singular matrix.
    """
    require_node(node, "vtkMRMLVolumeNode")
    require_scalar_voxels(node)
    ijk_to_local = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(ijk_to_local)
    matrix = world_matrix(node) @ slicer.util.arrayFromVTKMatrix(ijk_to_local)
    return geometry_of_extent(node.GetImageData().GetExtent(), matrix)


def world_matrix(node: Any) -> np.ndarray:
    """4x4 float64 matrix from the coordinates of a transformable node to world RAS mm, identity without a parent.

    Raises:
        InputError: a non-linear transform lies above the node.
    """
    parent = node.GetParentTransformNode()
    if parent is None:
        return np.eye(4)
    if not parent.IsTransformToWorldLinear():
        raise InputError(
            f"The node '{node.GetName()}' is under the non-linear transform '{parent.GetName()}'",
            "no transform or a linear one",
            "harden first: right-click the node in the Data module and choose 'Harden transform'",
        )
    matrix = vtk.vtkMatrix4x4()
    parent.GetMatrixTransformToWorld(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def geometry_of_extent(extent: tuple[int, ...], ijk_to_ras: np.ndarray) -> Geometry:
    """The grid of a VTK image: ``extent`` (i0, i1, j0, j1, k0, k1), inclusive, need not start at 0."""
    start, stop = np.array(extent[::2]), np.array(extent[1::2])
    size = stop - start + 1
    matrix = np.array(ijk_to_ras, np.float64)
    matrix[:3, 3] += matrix[:3, :3] @ start
    return Geometry((int(size[0]), int(size[1]), int(size[2])), matrix)


def image_from_node(node: Any) -> Image:
    """A copy of the intensities of a volume node, [1, K, J, I] float32, on its grid in world RAS.

    The copy stays valid when the node is changed or removed later.

    Raises:
        NodeError, ComponentCount, NotAnImage, EmptyVolume, InputError, InvalidGeometry: as in
            :func:`.guards.require_image_volume` and :func:`geometry_of_node`.
    """
    require_image_volume(node)
    geometry = geometry_of_node(node)
    return Image.from_array(slicer.util.arrayFromVolume(node), geometry, node.GetName() or "")


def labels_from_node(node: Any) -> Labels:
    """A copy of a label map node, with the names and colours of its colour table.

    Raises:
        NodeError, EmptyVolume, InvalidGeometry: as for images.
        InputError: values that are not whole numbers, or a non-linear parent.
    """
    require_node(node, "vtkMRMLLabelMapVolumeNode")
    geometry = geometry_of_node(node)
    array = slicer.util.arrayFromVolume(node)
    display = node.GetDisplayNode()
    colors = display.GetColorNode() if display is not None else None
    values = [int(value) for value in np.unique(array) if value > 0]
    structures = tuple(_structure(value, colors) for value in values)
    return Labels.from_array(array, geometry, structures, node.GetName() or "")


def node_from_image(image: Image, scene: Any, name: str) -> Any:
    """Add a vtkMRMLScalarVolumeNode (float32) with a display node to the scene; the image is copied.

    Raises:
        ComponentCount: the image has more than one channel.
    """
    channels = image.numpy()
    if len(channels) != 1:
        raise ComponentCount(
            f"The image '{image.name}' has {len(channels)} channels",
            "one channel",
            "write each channel as a volume of its own",
        )
    node = slicer.vtkMRMLScalarVolumeNode()
    node.SetName(name)
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(image.geometry.ijk_to_ras))
    node.SetAndObserveImageData(vtk_image(channels[0]))
    scene.AddNode(node)
    node.CreateDefaultDisplayNodes()
    return node


def vtk_image(array: np.ndarray, image: Any = None, copy: bool = True) -> Any:
    """[K, J, I] or [K, J, I, 3] as the voxels of ``image`` (a new vtkImageData when None), with no place in the world.

    Args:
        copy: False lets both share their memory where the order allows, which VTK keeps alive.
    """
    image = vtk.vtkImageData() if image is None else image
    image.SetDimensions(array.shape[2], array.shape[1], array.shape[0])
    flat = np.ascontiguousarray(array).reshape(-1, *array.shape[3:])
    image.GetPointData().SetScalars(numpy_to_vtk(flat, deep=copy))
    return image


def _structure(value: int, colors: Any) -> Structure:
    rgba = [0.0] * 4
    if colors is None or not colors.GetColor(value, rgba):
        return generic_structure(value)
    return Structure(value, colors.GetColorName(value) or f"label {value}", (rgba[0], rgba[1], rgba[2]))
