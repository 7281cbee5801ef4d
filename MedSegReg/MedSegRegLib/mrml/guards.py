"""What a node must be before anything is read from it or written to it: the first step of the bridge."""

from __future__ import annotations

from typing import Any

from ..errors import ComponentCount, EmptyVolume, NodeError, NotAnImage

VECTOR_CLASSES = ("vtkMRMLTensorVolumeNode", "vtkMRMLDiffusionWeightedVolumeNode")


def require_node(node: Any, class_name: str) -> None:
    """Refuse anything but a node of this class that is in a scene.

    Raises:
        NodeError: None, not a node, of another class, or removed from its scene.
    """
    if node is None:
        raise NodeError("No node was given", f"a {class_name}", "select a node")
    if not hasattr(node, "GetScene") or not node.IsA(class_name):
        found = node.GetClassName() if hasattr(node, "GetClassName") else type(node).__name__
        raise NodeError(f"The node is a {found}", f"a {class_name}", "select a node of this type")
    if node.GetScene() is None:
        raise NodeError(
            f"The node '{node.GetName()}' was removed from its scene",
            "a node that is in a scene",
            "select a node that still exists, or load it again",
        )


def require_image_volume(node: Any) -> None:
    """Refuse volume nodes that do not hold one intensity a voxel.

    A vector volume calls itself a scalar volume in MRML, so the class alone does not tell.

    Raises:
        NodeError: see :func:`require_node`.
        ComponentCount: vector, RGB, diffusion or tensor volume.
        NotAnImage: a label map.
        EmptyVolume: no voxels.
    """
    require_node(node, "vtkMRMLScalarVolumeNode")
    if node.IsA("vtkMRMLLabelMapVolumeNode"):
        raise NotAnImage(
            f"The node '{node.GetName()}' is a label map",
            "an image with intensities",
            "select the image, or convert the label map to a scalar volume if it really holds intensities",
        )
    require_scalar_voxels(node)


def require_scalar_voxels(node: Any) -> None:
    """Refuse a volume node without voxels or with more than one value a voxel (ComponentCount, EmptyVolume)."""
    image_data = node.GetImageData()
    count = (
        0
        if image_data is None or image_data.GetPointData().GetScalars() is None
        else image_data.GetNumberOfScalarComponents()
    )
    if any(node.IsA(name) for name in VECTOR_CLASSES) or count > 1:
        raise ComponentCount(
            f"The node '{node.GetName()}' is a {node.GetClassName()} with {count} components a voxel",
            "one component",
            "convert it to a scalar volume, or choose one component or frame",
        )
    if count == 0 or image_data.GetNumberOfPoints() == 0:
        raise EmptyVolume(
            f"The node '{node.GetName()}' has no voxels",
            "a volume with image data",
            "load the image again, or select another volume",
        )
