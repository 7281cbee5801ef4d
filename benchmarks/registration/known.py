"""Set (b): a real T1 and T2 under smooth deformations that are known exactly.

The moving image is the ICBM 2009c template as it is (T1, or its real T2). The fixed image is the template's T1 drawn
through a random diffeomorphism and an affine: fixed(x) = T1(phi(x)). So phi is the exact answer, without any inversion.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from pairs import Contents, Pair, make_pair, on_grid_of
from scipy import ndimage
from sources import icbm

FIRST_SEED = {"tune": 0, "report": 100}
GROUPS = ("t1-t1-isotropic", "t1-t2-isotropic", "t1-t1-oblique", "t1-t2-oblique")
SIGMA_MM, RMS_MM = (24.0, 12.0, 6.0), (3.0, 2.0, 1.0)
MARGIN_MM = 14
TAPER_MM = 24
SQUARINGS = 7
NOISE = 0.015
OBLIQUE_SPACING_MM = (0.8, 0.8, 3.0)
FIELD_OF_VIEW = 1.2  # of the tilted slices, as a multiple: nothing of the brain is cut off
SLICE_SAMPLES_MM = (-1.0, 0.0, 1.0)


@dataclass(frozen=True)
class Template:
    """Brain-extracted images, cropped alike; 1 mm."""

    t1: sitk.Image
    t2: sitk.Image
    brain: sitk.Image
    structures: sitk.Image


def make_pairs(work: Path, data: Path, split: str, group: str, count: int) -> list[Pair]:
    """One pair a seed; seeds differ between the splits.

    Args:
        group: contrasts, and the grid of the fixed image: 1 mm, or 0.8 x 0.8 x 3 mm thick slices, tilted.
    """
    first = FIRST_SEED[split]
    return [
        make_pair(
            work / f"known-{split}" / group / f"seed{seed:03d}",
            partial(_contents, work, seed, group),
            "same" if group.startswith("t1-t1") else "different",
        )
        for seed in range(first, first + count)
    ]


def read_template(work: Path) -> Template:
    """The ICBM 2009c symmetric template with CerebrA's structures, cropped to the brain and a margin."""
    files = icbm(work)
    t1, t2 = (sitk.ReadImage(str(files[name]), sitk.sitkFloat32) for name in ("t1", "t2"))
    brain = sitk.ReadImage(str(files["mask"]), sitk.sitkUInt8) > 0
    structures = sitk.Resample(
        sitk.ReadImage(str(files["structures"]), sitk.sitkInt16), t1, sitk.Transform(), sitk.sitkNearestNeighbor, 0
    )
    found = np.argwhere(sitk.GetArrayViewFromImage(brain) > 0)
    first = np.maximum(found.min(axis=0) - MARGIN_MM, 0)
    last = np.minimum(found.max(axis=0) + MARGIN_MM + 1, sitk.GetArrayViewFromImage(brain).shape)
    start, size = first[::-1].tolist(), (last - first)[::-1].tolist()
    crop = [sitk.RegionOfInterest(image, size, start) for image in (t1, t2, brain, structures)]
    crop[:2] = [sitk.Mask(image, crop[2]) for image in crop[:2]]
    return Template(*crop)


def _contents(work: Path, seed: int, group: str) -> Contents:
    template, rng = read_template(work), np.random.default_rng(seed)
    phi = draw_deformation(template.t1, rng)
    place = sitk.Cast(template.t1, sitk.sitkFloat32) if group.endswith("isotropic") else oblique_grid(template.t1)
    fixed = _draw_image(_remap(template.t1), place, phi)
    brain = sitk.Resample(template.brain, place, phi, sitk.sitkNearestNeighbor, 0)
    moving = template.t1 if group.startswith("t1-t1") else template.t2
    truth = sitk.TransformToDisplacementField(
        phi, sitk.sitkVectorFloat32, place.GetSize(), place.GetOrigin(), place.GetSpacing(), place.GetDirection()
    )
    return {
        "fixed": _add_noise(fixed, brain, rng),
        "moving": _add_noise(moving, template.brain, rng),
        "fixed_seg": sitk.Resample(template.structures, place, phi, sitk.sitkNearestNeighbor, 0),
        "moving_seg": template.structures,
        "score_mask": brain,
        "truth": truth,
    }


def draw_deformation(like: sitk.Image, rng: np.random.Generator) -> sitk.CompositeTransform:
    """exp of a smooth random velocity, then a random affine, about a field of view; LPS mm, fixed to moving."""
    centre = like.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in like.GetSize()])
    rotation = sitk.Euler3DTransform([0, 0, 0], *(float(a) for a in rng.uniform(-0.14, 0.14, 3)))
    stretch = np.diag(rng.uniform(0.94, 1.06, 3)) + rng.uniform(-0.03, 0.03, (3, 3)) * (1 - np.eye(3))
    affine = sitk.AffineTransform(3)
    affine.SetCenter(centre)
    affine.SetMatrix((np.reshape(rotation.GetMatrix(), (3, 3)) @ stretch).ravel().tolist())
    affine.SetTranslation([float(t) for t in rng.uniform(-6, 6, 3)])
    around = sitk.ConstantPad(like, [TAPER_MM] * 3, [TAPER_MM] * 3)
    voxels = _exponential(_draw_velocity(around.GetSize()[::-1], rng))
    millimetres = voxels @ (np.reshape(around.GetDirection(), (3, 3)) * around.GetSpacing()).T
    return sitk.CompositeTransform([affine, sitk.DisplacementFieldTransform(on_grid_of(millimetres, around))])


def _draw_velocity(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """[K, J, I, 3] (i, j, k) in voxels of 1 mm: Gaussian noise at three scales, fading to nothing at the border."""
    velocity = np.zeros((*shape, 3))
    for sigma, rms in zip(SIGMA_MM, RMS_MM, strict=True):
        for component in range(3):
            noise = ndimage.gaussian_filter(rng.standard_normal(shape), sigma, mode="wrap")
            velocity[..., component] += rms * noise / noise.std()
    for axis, n in enumerate(shape):
        ramp = np.sin(np.pi / 2 * np.clip(np.minimum(np.arange(n), n - 1 - np.arange(n)) / TAPER_MM, 0, 1)) ** 2
        velocity *= ramp.reshape([-1 if other == axis else 1 for other in range(4)])
    return velocity


def _exponential(velocity: np.ndarray) -> np.ndarray:
    """exp(v) - id by scaling and squaring, in voxels (i, j, k) like v."""
    field = velocity / 2**SQUARINGS
    voxels = np.indices(velocity.shape[:3], dtype=float)
    for _ in range(SQUARINGS):
        at = voxels + np.moveaxis(field[..., ::-1], -1, 0)
        moved = [ndimage.map_coordinates(field[..., c], at, order=1, mode="nearest") for c in range(3)]
        field = field + np.stack(moved, axis=-1)
    return field


def oblique_grid(like: sitk.Image) -> sitk.Image:
    """Thick slices about the same centre, tilted about all axes."""
    spacing = np.array(OBLIQUE_SPACING_MM)
    tilt = np.reshape(sitk.Euler3DTransform([0, 0, 0], 0.20, -0.15, 0.25).GetMatrix(), (3, 3))
    directions = tilt @ np.reshape(like.GetDirection(), (3, 3))
    size = np.ceil(FIELD_OF_VIEW * np.array(like.GetSize()) * np.array(like.GetSpacing()) / spacing).astype(int)
    centre = np.array(like.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in like.GetSize()]))
    grid = sitk.Image(size.tolist(), sitk.sitkFloat32)
    grid.SetSpacing(spacing.tolist())
    grid.SetDirection(directions.ravel().tolist())
    grid.SetOrigin((centre - directions @ (spacing * (size - 1) / 2)).tolist())
    return grid


def _draw_image(image: sitk.Image, grid: sitk.Image, phi: sitk.Transform) -> sitk.Image:
    """The image through phi; a thick slice is the mean of samples across it."""
    normal = np.reshape(grid.GetDirection(), (3, 3))[:, 2]
    offsets = SLICE_SAMPLES_MM if grid.GetSpacing()[2] > 1.5 else (0.0,)
    samples = []
    for offset in offsets:
        across = sitk.TranslationTransform(3, (offset * normal).tolist())
        drawn = sitk.Resample(image, grid, sitk.CompositeTransform([phi, across]), sitk.sitkBSpline, 0.0)
        samples.append(sitk.GetArrayFromImage(drawn))
    return on_grid_of(np.stack(samples).mean(axis=0), grid)


def _remap(t1: sitk.Image) -> sitk.Image:
    """Another scanner: a monotone curve and a gain that varies across the head."""
    array = sitk.GetArrayFromImage(t1)
    array = (array / array.max()) ** 0.8
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in array.shape), indexing="ij", sparse=True)
    return on_grid_of((array * (1 + 0.15 * z - 0.1 * x * y + 0.1 * x)).astype(np.float32), t1)


def _add_noise(image: sitk.Image, brain: sitk.Image, rng: np.random.Generator) -> sitk.Image:
    """Noise inside the brain, intensities up to about 1000."""
    array, inside = sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(brain) > 0
    array = array / np.percentile(array[inside], 99.5) + rng.normal(0, NOISE, array.shape)
    return on_grid_of((1000 * np.clip(array, 0, None) * inside).astype(np.float32), image)
