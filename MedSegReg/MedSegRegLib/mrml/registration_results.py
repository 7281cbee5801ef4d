"""A finished registration -> nodes of the scene, in one step: last stop of that walk in the window."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import NodeError
from ..image import Image
from ..transform import Transform
from .guards import require_node
from .provenance import read_provenance, write_provenance
from .quality_nodes import jacobian_node, write_quality
from .result_links import ROLES, linked
from .studies import place_beside
from .transform_update import update_transform
from .transforms import transform_from_node, write_transform
from .undo import one_undo_step
from .volumes import node_from_image

NODES = ("fixed", "moving", "inverse")
"""Facts that are names of nodes."""


@dataclass(frozen=True, eq=False)
class Result:
    """What a registration found.

    Attributes:
        transform, inverse: fixed to moving RAS, and back.
        facts: plain data, for the nodes' attributes: how it came about, and how good it is (see
            :func:`.quality_nodes.write_quality`).
        resampled: the moving image on the fixed grid, if it was asked for.
        jacobian: local volume change on a grid, if it was asked for.
    """

    transform: Transform
    inverse: Transform
    facts: Mapping[str, Any]
    resampled: Image | None = None
    jacobian: Image | None = None


def write_registration(result: Result, fixed: Any, moving: Any, output: Any = None) -> Any:
    """Add the nodes of a result, in one undo step, in the subject hierarchy beside the fixed volume.

    They are named after both volumes: the transform "moving to fixed", its inverse, a table "... quality", and the
    volumes "moving on fixed" and "... volume change".

    Args:
        fixed, moving: the volumes that were registered.
        output: the transform of an earlier result, to be written anew with its inverse and table; what is placed
            under it moves.

    Returns:
        The transform node: what is placed under it moves onto the fixed volume. It refers to the other nodes, see
        :func:`linked`.

    Raises:
        NodeError: a volume has left the scene.
    """
    for volume in (fixed, moving):
        require_node(volume, "vtkMRMLScalarVolumeNode")
    scene, names = fixed.GetScene(), (moving.GetName(), fixed.GetName())
    if output is not None and output.GetScene() is not scene:
        output = None
    earlier_inverse, earlier_table = linked(output, "inverse"), linked(output, "quality")
    with one_undo_step(scene):
        node = _write(result.transform, scene, "{} to {}".format(*names), output)
        back = _write(result.inverse, scene, "{1} to {0}".format(*names), earlier_inverse)
        for one in (node, back):
            write_provenance(one, {**result.facts, "fixed": names[1], "moving": names[0]})
        write_provenance(node, {"inverse": back.GetName()})
        table = write_quality(result.facts, scene, f"{node.GetName()} quality")
        if earlier_table is not None:
            scene.RemoveNode(earlier_table)
        for role, target in zip(ROLES.values(), (fixed, moving, back, table), strict=True):
            node.SetNodeReferenceID(role, target.GetID())
        made = [node, back, table]
        if result.resampled is not None:
            made.append(node_from_image(result.resampled, scene, "{} on {}".format(*names)))
            _show_like(made[-1], moving)
        if result.jacobian is not None:
            made.append(jacobian_node(result.jacobian, scene, "{} to {} volume change".format(*names)))
        for one in made:
            place_beside(one, fixed)
    return node


def read_registration(node: Any) -> Result:
    """What was written: ``write_registration(read_registration(node), fixed, moving, node)`` changes nothing.

    Raises:
        NodeError: not the transform of a result, or its inverse was removed.
    """
    inverse = linked(node, "inverse")
    if inverse is None:
        raise NodeError(
            f"'{node.GetName()}' has no inverse", "a result of a registration with its inverse", "register again"
        )
    facts = {name: fact for name, fact in read_provenance(node).items() if name not in NODES}
    return Result(transform_from_node(node), transform_from_node(inverse), facts)


def _write(transform: Transform, scene: Any, name: str, earlier: Any) -> Any:
    return write_transform(transform, scene, name) if earlier is None else update_transform(earlier, transform)


def _show_like(node: Any, original: Any) -> None:
    display, like = node.GetDisplayNode(), original.GetDisplayNode()
    if like is not None:
        display.AutoWindowLevelOff()
        display.SetWindowLevel(like.GetWindow(), like.GetLevel())
        display.SetAndObserveColorNodeID(like.GetColorNodeID())
