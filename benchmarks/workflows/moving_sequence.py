"""Sequences with a known answer: a real image in a smooth, periodic motion, with noise of its own in each frame.

The place of a point x of the key frame at phase p is ``exp(c(p) v + s(p) w)(x)``: there and back along one velocity,
with a second one that makes the way back another than the way there, as in breathing and in the beating heart. Its
inverse, which draws the frames, is the exponential of the negative velocity: exact, without an inversion.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from MedSegRegLib.image import Image, Labels
from MedSegRegLib.register.deformable import border_taper
from MedSegRegLib.register.displacement import exponentiate, grid_coordinates, to_displacement
from MedSegRegLib.register.filters import filter_axes, gaussian_axes
from MedSegRegLib.resample import resample_image
from MedSegRegLib.transform import Transform
from MedSegRegLib.workflows.soft_labels import transfer_labels

WAY_BACK = 0.25
GAIN, SHADING = 0.05, 0.1


@dataclass(frozen=True)
class Movement:
    """How strongly, and how finely, a still image is moved.

    Attributes:
        frames: in one cycle; the key frame is the first one, at rest.
        largest_mm: the longest displacement at the far end.
        sigma_mm: of the Gaussian that makes the velocity smooth.
        noise: standard deviation in each frame, of the image's 99th percentile.
    """

    frames: int = 12
    largest_mm: float = 8.0
    sigma_mm: float = 12.0
    noise: float = 0.03
    seed: int = 0


class MovingSequence:
    """Frames, made once, their labels, and the true motion.

    Args:
        still: the anatomy, on any grid.
        labels: of the anatomy, on the same grid.
    """

    def __init__(self, still: Image, labels: Labels, movement: Movement) -> None:
        self.still, self.still_labels, self.movement = still, labels, movement
        taper = border_taper(still.geometry, still.tensor)
        self._there, self._back = (
            self._velocity(movement.seed + number, taper, share * movement.largest_mm)
            for number, share in ((0, 1.0), (100, WAY_BACK))
        )
        self.frames = [self._frame(number) for number in range(movement.frames)]

    def _frame(self, number: int) -> Image:
        random = torch.Generator().manual_seed(1000 * self.movement.seed + number)
        moved = resample_image(self.still, self.still.geometry, self.to_rest(number)).tensor
        noise = torch.randn(moved.shape, generator=random) * self.movement.noise * torch.quantile(moved.flatten(), 0.99)
        shading = filter_axes(
            torch.randn(moved.shape, generator=random), gaussian_axes(self.still.geometry, 40.0, moved)
        )
        gain = 1 + GAIN * float(torch.randn((), generator=random)) + SHADING * shading / shading.abs().max()
        return Image(moved * gain + noise, self.still.geometry, f"frame {number}")

    def labels(self, number: int) -> Labels:
        """The true labels of a frame."""
        return transfer_labels(self.still_labels, self.still.geometry, self.to_rest(number))

    def to_rest(self, number: int) -> Transform:
        """A frame's points to those of the key frame."""
        return self._flow(number, -1.0)

    def from_rest(self, number: int) -> Transform:
        """The key frame's points to those of a frame."""
        return self._flow(number, 1.0)

    def _flow(self, number: int, sign: float) -> Transform:
        angle = 2 * np.pi * number / self.movement.frames
        velocity = (1 - np.cos(angle)) / 2 * self._there + np.sin(angle) * self._back
        field = exponentiate(sign * velocity, grid_coordinates(velocity))
        return Transform((to_displacement(field, self.still.geometry),))

    def _velocity(self, seed: int, taper: torch.Tensor, largest_mm: float) -> torch.Tensor:
        """[3, K, J, I] in voxels."""
        geometry = self.still.geometry
        noise = torch.randn((3, *geometry.shape_kji), generator=torch.Generator().manual_seed(seed))
        velocity = filter_axes(noise, gaussian_axes(geometry, self.movement.sigma_mm, noise)) * taper
        velocity = velocity * (largest_mm / velocity.norm(dim=0).max())
        to_voxels = torch.as_tensor(geometry.ras_to_ijk[:3, :3]).to(velocity)
        return torch.einsum("cr,rkji->ckji", to_voxels, velocity)
