"""What the tests of the registration share: tissue with a known deformation, and how far a result is from it."""

from __future__ import annotations

import numpy as np
import torch

from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Image
from MedSegRegLib.register.deformable import border_taper
from MedSegRegLib.register.filters import filter_axes, gaussian_axes
from MedSegRegLib.resample import resample_image
from MedSegRegLib.transform import Displacement, Transform

CUBE = Geometry.from_spacing((40, 40, 40), (1.5, 1.5, 1.5), (-29.25, -29.25, -29.25))


def smooth_noise(geometry: Geometry, sigma_mm: float, seed: int, channels: int = 1) -> torch.Tensor:
    """[channels, K, J, I], of standard deviation 1."""
    noise = torch.randn((channels, *geometry.shape_kji), generator=torch.Generator().manual_seed(seed))
    noise = filter_axes(noise, gaussian_axes(geometry, sigma_mm, noise))
    return noise / noise.std()


def make_head(geometry: Geometry = CUBE, seed: int = 7) -> Image:
    """An ellipsoid of random tissue in empty space, 0.7 of the field of view wide, intensities 2 to 10."""
    tissue = (smooth_noise(geometry, 2.0, seed) + 2 * smooth_noise(geometry, 5.0, seed + 1)).clamp(-4, 4)
    axes = (torch.linspace(-1, 1, n) if n > 1 else torch.zeros(1) for n in geometry.shape_kji)
    k, j, i = torch.meshgrid(*axes, indexing="ij")
    inside = ((i / 0.7) ** 2 + (j / 0.8) ** 2 + (k / 0.75) ** 2 < 1).float()
    inside = filter_axes(inside, gaussian_axes(geometry, 1.0, inside))
    return Image(inside * (6 + tissue), geometry, "head")


def make_bend(
    geometry: Geometry = CUBE, largest_mm: float = 4.0, sigma_mm: float = 7.0, seed: int = 11
) -> Displacement:
    """A smooth deformation, zero on the border."""
    vectors = smooth_noise(geometry, sigma_mm, seed, 3)
    vectors = vectors * border_taper(geometry, vectors)
    return Displacement(largest_mm * vectors / vectors.norm(dim=0).max(), geometry)


def bent(image: Image, bend: Displacement, noise: float = 0.1, seed: int = 3) -> Image:
    """What the image looks like from a fixed space where x_moving = x + bend(x), with white noise."""
    moved = resample_image(image, bend.geometry, Transform((bend,)))
    own = torch.randn(moved.tensor.shape, generator=torch.Generator().manual_seed(seed))
    return Image(moved.tensor + noise * own, bend.geometry, f"bent {image.name}")


def tissue_points(image: Image, every: int = 7) -> np.ndarray:
    """[N, 3] RAS mm of voxels that are not empty space."""
    return image.geometry.map_voxels(np.argwhere(image.tensor[0].numpy() > 3)[::every, ::-1])


def distance_mm(a: Transform, b: Transform, points: np.ndarray) -> np.ndarray:
    """[N]: how far apart two transforms take the same points."""
    return np.linalg.norm(a.map_points(points) - b.map_points(points), axis=1)
