"""A pair on disk: what every set makes, every method reads and the scorer judges. First stop of the benchmark's walk.

A pair is a folder with ``fixed.nii.gz``, ``moving.nii.gz`` and ``pair.json``, and, where a set has them,

* ``{fixed,moving}_mask``: where to look;
* ``{fixed,moving}_seg``: labels to compare;
* ``truth``: an ITK displacement field on the fixed grid, with ``score_mask``, where it counts;
* ``{fixed,moving}_landmarks.csv``: corresponding rows x, y, z in LPS mm.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import SimpleITK as sitk

Contrast = Literal["same", "different"]
Motion = Literal["rigid", "deformable"]
Contents = Mapping[str, sitk.Image | np.ndarray]
LANDMARKS = ("fixed_landmarks", "moving_landmarks")


@dataclass(frozen=True)
class Pair:
    """One registration problem.

    Attributes:
        folder: where the files lie.
        contrast: chooses every method's similarity.
        motion: ``rigid`` asks every method for a rigid transform, ``deformable`` for an affine and a dense one.
    """

    folder: Path
    contrast: Contrast = "same"
    motion: Motion = "deformable"

    @property
    def name(self) -> str:
        """Its last folder."""
        return self.folder.name

    def path(self, content: str) -> Path:
        """Where a content of the pair lies, or would lie."""
        return self.folder / (f"{content}.csv" if content in LANDMARKS else f"{content}.nii.gz")

    def has(self, content: str) -> bool:
        """Whether the set gave it."""
        return self.path(content).exists()


def read_pair(folder: Path) -> Pair:
    """The pair in a folder."""
    return Pair(Path(folder), **json.loads((Path(folder) / "pair.json").read_text()))


def make_pair(
    folder: Path,
    make: Callable[[], Contents],
    contrast: Contrast = "same",
    motion: Motion = "deformable",
) -> Pair:
    """The pair in ``folder``, made now unless it is complete there.

    Args:
        make: returns contents by name (see this module): images, and landmarks as [N, 3] in LPS mm.
    """
    pair = Pair(Path(folder), contrast, motion)
    record = pair.folder / "pair.json"
    if record.exists():
        return read_pair(folder)
    shutil.rmtree(pair.folder, ignore_errors=True)
    pair.folder.mkdir(parents=True)
    for content, value in make().items():
        if isinstance(value, np.ndarray):
            np.savetxt(pair.path(content), value, delimiter=",", fmt="%.4f")
        else:
            sitk.WriteImage(value, str(pair.path(content)), useCompression=True)
    record.write_text(json.dumps({key: value for key, value in asdict(pair).items() if key != "folder"}))
    return pair


def on_grid_of(array: np.ndarray, like: sitk.Image) -> sitk.Image:
    """An array [K, J, I], or vectors [K, J, I, 3], as an image where ``like`` is."""
    image = sitk.GetImageFromArray(array, isVector=array.ndim == 4)
    image.CopyInformation(like)
    return image
