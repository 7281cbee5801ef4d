"""Set (c): two subjects' real anatomy with synthetic images of any contrast, so that labels are exact.

Each subject's label map gets one mean intensity per structure (partial volume from the finite resolution), a mild
bias field and noise, is posed by a random affine and sampled on a grid of 160x192x224 voxels of 1 mm, skull-stripped.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from pairs import Contents, Pair, make_pair, on_grid_of
from scipy import ndimage

SUBJECTS = {"tune": range(1, 9), "report": range(9, 17)}
GROUPS = ("t1-t1", "t1-t2", "t1-ct")
SIZE = (160, 192, 224)
RIGHT_OF_LEFT = {
    2: 41, 3: 42, 4: 43, 5: 44, 7: 46, 8: 47, 10: 49, 11: 50, 12: 51, 13: 52, 17: 53, 18: 54, 26: 58, 28: 60,
}  # fmt: skip
MIDLINE = (14, 15, 16)
SCORED = tuple(sorted({*RIGHT_OF_LEFT, *RIGHT_OF_LEFT.values(), *MIDLINE}))
CSF, EXTRA_CEREBRAL = 24, 500
SULCUS_MM = 6.0
RIM_MM = 1.0

# Mean of each tissue (T1 and T2 relative to the brightest, CT in Hounsfield units), and the tissue of each structure.
MEANS = {
    "white": (0.95, 0.38, 29.0),
    "grey": (0.62, 0.56, 38.0),
    "fluid": (0.14, 1.00, 8.0),
    "thalamus": (0.77, 0.46, 36.0),
    "caudate": (0.66, 0.52, 38.0),
    "putamen": (0.71, 0.47, 37.5),
    "pallidum": (0.86, 0.31, 39.0),
    "hippocampus": (0.61, 0.59, 36.5),
    "amygdala": (0.60, 0.57, 37.0),
    "accumbens": (0.64, 0.54, 37.0),
    "diencephalon": (0.84, 0.39, 33.0),
    "brainstem": (0.85, 0.42, 31.5),
    "cerebellar white": (0.93, 0.40, 30.0),
    "cerebellar grey": (0.59, 0.55, 38.5),
    "plexus": (0.40, 0.75, 22.0),
}
TISSUES = {
    2: "white", 3: "grey", 4: "fluid", 5: "fluid", 7: "cerebellar white", 8: "cerebellar grey", 10: "thalamus",
    11: "caudate", 12: "putamen", 13: "pallidum", 14: "fluid", 15: "fluid", 16: "brainstem", 17: "hippocampus",
    18: "amygdala", CSF: "fluid", 25: "grey", 26: "accumbens", 28: "diencephalon", 30: "plexus", 57: "grey",
    62: "plexus", 72: "fluid", 77: "grey", 85: "white", 136: "plexus", 137: "plexus", 163: "plexus", 164: "plexus",
}  # fmt: skip
NOISE = {"t1": 0.03, "t2": 0.03, "ct": 0.06}
RESOLUTION_MM = 0.5
JITTER = 0.02


def make_pairs(work: Path, data: Path, split: str, group: str, count: int) -> list[Pair]:
    """Pairs of subjects i -> i+1 of a split.

    Args:
        work: below it the pairs are kept.
        data: folder with ``brain_label_maps``.
        split: ``tune`` (subjects 1-8) or ``report`` (9-16).
        group: contrasts of the fixed and of the moving image, one of :data:`GROUPS`.
    """
    subjects = list(SUBJECTS[split])
    numbers = list(zip(subjects, subjects[1:] + subjects[:1], strict=True))[:count]
    maps = data / "brain_label_maps"
    return [
        make_pair(
            work / f"simulated-{split}" / group / f"{one:02d}-{other:02d}",
            partial(_contents, maps, one, other, group),
            "same" if group == "t1-t1" else "different",
        )
        for one, other in numbers
    ]


def _contents(maps: Path, fixed: int, moving: int, kinds: str) -> Contents:
    contents: dict[str, sitk.Image | np.ndarray] = {}
    for role, number, kind in zip(("fixed", "moving"), (fixed, moving), kinds.split("-"), strict=True):
        rng = np.random.default_rng([number, role == "moving"])
        labels = sitk.ReadImage(str(maps / f"subject_{number:02d}.nii.gz"), sitk.sitkInt16)
        brain = strip_skull(labels)
        pose = draw_pose(brain, rng)
        image, segmentation = simulate_subject(brain, kind, pose, rng)
        contents |= {role: image, f"{role}_seg": segmentation}
    return contents


def strip_skull(labels: sitk.Image) -> sitk.Image:
    """Label map of the brain alone, with the fluid in its sulci and a thin rim of it: what skull stripping leaves."""
    array = sitk.GetArrayFromImage(labels)
    array[array >= EXTRA_CEREBRAL] = 0
    spacing = labels.GetSpacing()[::-1]
    near = ndimage.distance_transform_edt((array == 0) | (array == CSF), sampling=spacing) < SULCUS_MM
    array[ndimage.distance_transform_edt(near, sampling=spacing) < SULCUS_MM - RIM_MM] = 0
    return on_grid_of(array, labels)


def draw_pose(brain: sitk.Image, rng: np.random.Generator) -> sitk.AffineTransform:
    """A random affine about the brain's centre: output grid to label map, LPS mm."""
    centre = brain.TransformContinuousIndexToPhysicalPoint(
        [float(c) for c in np.argwhere(sitk.GetArrayViewFromImage(brain) > 0).mean(axis=0)[::-1]]
    )
    rotation = sitk.Euler3DTransform([0, 0, 0], *(float(a) for a in rng.uniform(-0.14, 0.14, 3)))
    stretch = np.diag(rng.uniform(0.94, 1.06, 3)) + rng.uniform(-0.03, 0.03, (3, 3)) * (1 - np.eye(3))
    pose = sitk.AffineTransform(3)
    pose.SetCenter(centre)
    pose.SetMatrix((np.reshape(rotation.GetMatrix(), (3, 3)) @ stretch).ravel().tolist())
    pose.SetTranslation([float(t) for t in rng.uniform(-6, 6, 3)])
    return pose


def simulate_subject(
    brain: sitk.Image, kind: str, pose: sitk.Transform, rng: np.random.Generator
) -> tuple[sitk.Image, sitk.Image]:
    """An image of ``kind`` (t1, t2, ct) and its scored labels on the posed grid.

    The image is interpolated from the means, the labels from the map: both follow the same boundary.
    """
    array = sitk.GetArrayFromImage(brain)
    grid = _centred_grid(brain, pose)
    means = on_grid_of(_mean_map(array, kind, rng), brain)
    smooth = sitk.SmoothingRecursiveGaussian(means, RESOLUTION_MM)
    image = sitk.GetArrayFromImage(sitk.Resample(smooth, grid, pose, sitk.sitkLinear, 0.0))
    inside = sitk.GetArrayFromImage(sitk.Resample(brain, grid, pose, sitk.sitkNearestNeighbor, 0))
    noise = rng.normal(0.0, NOISE[kind] * np.abs(image).max(), image.shape)
    image = np.maximum(image * _bias(image.shape, rng) + noise, 0.0) * (inside > 0)
    scale = 1.0 if kind == "ct" else 1000.0
    labels = np.where(np.isin(inside, SCORED), inside, 0).astype(np.int16)
    return on_grid_of((scale * image).astype(np.float32), grid), on_grid_of(labels, grid)


def _mean_map(labels: np.ndarray, kind: str, rng: np.random.Generator) -> np.ndarray:
    """Each structure's mean, slightly its own in each subject."""
    column = ("t1", "t2", "ct").index(kind)
    left_of_right = {right: left for left, right in RIGHT_OF_LEFT.items()}
    jitter = {tissue: rng.normal(1.0, JITTER) for tissue in MEANS}
    table = np.zeros(int(labels.max()) + 1, np.float32)
    for label in np.unique(labels[labels > 0]):
        tissue = TISSUES.get(left_of_right.get(int(label), int(label)), "grey")
        table[label] = MEANS[tissue][column] * jitter[tissue]
    return table[labels]


def _bias(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """A smooth gain within about 15 % of 1."""
    coarse = ndimage.gaussian_filter(rng.standard_normal([6, 6, 6]), 1.0, mode="nearest")
    coarse *= 0.08 / coarse.std()
    return 1 + ndimage.zoom(coarse, np.array(shape) / 6, order=3, mode="nearest", grid_mode=True)


def _centred_grid(brain: sitk.Image, pose: sitk.Transform) -> sitk.Image:
    """A grid of :data:`SIZE` whose middle is, under the pose, the middle of the brain's bounding box."""
    found = np.argwhere(sitk.GetArrayViewFromImage(brain) > 0)
    middle = brain.TransformContinuousIndexToPhysicalPoint(
        [float(c) for c in ((found.min(axis=0) + found.max(axis=0)) / 2)[::-1]]
    )
    directions = np.reshape(brain.GetDirection(), (3, 3))
    grid = sitk.Image(SIZE, sitk.sitkFloat32)
    grid.SetDirection(brain.GetDirection())
    centre = np.array(pose.GetInverse().TransformPoint(middle))
    grid.SetOrigin((centre - directions @ ((np.array(SIZE) - 1) / 2)).tolist())
    return grid
