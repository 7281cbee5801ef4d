"""Two segmentations -> two label maps in which one name has one value: for guiding by labels, and for evaluation."""

from __future__ import annotations

from typing import Any

from ..errors import InputError
from ..geometry import Geometry
from ..image import Labels, Structure
from .guards import require_node
from .label_grids import renumbered, values_on_grid
from .segmentations import labels_from_segmentation
from .volumes import labels_from_node


def labels_of_node(node: Any, geometry: Geometry) -> Labels:
    """A segmentation node, or a label map node, on a grid in world RAS: nearest voxel, 0 outside.

    Raises:
        NodeError: neither of them. InputError, EmptyVolume, InvalidGeometry: no label map can be made of it.
    """
    require_node(node, "vtkMRMLNode")
    if node.IsA("vtkMRMLLabelMapVolumeNode"):
        labels = labels_from_node(node)
        array = values_on_grid(labels.numpy(), labels.geometry, geometry)
        return Labels(array, geometry, labels.structures, labels.name)
    return labels_from_segmentation(node, geometry)


def shared_labels(first: Any, second: Any, first_grid: Geometry, second_grid: Geometry) -> tuple[Labels, Labels]:
    """Two nodes as label maps whose structures of one name have one value; names only one of them has keep theirs.

    Args:
        first, second: segmentation or label map nodes.

    Raises:
        NodeError, InputError, EmptyVolume, InvalidGeometry: of :func:`labels_of_node`.
        InputError: one of them has two structures of one name.
    """
    both = labels_of_node(first, first_grid), labels_of_node(second, second_grid)
    names = list(dict.fromkeys(structure.name for labels in both for structure in labels.structures))
    return _renumbered(both[0], names), _renumbered(both[1], names)


def mask_of_node(node: Any, geometry: Geometry) -> Labels:
    """All that a segmentation or label map marks, as 1, on a grid.

    Raises:
        NodeError, InputError, EmptyVolume, InvalidGeometry: of :func:`labels_of_node`.
    """
    labels = labels_of_node(node, geometry)
    return Labels.from_array(labels.numpy() > 0, geometry, (Structure(1, "mask"),), labels.name)


def _renumbered(labels: Labels, names: list[str]) -> Labels:
    own = [structure.name for structure in labels.structures]
    if len(set(own)) < len(own):
        raise InputError(
            f"'{labels.name}' has the structures {', '.join(own)}", "each name once", "rename or remove segments"
        )
    numbers = {structure.value: names.index(structure.name) + 1 for structure in labels.structures}
    structures = tuple(Structure(numbers[s.value], s.name, s.color, s.code) for s in labels.structures)
    return Labels(renumbered(labels.numpy(), numbers), labels.geometry, structures, labels.name)
