"""Which way a transform leads: are the images more alike through it, without it, or through its inverse?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ..check_image import Need, check_image
from ..image import Image
from ..transform import Transform
from .affine import evaluate_pair
from .displacement import from_displacement
from .linear import spacing_for
from .pyramid import Pair, prepare_study

VOXELS = 100_000
CLEARLY = 0.02


@dataclass(frozen=True)
class DirectionTest:
    """Mutual information of the two images, larger is better; 0 where they do not meet.

    Attributes:
        through: the moving image is read where the transform says.
        without: both lie where their headers place them.
        reversed: it is read where the inverse says.
    """

    through: float
    without: float
    reversed: float

    @property
    def looks_reversed(self) -> bool:
        """True when the inverse makes the images clearly more alike than the transform, and than nothing."""
        return self.reversed > max(self.through, self.without) + CLEARLY

    @property
    def is_useless(self) -> bool:
        """True when the images are clearly more alike without it, and the inverse is no better."""
        return not self.looks_reversed and self.without > self.through + CLEARLY

    def __str__(self) -> str:
        return (
            f"Mutual information of the images: {self.through:.3f} through the transform, {self.without:.3f} without, "
            f"{self.reversed:.3f} through its inverse"
        )


def compare_directions(fixed: Image, moving: Image, transform: Transform, inverse: Transform) -> DirectionTest:
    """Look at two images through a transform (fixed RAS to moving RAS), without it, and through its inverse.

    Raises:
        InputError: an image that cannot be worked on.
    """
    studies = []
    for image in (fixed, moving):
        check_image(image, Need("register", channels=None, minimum_size=4, allow_single_slice=True))
        studies.append(prepare_study(image, None, torch.device("cpu")))
    pair = Pair.at(studies[0], studies[1], spacing_for(studies[0], VOXELS))
    return DirectionTest(*(_alike(pair, way) for way in (transform, Transform(), inverse)))


def _alike(pair: Pair, transform: Transform) -> float:
    matrix = transform.matrix
    if matrix is not None:
        value = evaluate_pair(pair, matrix, "mi").value
    else:
        field = from_displacement(transform.to_displacement(pair.fixed.geometry))
        value = evaluate_pair(pair, np.eye(4), "mi", field).value
    return value if np.isfinite(value) else 0.0
