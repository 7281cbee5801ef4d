"""What the tests of the alignment share: one head in three contrasts, each on a grid and in a pose of its own."""

from __future__ import annotations

import numpy as np
import torch
from register_phantoms import make_head
from scipy.spatial.transform import Rotation

from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Image
from MedSegRegLib.register.settings import RegistrationSettings
from MedSegRegLib.resample import resample_image
from MedSegRegLib.transform import Affine, Transform

FINE = Geometry.from_spacing((40, 40, 40), (1.5, 1.5, 1.5), (-29.25, -29.25, -29.25))
GRIDS = {
    "FLAIR": Geometry.from_spacing((30, 30, 20), (2.0, 2.0, 3.0), (-29.0, -29.0, -28.5)),
    "T1": Geometry.from_spacing((34, 30, 26), (1.8, 2.0, 2.4), (-30.0, -28.0, -31.0)),
    "T2": Geometry.from_spacing((24, 28, 30), (2.5, 2.2, 2.0), (-28.0, -30.0, -29.0)),
}
FAST = RegistrationSettings(
    linear="rigid", linear_search=False, linear_similarity="nmi", linear_voxels=15_000, deformable=None
)


def pose(degrees: tuple[float, float, float], shift: tuple[float, float, float]) -> np.ndarray:
    """4x4: a turn about the origin and a shift."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    matrix[:3, 3] = shift
    return matrix


TRUTH = {"T1": pose((4, -3, 6), (3.0, -2.0, 1.5)), "T2": pose((-2, 5, -3), (-2.0, 3.0, 2.0))}
"""FLAIR RAS to the RAS of the series."""


def bright_at(middle: float, width: float, value: torch.Tensor) -> torch.Tensor:
    """A contrast in which the intensities around ``middle`` are bright, and air is dark."""
    tissue = torch.where(value > 1.5, value, 0.0)
    return tissue * torch.exp(-(((tissue - middle) / width) ** 2))


CONTRASTS = {
    "T1": lambda value: bright_at(6.0, 2.0, value),
    "FLAIR": lambda value: value,
    "T2": lambda value: bright_at(6.0, 3.0, value),
}


def three_series() -> dict[str, Image]:
    """The head as FLAIR, T1 and T2."""
    head, series = make_head(FINE), {}
    for name, contrast in CONTRASTS.items():
        to_head = Transform((Affine(np.linalg.inv(TRUTH.get(name, np.eye(4)))),))
        moved = resample_image(head.with_tensor(contrast(head.tensor)), GRIDS[name], to_head)
        series[name] = Image(moved.tensor, GRIDS[name], f"{name} series")
    return series
