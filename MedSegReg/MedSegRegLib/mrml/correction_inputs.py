"""A result and what was placed to put it right -> arguments and values of a correction: first stop of that walk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..errors import NodeError
from .points import paired_points
from .provenance import read_provenance
from .result_links import in_own_place, linked
from .shared_labels import labels_of_node, mask_of_node
from .transforms import transform_from_node
from .volumes import image_from_node

BENDS = "deformable"  # taken for results of settings without a deformable part


@dataclass(frozen=True)
class CorrectionNodes:
    """Nodes of one scene; all but the transform may be None, and of points both or none are given.

    Attributes:
        transform: of a result.
        fixed_points, moving_points: markups lists, row by row the same place; moving points under the transform are
            where the moving study shows them.
        rigid, ignore: segmentations or label maps on the fixed volume.
    """

    transform: Any
    fixed_points: Any = None
    moving_points: Any = None
    rigid: Any = None
    ignore: Any = None

    def read(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """(plain arguments, images, labels and transform by name), copied, as the job ``correct`` takes them.

        Raises:
            NodeError: not a result, or one of its volumes was removed.
            InputError: a node that cannot be used, or points that do not pair up.
        """
        fixed, moving = (linked(self.transform, name) for name in ("fixed", "moving"))
        if fixed is None or moving is None:
            raise NodeError(
                "A volume of this registration was removed", "the fixed and the moving volume", "register again"
            )
        arguments: dict[str, Any] = {}
        if self.fixed_points is not None:
            _, here, there = paired_points(self.fixed_points, self.moving_points, self.transform)
            arguments |= {"fixed_points": here.tolist(), "moving_points": there.tolist()}
        settings = read_provenance(self.transform)["settings"]
        arguments |= {"settings": settings} if settings["deformable"] else {"preset": BENDS}
        with in_own_place([fixed, moving, self.rigid, self.ignore]):
            images = {"fixed": image_from_node(fixed), "moving": image_from_node(moving)}
            grid = images["fixed"].geometry
            values = {**images, "transform": transform_from_node(self.transform, grid)}
            if self.rigid is not None:
                values["rigid"] = labels_of_node(self.rigid, grid)
            if self.ignore is not None:
                values["ignore"] = mask_of_node(self.ignore, grid)
        return arguments, values
