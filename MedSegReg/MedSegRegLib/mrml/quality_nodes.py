"""What a registration says about itself -> a table node, and its local volume change -> a coloured volume node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..image import Image
from .color_tables import color_table
from .tables import write_table
from .volumes import node_from_image

COLORS = "MedSegReg local volume change"
FOLDED = (0.85, 0.0, 0.85)
SHADES = {  # volume ratio -> colour: smaller is blue, unchanged white, larger red
    0.0: (0.02, 0.19, 0.38),
    0.5: (0.13, 0.40, 0.67),
    0.8: (0.57, 0.77, 0.87),
    1.0: (0.97, 0.97, 0.97),
    1.25: (0.96, 0.65, 0.51),
    1.6: (0.70, 0.09, 0.17),
    2.0: (0.40, 0.0, 0.12),
}
WHEN = ("before", "after")


def write_quality(facts: Mapping[str, Any], scene: Any, name: str) -> Any:
    """Add a vtkMRMLTableNode with the columns Measure, Before, After.

    Args:
        facts: as the job ``register`` gives them: ``quality``, most fields of ``register.quality.Quality``;
            ``landmarks_mm``, before and after, or None; ``dice``, before and after by name of the structure.
    """
    quality, points = facts["quality"], facts["landmarks_mm"]
    rows: list[tuple[str, ...]] = [
        (f"Similarity ({quality['similarity']})", _number(quality["before"]), _number(quality["after"]))
    ]
    if points is not None:
        rows.append(("Distance of points (mm)", *(f"{points[when]:.2f}" for when in WHEN)))
    rows += [(f"Dice, {name}", *(_number(dice[when]) for when in WHEN)) for name, dice in facts["dice"].items()]
    rows += [(what, "", fact) for what, fact in _facts(quality).items()]
    return write_table(scene, name, dict(zip(("Measure", "Before", "After"), zip(*rows, strict=True), strict=True)))


def jacobian_node(jacobian: Image, scene: Any, name: str) -> Any:
    """Add the volume of a Jacobian determinant (1 keeps the volume), shown from 0 to 2 with :func:`jacobian_colors`."""
    node = node_from_image(jacobian, scene, name)
    display = node.GetDisplayNode()
    display.SetAndObserveColorNodeID(jacobian_colors(scene).GetID())
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(min(SHADES), max(SHADES))
    return node


def jacobian_colors(scene: Any) -> Any:
    """The scene's colour table for Jacobian determinants, made at the first call.

    It spans 0 to 2: blue shrinks, white keeps its volume, red grows; its first entry, for 0 and below, is magenta:
    there the map folds.
    """
    return color_table(scene, COLORS, SHADES, lowest=FOLDED)


def _facts(quality: Mapping[str, Any]) -> dict[str, str]:
    """What has no before."""
    folding, facts = quality["folding"], {"Fixed inside moving (%)": f"{100 * quality['overlap']:.1f}"}
    if folding is not None:
        facts |= {
            "Folded voxels": str(folding["voxels_any_corner"]),
            "SD of log Jacobian": f"{quality['sdlogj']:.3f}",
            "Deformation, mean (mm)": f"{quality['mean_motion_mm']:.2f}",
            "Deformation, largest (mm)": f"{quality['largest_motion_mm']:.2f}",
        }
    inverse = quality["inverse_consistency"]
    return facts | {
        "Inverse error, mean (mm)": f"{inverse['mean_mm']:.3f}",
        "Inverse error, largest (mm)": f"{inverse['max_mm']:.3f}",
    }


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
