"""Set (a): hippocampus crops of the Medical Segmentation Decathlon, case i onto case i + 1, the last onto the first."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import SimpleITK as sitk
from pairs import Contents, Pair, make_pair

CASES = 20
FIRST_CASE = {"report": 0, "tune": CASES}
GROUPS = ("mri",)


def make_pairs(work: Path, data: Path, split: str, group: str, count: int) -> list[Pair]:
    """Pairs of 20 cases; the splits have no case in common.

    Args:
        data: folder with ``hippocampus/{images,labels}``.
    """
    images = sorted((data / "hippocampus" / "images").glob("*.nii.gz"))[FIRST_CASE[split] :][:CASES]
    neighbours = list(zip(images, images[1:] + images[:1], strict=True))[:count]
    return [
        make_pair(
            work / f"hippocampus-{split}" / group / f"{_number(fixed)}-{_number(moving)}",
            partial(_contents, fixed, moving),
        )
        for fixed, moving in neighbours
    ]


def _number(image: Path) -> str:
    return image.name.partition(".")[0].rpartition("_")[2]


def _contents(fixed: Path, moving: Path) -> Contents:
    contents: dict[str, sitk.Image] = {}
    for role, image in (("fixed", fixed), ("moving", moving)):
        contents[role] = sitk.ReadImage(str(image), sitk.sitkFloat32)
        contents[f"{role}_seg"] = sitk.ReadImage(str(image.parents[1] / "labels" / image.name), sitk.sitkUInt8)
    return contents
