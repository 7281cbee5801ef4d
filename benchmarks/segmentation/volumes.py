"""A synthetic CT: organs of steady intensity in a body in air, as many as the network has classes. numpy alone.

They share a few intensities, so far apart that neither half precision nor the normalisation of a tile confuses them.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

AIR_HU, BODY_HU, ORGANS_HU = -1000.0, 0.0, (-1000.0, 1000.0, 2000.0)
LEVELS_HU = (-1000.0, 0.0, 1000.0, 2000.0)
NOISE_HU = 10.0
BODY_RADII = (0.5, 0.36, 0.45)  # of the field of view, along k, j, i
ORGAN_RADII = (0.04, 0.12)
SEED = 5


@dataclass(frozen=True)
class Phantom:
    """What a volume is made of.

    Attributes:
        size_kji: voxels.
        spacing_kji: mm.
        classes: air, the body, and an organ for each further class.
    """

    size_kji: tuple[int, int, int]
    spacing_kji: tuple[float, float, float]
    classes: int

    @property
    def name(self) -> str:
        """For a folder."""
        return f"{'x'.join(map(str, self.size_kji[::-1]))}-{self.classes}-classes"


def make_volume(folder: Path, phantom: Phantom) -> Path:
    """``volume.npy`` (int16, [K, J, I]) and ``phantom.json``, made unless they are there."""
    path = folder / "volume.npy"
    record = folder / "phantom.json"
    if not record.exists():
        folder.mkdir(parents=True, exist_ok=True)
        np.save(path, make_voxels(phantom))
        record.write_text(json.dumps(asdict(phantom)))
    return path


def make_voxels(phantom: Phantom) -> np.ndarray:
    """[K, J, I] int16 HU."""
    rng = np.random.default_rng(SEED)
    size = np.asarray(phantom.size_kji)
    sides = size * phantom.spacing_kji
    volume = np.full(phantom.size_kji, AIR_HU, np.int16)
    _fill(volume, phantom, sides / 2, sides * BODY_RADII, BODY_HU)
    for value in np.resize(ORGANS_HU, phantom.classes - 1):
        centre = sides * (0.5 + rng.uniform(-0.8, 0.8, 3) * BODY_RADII / np.sqrt(3))
        _fill(volume, phantom, centre, sides.min() * rng.uniform(*ORGAN_RADII, 3), value)
    for k in range(len(volume)):
        volume[k] += np.rint(rng.normal(0, NOISE_HU, volume[k].shape)).astype(np.int16)
    return volume


def _fill(volume: np.ndarray, phantom: Phantom, centre_mm: np.ndarray, radii_mm: np.ndarray, value: float) -> None:
    """An ellipsoid, touching only the voxels of its box."""
    spacing = np.asarray(phantom.spacing_kji)
    low = np.clip(np.floor((centre_mm - radii_mm) / spacing).astype(int), 0, phantom.size_kji)
    high = np.clip(np.ceil((centre_mm + radii_mm) / spacing).astype(int) + 1, 0, phantom.size_kji)
    axes = [
        ((np.arange(a, b, dtype=np.float32) + 0.5) * mm - centre) / radius
        for a, b, mm, centre, radius in zip(low, high, spacing, centre_mm, radii_mm, strict=True)
    ]
    k, j, i = (slice(a, b) for a, b in zip(low, high, strict=True))
    in_plane = axes[1][:, None] ** 2 + axes[2] ** 2
    for plane, position in zip(volume[k, j, i], axes[0], strict=True):
        plane[in_plane + position**2 < 1] = round(value)
