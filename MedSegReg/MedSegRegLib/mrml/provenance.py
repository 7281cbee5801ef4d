"""How a result came about, written on its node: the last step of both walks in the scene."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .guards import require_node

PREFIX = "MedSegReg."


def write_provenance(node: Any, mapping: Mapping[str, Any]) -> None:
    """Keep facts (model hash, settings, versions, device, time) as node attributes ``MedSegReg.<key>``.

    Values are written as JSON, so that they come back with their type; they are saved with the scene.

    Raises:
        NodeError: no node, or removed from its scene.
        TypeError: a value that JSON cannot hold.
    """
    require_node(node, "vtkMRMLNode")
    for key, text in {key: json.dumps(value) for key, value in mapping.items()}.items():
        node.SetAttribute(PREFIX + key, text)


def read_provenance(node: Any) -> dict[str, Any]:
    """What :func:`write_provenance` wrote, empty for a node that is not a result.

    Raises:
        NodeError: no node, or removed from its scene.
    """
    require_node(node, "vtkMRMLNode")
    names = [name for name in node.GetAttributeNames() if name.startswith(PREFIX)]
    return {name.removeprefix(PREFIX): json.loads(node.GetAttribute(name)) for name in sorted(names)}
