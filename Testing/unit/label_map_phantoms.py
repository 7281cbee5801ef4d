"""Small label maps for the tests of generated examples: nested ellipsoids, left and right of a midline."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from MedSegRegLib.files import write_labels
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Labels
from MedSegRegLib.train.label_maps import LabelRoles

SKIN, LEFT, RIGHT, STEM, FLUID = 507, 2, 41, 16, 24
ROLES = LabelRoles(
    targets=((LEFT,), (RIGHT,), (STEM,)),
    pairs=((LEFT, RIGHT),),
    kindred=((LEFT, STEM),),
    removable=((SKIN,), (SKIN, FLUID)),
)


def head(side: int = 40, shift: float = 0.0) -> np.ndarray:
    """Values [K, J, I] on a grid of 1 mm along right, anterior, superior: left has the lower i."""
    k, j, i = np.indices((side,) * 3) - (side - 1) / 2
    radius = np.sqrt(i**2 + (j - shift) ** 2 + k**2) / (side / 2)
    values = np.zeros((side,) * 3, np.int32)
    for outer, value in ((0.95, SKIN), (0.8, FLUID), (0.7, LEFT)):
        values[radius < outer] = value
    values[(values == LEFT) & (i > 0)] = RIGHT
    values[(np.abs(i - 4) < 3) & (np.abs(j - shift) < 3) & (k < 0) & (radius < 0.6)] = STEM
    return values


def write_heads(folder: Path, names: list[str], side: int = 40) -> Path:
    """Label maps whose axes are left, inferior, anterior."""
    folder.mkdir(parents=True, exist_ok=True)
    matrix = np.array([[-1.0, 0, 0, side], [0, 0, 1, 0], [0, -1, 0, side], [0, 0, 0, 1]])
    for number, name in enumerate(names):
        values = head(side, shift=number)
        turned = values[::-1, :, ::-1].transpose(1, 0, 2)  # (anterior, inferior, left) from (superior, anterior, right)
        write_labels(Labels.from_array(turned.copy(), Geometry((side,) * 3, matrix)), folder / f"{name}.nii.gz")
    return folder
