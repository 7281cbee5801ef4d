"""Where a result stands in the subject hierarchy: in the study of what it was made from. Beside both walks.

Outside Slicer's window nothing gives nodes a place in the hierarchy, so a reference without one is no fault.
"""

from __future__ import annotations

from typing import Any

import slicer

INSTANCE_UIDS = "DICOM.instanceUIDs"


def place_beside(node: Any, reference: Any) -> None:
    """Put a result into the study of a volume, and keep the reference to the DICOM instances that it came from.

    Args:
        node: a result, in a scene.
        reference: what it was made from; nothing happens when it is None, left the scene, or has no place itself.
    """
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(node.GetScene())
    source = _item(hierarchy, reference)
    if source is None or reference.GetScene() is not node.GetScene():
        return
    parent = hierarchy.GetItemParent(source)
    item = _item(hierarchy, node) or hierarchy.CreateItem(parent, node)
    hierarchy.SetItemParent(item, parent)
    instances = reference.GetAttribute(INSTANCE_UIDS)
    if instances:
        name = slicer.vtkMRMLSubjectHierarchyConstants.GetDICOMReferencedInstanceUIDsAttributeName()
        hierarchy.SetItemAttribute(item, name, instances)


def modality_of(node: Any) -> str:
    """The DICOM modality of a volume node ("MR", "CT", ...), empty where its study does not say."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(node.GetScene())
    item = _item(hierarchy, node)
    if item is None:
        return ""
    name = slicer.vtkMRMLSubjectHierarchyConstants.GetDICOMSeriesModalityAttributeName()
    return str(hierarchy.GetItemAttribute(item, name) or "")


def _item(hierarchy: Any, node: Any) -> int | None:
    """The node's item, None where it has none."""
    if hierarchy is None or node is None:
        return None
    item = hierarchy.GetItemByDataNode(node)
    return item if item != hierarchy.GetInvalidItemID() else None
