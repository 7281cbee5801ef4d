"""Two visits compared: where lesions changed against a person's marks, and known growth against its error bar.

``python benchmarks/workflows/followup.py GROUP --data DIR``; see the README beside it.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from scipy import ndimage
from scipy.stats import rankdata

sys.path.insert(0, str(Path(__file__).parents[2] / "Testing" / "unit"))

from register_phantoms import bent, make_bend, make_head

from MedSegRegLib.files import read_image, read_labels, read_transform
from MedSegRegLib.files.itk import itk_from_image
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Image
from MedSegRegLib.progress import SILENT
from MedSegRegLib.register.presets import PRESETS
from MedSegRegLib.sampling import sample_linear
from MedSegRegLib.transform import Transform
from MedSegRegLib.workflows.followup import follow_up
from MedSegRegLib.workflows.followup_change import find_motion
from MedSegRegLib.workflows.followup_midway import Visit
from MedSegRegLib.workflows.followup_volumes import measure_lesions

DETAIL_MM = 1.5


def main() -> None:
    """Run a group and write a line of a table for each method or case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("group", choices=("lesions", "error", "growth"))
    parser.add_argument("--data", type=Path, default=Path(), help="folder of patient01's files")
    parser.add_argument("--spacing", type=float, help="mm, of the mid-way grid")
    options = parser.parse_args()
    torch.set_num_threads(1)
    {"lesions": lambda: lesions(options.data, options.spacing), "error": error, "growth": growth}[options.group]()


def lesions(data: Path, spacing_mm: float | None) -> None:
    """How well maps of change agree with ``gt.nii.gz``, inside the brain mask of the common space."""
    truth, brain = (read_labels(data / f"{name}.nii.gz") for name in ("gt", "common_space_brainmask"))
    visits = [read_image(data / f"study{number}_FLAIR.nii.gz") for number in (1, 2)]
    to_study = [read_transform(data / f"study{number}_FLAIR_to_common_space.txt") for number in (1, 2)]
    inside = brain.numpy() > 0
    marked = truth.numpy() > 0
    first = to_study[0].map_points(truth.geometry.map_voxels(np.argwhere(inside)[:, ::-1]))
    began = time.process_time()
    result = follow_up([Visit(image) for image in visits], spacing_mm=spacing_mm)
    seconds = time.process_time() - began
    midway = _points(np.linalg.inv(result.midway.to_visit[0]), first)
    ours = result.intervals[0].subtraction
    plain, moved = _itk_subtraction(*visits)
    smooth = ndimage.gaussian_filter(plain.numpy()[0], [DETAIL_MM / mm for mm in plain.geometry.spacing_mm[::-1]])
    maps = {
        "follow_up": (ours, midway),
        "SimpleITK rigid, subtraction": (plain, first),
        "the same, smoothed by 1.5 mm": (Image.from_array(smooth, plain.geometry), first),
    }
    for name, (image, points) in maps.items():
        values = sample_linear(image.tensor, torch.from_numpy(image.geometry.map_points(points)))[0].abs().numpy()
        _say(f"| {name} | {_agreement(values, inside, marked)} |")
    second = to_study[1].map_points(truth.geometry.map_voxels(np.argwhere(inside)[:, ::-1]))[::100]
    rigid = result.midway.to_visit[1] @ np.linalg.inv(result.midway.to_visit[0])
    for name, places in (("ours", _points(rigid, first[::100])), ("SimpleITK", _points(moved, first[::100]))):
        _say(f"rigid part, {name}: {np.linalg.norm(places - second, axis=1).mean():.2f} mm from the given affines")
    _say(f"known to {result.midway.rigid_error_mm[1]:.2f} mm by itself; {seconds:.0f} CPU s")


def _agreement(values: np.ndarray, inside: np.ndarray, marked: np.ndarray) -> str:
    """AUC, best Dice, and at that threshold the lesions hit and what was hit besides."""
    truth = marked[inside]
    positive = truth.sum()
    auc = (rankdata(values)[truth].sum() - positive * (positive + 1) / 2) / positive / (len(truth) - positive)
    order = np.argsort(-values)
    dice = 2 * np.cumsum(truth[order]) / (np.arange(1, len(order) + 1) + positive)
    found = np.zeros_like(marked)
    found[inside] = values >= values[order][dice.argmax()]
    wanted, count = ndimage.label(marked)
    hits, total = ndimage.label(found)
    sensitivity = len(np.unique(wanted[found & marked])) / count
    return f"{auc:.3f} | {dice.max():.3f} | {sensitivity:.2f} | {total - len(np.unique(hits[found & marked]))}"


def _itk_subtraction(first: Image, second: Image) -> tuple[Image, np.ndarray]:
    """Second minus first on the first's grid after a rigid registration, each divided by its standard deviation."""
    fixed, moving = (itk_from_image(image) for image in (first, second))
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(50)
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(0.1)
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-4, 200)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([4, 2, 1])
    method.SetSmoothingSigmasPerLevel([2, 1, 0])
    start = sitk.CenteredTransformInitializer(
        fixed, moving, sitk.Euler3DTransform(), sitk.CenteredTransformInitializerFilter.MOMENTS
    )
    method.SetInitialTransform(start, inPlace=True)
    method.Execute(fixed, moving)
    moved = sitk.GetArrayFromImage(sitk.Resample(moving, fixed, start, sitk.sitkLinear, 0.0))
    array = first.numpy()[0]
    body = (array > array.mean()) & (moved > 0)
    difference = (moved - moved[body].mean()) / moved[body].std() - (array - array[body].mean()) / array[body].std()
    corners = np.vstack((np.zeros(3), np.eye(3))) * 100
    flip = np.diag([-1.0, -1.0, 1.0])
    there = np.array([start.TransformPoint(point) for point in (corners @ flip).tolist()]) @ flip
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = (there[1:] - there[0]).T / 100, there[0]
    return Image.from_array(difference * (moved > 0), first.geometry), matrix


def error() -> None:
    """The error that the registration gives itself, and its true one, on phantoms with a known deformation."""
    settings = PRESETS["followup"]
    for spacing, noise, largest in (
        (1.5, 0.3, 0.0),
        (1.5, 0.3, 2.0),
        (1.5, 1.0, 2.0),
        (2.0, 1.0, 1.0),
        (1.5, 0.02, 2.0),
    ):
        grid = Geometry.from_spacing((48,) * 3, (spacing,) * 3, (-23.5 * spacing,) * 3)
        head = make_head(grid)
        bend = make_bend(grid, max(largest, 1e-6), 12.0)
        own = noise * torch.randn(head.tensor.shape, generator=torch.Generator().manual_seed(1))
        motion = find_motion(head.with_tensor(head.tensor + own), bent(head, bend, noise), settings, 0.0, "cpu", SILENT)
        points = grid.map_voxels(np.argwhere(head.numpy()[0] > 3)[::29, ::-1])
        apart = motion.inverse.map_points(points) - Transform((bend,)).map_points(points)
        told = sample_linear(motion.error_mm.tensor, torch.from_numpy(grid.map_points(points)))
        rms = float(np.sqrt(np.square(apart).mean())), float(told.square().mean().sqrt())
        _say(f"| {spacing} | {noise / 6:.0%} | {largest} | {rms[0]:.3f} | {rms[1]:.3f} |")


def growth() -> None:
    """How often the error bar of a volume change holds the true one: ellipsoids at random places on random grids."""
    chance = np.random.default_rng(0)
    for spacing in ((1.0, 1.0, 1.0), (0.7, 0.7, 3.0)):
        for radius in (3.0, 6.0, 12.0):
            held = 0
            for _ in range(200):
                sizes, truths = [], []
                for factor in (1.0, 1.1):
                    misplaced = chance.normal(0, np.mean(spacing) / np.sqrt(12))
                    sizes.append(_drawn(radius * factor + misplaced, spacing, chance))
                    truths.append(4 / 3 * np.pi * (radius * factor) ** 3)
                change, true = sizes[1].mm3 - sizes[0].mm3, truths[1] - truths[0]
                held += abs(change - true) <= 1.96 * np.sqrt(sizes[0].variance_mm6 + sizes[1].variance_mm6)
            _say(f"| {spacing} | {radius} | {held / 200:.0%} |")


def _drawn(radius_mm: float, spacing: tuple[float, ...], chance: np.random.Generator):
    """A ball anywhere on a lattice, drawn as voxels."""
    size = [int(2 * radius_mm / mm) + 6 for mm in spacing]
    grid = Geometry.from_spacing((size[0], size[1], size[2]), (spacing[0], spacing[1], spacing[2]))
    centre = grid.centre_ras + chance.uniform(-0.5, 0.5, 3) * spacing
    k, j, i = np.indices(grid.shape_kji)
    inside = np.linalg.norm(grid.map_voxels(np.stack((i, j, k), axis=-1)) - centre, axis=-1) < radius_mm
    return measure_lesions(inside, grid)


def _points(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
