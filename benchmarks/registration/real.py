"""Set (d): real pairs whose answer people have drawn: shared structures, landmarks, or transforms that came along."""

from __future__ import annotations

import csv
from functools import partial
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK as sitk
from pairs import Contents, Pair, make_pair, on_grid_of
from sources import colin27, fsaverage, icbm

GROUPS = ("icbm-fsaverage", "colin27-icbm", "prostate-mr-us", "ms-rigid")
RAS_TO_LPS = np.array([-1.0, -1.0, 1.0])
LEFT_OF_RIGHT = {43: 4, 44: 5, 45: 8, 46: 7, 49: 10, 50: 11, 51: 12, 52: 13, 53: 17, 54: 18, 58: 26, 60: 28}
RIGHT_CEREBELLAR_CORTEX = {45: 47}  # CerebrA's table calls it 45
MIDLINE = (14, 15, 16, 85)
VISITS = ("study1", "study2")


def make_pairs(work: Path, data: Path, split: str, group: str, count: int) -> list[Pair]:
    """Pairs of one group; there is no split, these are all that there are."""
    folder = work / "real" / group
    make = {
        "icbm-fsaverage": _templates,
        "colin27-icbm": _colin27,
        "prostate-mr-us": _prostates,
        "ms-rigid": _multiple_sclerosis,
    }[group]
    return make(folder, work, data)[:count]


def _templates(folder: Path, work: Path, data: Path) -> list[Pair]:
    """ICBM 2009c and fsaverage, brains, both directions; the aseg structures that CerebrA also has."""

    def contents(fixed: str, moving: str) -> Contents:
        brains = {"icbm": _read_icbm, "fsaverage": _read_fsaverage}
        found: dict[str, sitk.Image] = {}
        for role, name in (("fixed", fixed), ("moving", moving)):
            found[role], found[f"{role}_seg"] = brains[name](work)
        return found

    return [
        make_pair(folder / f"{fixed}-{moving}", partial(contents, fixed, moving))
        for fixed, moving in (("icbm", "fsaverage"), ("fsaverage", "icbm"))
    ]


def _read_icbm(work: Path) -> tuple[sitk.Image, sitk.Image]:
    files = icbm(work)
    t1 = sitk.ReadImage(str(files["t1"]), sitk.sitkFloat32)
    brain = sitk.Mask(t1, sitk.ReadImage(str(files["mask"]), sitk.sitkUInt8))
    structures = sitk.ReadImage(str(files["structures"]), sitk.sitkInt16)
    table = np.zeros(256, np.int16)
    with files["table"].open() as lines:
        for row in csv.DictReader(lines):
            number = int(row["Mindboggle ID"])
            right, left = int(row["RH Label"]), int(row["LH Labels"])
            if number in MIDLINE:
                table[[right, left]] = number
            elif number in LEFT_OF_RIGHT:
                table[right], table[left] = RIGHT_CEREBELLAR_CORTEX.get(number, number), LEFT_OF_RIGHT[number]
    shared = on_grid_of(table[sitk.GetArrayFromImage(structures)], structures)
    return brain, sitk.Resample(shared, brain, sitk.Transform(), sitk.sitkNearestNeighbor, 0)


def _read_fsaverage(work: Path) -> tuple[sitk.Image, sitk.Image]:
    files = fsaverage(work)
    brain, structures = (_from_freesurfer(files[name]) for name in ("brain", "aseg"))
    found = np.argwhere(sitk.GetArrayViewFromImage(brain) > 0)
    first, last = np.maximum(found.min(axis=0) - 10, 0)[::-1], (found.max(axis=0) + 11)[::-1]
    size = (np.minimum(last, brain.GetSize()) - first).tolist()
    brain, structures = (sitk.RegionOfInterest(image, size, first.tolist()) for image in (brain, structures))
    return sitk.Cast(brain, sitk.sitkFloat32), sitk.Cast(structures, sitk.sitkInt16)


def _from_freesurfer(path: Path) -> sitk.Image:
    """An .mgz volume, which ITK does not read."""
    volume = nibabel.freesurfer.MGHImage.from_filename(path)
    image = sitk.GetImageFromArray(np.ascontiguousarray(np.asarray(volume.dataobj, np.float32).T))
    steps = volume.affine[:3, :3] * RAS_TO_LPS[:, None]
    spacing = np.linalg.norm(steps, axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((steps / spacing).ravel().tolist())
    image.SetOrigin((volume.affine[:3, 3] * RAS_TO_LPS).tolist())
    return image


def _colin27(folder: Path, work: Path, data: Path) -> list[Pair]:
    """Colin27 onto ICBM 2009c symmetric, whole heads; 32 landmarks of the AFIDs protocol."""

    def contents() -> Contents:
        return {
            "fixed": sitk.ReadImage(str(icbm(work)["t1"]), sitk.sitkFloat32),
            "moving": sitk.ReadImage(str(colin27(work)), sitk.sitkFloat32),
            "fixed_landmarks": _read_fcsv(data / "afids" / "MNI152NLin2009cSym.fcsv"),
            "moving_landmarks": _read_fcsv(data / "afids" / "Colin27.fcsv"),
        }

    return [make_pair(folder / "icbm-colin27", contents)]


def _read_fcsv(path: Path) -> np.ndarray:
    """Slicer's markups in RAS (coordinate system 0) as [N, 3] LPS."""
    lines = [line.split(",") for line in path.read_text().splitlines() if not line.startswith("#")]
    return np.array([[float(value) for value in line[1:4]] for line in lines]) * RAS_TO_LPS


def _prostates(folder: Path, work: Path, data: Path) -> list[Pair]:
    """MR onto transrectal ultrasound: the gland, and the centres of smaller landmarks."""
    source = data / "prostate_mr_us"

    def contents(case: str) -> Contents:
        found: dict[str, sitk.Image | np.ndarray] = {}
        for role, kind in (("fixed", "us"), ("moving", "mr")):
            image = sitk.ReadImage(str(source / f"{kind}_images" / case), sitk.sitkFloat32)
            labels = sitk.GetArrayFromImage(sitk.ReadImage(str(source / f"{kind}_labels" / case)))
            gland, *landmarks = labels.reshape(-1, *labels.shape[-3:]) > 0
            found |= {role: image, f"{role}_seg": on_grid_of(gland.astype(np.uint8), image)}
            if landmarks:
                found[f"{role}_landmarks"] = np.array([_centre(mask, image) for mask in landmarks])
        return found

    cases = sorted(path.name for path in (source / "us_images").glob("*.nii.gz"))
    return [make_pair(folder / case.partition(".")[0], partial(contents, case), contrast="different") for case in cases]


def _centre(mask: np.ndarray, image: sitk.Image) -> tuple[float, ...]:
    return image.TransformContinuousIndexToPhysicalPoint(np.argwhere(mask).mean(axis=0)[::-1].tolist())


def _multiple_sclerosis(folder: Path, work: Path, data: Path) -> list[Pair]:
    """One patient, rigid: T1 and T2 onto FLAIR within a visit, and FLAIR across visits; corners of the fixed volume.

    A file ``X_to_Y`` maps points of Y to points of X, as ITK resamples.
    """
    source = data / "ms_longitudinal" / "patient01"

    def transform(name: str) -> sitk.Transform:
        return sitk.ReadTransform(str(source / f"{name}.txt"))

    answers = {
        f"{visit}_FLAIR-{visit}_{kind}": transform(f"{visit}_{kind}_intrastudy_to_FLAIR")
        for visit in VISITS
        for kind in ("T1W", "T2W")
    }
    common = [transform(f"{visit}_FLAIR_to_common_space") for visit in VISITS]
    answers["study1_FLAIR-study2_FLAIR"] = sitk.CompositeTransform([common[1], common[0].GetInverse()])

    def contents(name: str, answer: sitk.Transform) -> Contents:
        fixed, moving = (sitk.ReadImage(str(source / f"{n}.nii.gz"), sitk.sitkFloat32) for n in name.split("-"))
        last = [n - 1 for n in fixed.GetSize()]
        corners = [
            fixed.TransformIndexToPhysicalPoint([last[a] * (n >> a & 1) for a in range(3)])  # bit a: far end of axis a
            for n in range(8)
        ]
        moved = [answer.TransformPoint(corner) for corner in corners]
        landmarks = {"fixed_landmarks": np.array(corners), "moving_landmarks": np.array(moved)}
        return {"fixed": fixed, "moving": moving, **landmarks}

    return [
        make_pair(
            folder / name,
            partial(contents, name, answer),
            contrast="same" if name.count("FLAIR") == 2 else "different",
            motion="rigid",
        )
        for name, answer in answers.items()
    ]
