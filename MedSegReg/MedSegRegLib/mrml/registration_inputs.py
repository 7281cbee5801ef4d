"""What a person chose in the scene -> arguments and values of a registration: first stop of that walk in the window."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from .points import paired_points
from .result_links import in_own_place
from .shared_labels import mask_of_node, shared_labels
from .transforms import transform_from_node
from .volumes import image_from_node


@dataclass(frozen=True)
class RegistrationNodes:
    """Nodes of one scene; all but the volumes may be None, and of points and segments both or none are given.

    Attributes:
        fixed, moving: scalar volumes.
        initial: a transform node to begin with.
        fixed_mask, moving_mask, fixed_segments, moving_segments: segmentations or label maps.
        fixed_points, moving_points: markups lists.
    """

    fixed: Any
    moving: Any
    initial: Any = None
    fixed_mask: Any = None
    moving_mask: Any = None
    fixed_points: Any = None
    moving_points: Any = None
    fixed_segments: Any = None
    moving_segments: Any = None

    def read(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """(plain arguments, images and labels by name), copied, as the job ``register`` takes them.

        What lies under the transform of an earlier registration is read in its own place; no node is changed.

        Raises:
            NodeError, InputError: a node that cannot be used, or points that do not pair up.
        """
        with in_own_place([getattr(self, one.name) for one in fields(self) if one.name != "initial"]):
            fixed, moving = image_from_node(self.fixed), image_from_node(self.moving)
            arguments: dict[str, Any] = {}
            values: dict[str, Any] = {"fixed": fixed, "moving": moving}
            if self.fixed_mask is not None:
                values["fixed_mask"] = mask_of_node(self.fixed_mask, fixed.geometry)
            if self.moving_mask is not None:
                values["moving_mask"] = mask_of_node(self.moving_mask, moving.geometry)
            if self.fixed_points is not None:
                _, here, there = paired_points(self.fixed_points, self.moving_points)
                arguments |= {"fixed_points": here.tolist(), "moving_points": there.tolist()}
            if self.fixed_segments is not None:
                grids = fixed.geometry, moving.geometry
                both = shared_labels(self.fixed_segments, self.moving_segments, *grids)
                values["fixed_labels"], values["moving_labels"] = both
        if self.initial is not None:
            values["initial"] = transform_from_node(self.initial, fixed.geometry)
        return arguments, values
