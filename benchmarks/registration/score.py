"""Scores of one run, from its exported fields alone: the same code judges every method. Last stop but the table.

Nothing here knows the method, nor the library under test: SimpleITK applies the fields, scipy measures distances.
Arrays are [K, J, I]; vectors are LPS mm on the fixed grid (the inverse: on the moving grid), x_moving = x + u(x).
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

ROLES = ("fixed", "moving")
MARGIN_VOXELS = 3
SMALLEST_JACOBIAN = 1e-3


def score_run(pair: Path, run: Path) -> dict[str, float]:
    """All scores that the contents of the pair's folder allow (see ``pairs.py``); NaN where nothing can be said.

    Args:
        run: folder with ``field.mha`` and perhaps ``inverse.mha``.

    Returns:
        dice, hd95_mm, tre_mean_mm, tre_p95_mm, folded_percent (central differences, inside the region),
        folded_corner_percent (any of the 8 one-sided determinants, inside the region), folded_anywhere_percent (the
        same over the whole grid), sdlogj, inverse_mean_voxels, inverse_p99_voxels. The region is ``score_mask``, else
        the fixed labels with a margin, else everything.
    """
    field = sitk.ReadImage(str(run / "field.mha"), sitk.sitkVectorFloat32)
    if not np.isfinite(sitk.GetArrayViewFromImage(field)).all():
        raise ValueError("the field has vectors that are not finite")
    scores: dict[str, float] = {}
    if (pair / "fixed_seg.nii.gz").exists():
        fixed, moving = (sitk.ReadImage(str(pair / f"{role}_seg.nii.gz"), sitk.sitkInt32) for role in ROLES)
        scores |= overlap(fixed, warp_labels(moving, field), labels_of(fixed) & labels_of(moving))
    region = region_of(pair, field)
    if (pair / "truth.nii.gz").exists():
        truth = sitk.ReadImage(str(pair / "truth.nii.gz"), sitk.sitkVectorFloat32)
        distances = np.linalg.norm(sitk.GetArrayFromImage(field) - sitk.GetArrayViewFromImage(truth), axis=-1)[region]
        scores |= describe_errors(distances)
    elif (pair / "fixed_landmarks.csv").exists():
        points = [np.loadtxt(pair / f"{role}_landmarks.csv", delimiter=",", ndmin=2) for role in ROLES]
        scores |= describe_errors(np.linalg.norm(map_points(field, points[0]) - points[1], axis=1))
    scores |= regularity(field, region)
    if (run / "inverse.mha").exists():
        inverse = sitk.ReadImage(str(run / "inverse.mha"), sitk.sitkVectorFloat32)
        scores |= inverse_consistency(field, inverse, region)
    return scores


def region_of(pair: Path, field: sitk.Image) -> np.ndarray:
    """Where truth and regularity count, [K, J, I] bool on the fixed grid."""
    if (pair / "score_mask.nii.gz").exists():
        return sitk.GetArrayFromImage(sitk.ReadImage(str(pair / "score_mask.nii.gz"))) > 0
    if (pair / "fixed_seg.nii.gz").exists():
        labels = sitk.GetArrayFromImage(sitk.ReadImage(str(pair / "fixed_seg.nii.gz"))) > 0
        return ndimage.binary_dilation(labels, iterations=MARGIN_VOXELS)
    return np.ones(field.GetSize()[::-1], bool)


def labels_of(segmentation: sitk.Image) -> set[int]:
    """Values above 0."""
    return {int(label) for label in np.unique(sitk.GetArrayViewFromImage(segmentation)) if label > 0}


def warp_labels(moving: sitk.Image, field: sitk.Image) -> sitk.Image:
    """Moving labels on the fixed grid, nearest neighbour."""
    return sitk.Resample(moving, field, _as_transform(field), sitk.sitkNearestNeighbor, 0)


def overlap(fixed: sitk.Image, warped: sitk.Image, labels: set[int]) -> dict[str, float]:
    """Mean over labels of Dice, and of the 95th percentile of the distances between the surfaces, in mm.

    A label that the warp lost has Dice 0 and no distance.
    """
    one, other = sitk.GetArrayFromImage(fixed), sitk.GetArrayFromImage(warped)
    spacing = fixed.GetSpacing()[::-1]
    dices, distances = [], []
    for label in sorted(labels):
        a, b = one == label, other == label
        dices.append(2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b)))
        if b.any():
            box = ndimage.find_objects((a | b).astype(np.uint8))[0]
            around = tuple(slice(max(0, side.start - 1), side.stop + 1) for side in box)
            distances.append(_hd95(a[around], b[around], spacing))
    return {"dice": _mean(dices), "hd95_mm": _mean(distances)}


def _hd95(a: np.ndarray, b: np.ndarray, spacing: tuple[float, ...]) -> float:
    surfaces = [mask & ~ndimage.binary_erosion(mask) for mask in (a, b)]
    to_a, to_b = (ndimage.distance_transform_edt(~surface, sampling=spacing) for surface in surfaces)
    return float(max(np.percentile(to_b[surfaces[0]], 95), np.percentile(to_a[surfaces[1]], 95)))


def map_points(field: sitk.Image, points_lps: np.ndarray) -> np.ndarray:
    """Fixed points [N, 3] to moving points."""
    transform = _as_transform(field)
    return np.array([transform.TransformPoint(point) for point in points_lps.tolist()])


def describe_errors(distances_mm: np.ndarray) -> dict[str, float]:
    """Mean and 95th percentile of target registration errors."""
    return {"tre_mean_mm": _mean(distances_mm), "tre_p95_mm": float(np.percentile(distances_mm, 95))}


def regularity(field: sitk.Image, region: np.ndarray) -> dict[str, float]:
    """Folding by central and by one-sided differences, and the spread of log |J| (central)."""
    central = determinants(field, "central")
    corner = determinants(field, "corner") <= 0
    logarithm = np.log(np.maximum(central[region], SMALLEST_JACOBIAN))
    return {
        "folded_percent": 100 * float((central[region] <= 0).mean()),
        "folded_corner_percent": 100 * float(corner[region].mean()),
        "folded_anywhere_percent": 100 * float(corner.mean()),
        "sdlogj": float(logarithm.std()),
    }


def determinants(field: sitk.Image, differences: str) -> np.ndarray:
    """det d(x + u)/dx at each voxel, [K, J, I].

    Args:
        differences: ``central`` (one-sided on the border), or ``corner``: the smallest of the 8 determinants that take
            each axis forward or backward (Liu et al. 2022, digital diffeomorphisms). The border has one way.
    """
    steps = np.reshape(field.GetDirection(), (3, 3)) * field.GetSpacing()
    vectors = sitk.GetArrayFromImage(field) @ np.linalg.inv(steps).T.astype(np.float32)  # (i, j, k) in voxels
    axes = [list(_slopes(vectors, 2 - axis, differences)) for axis in range(3)]
    smallest = np.full(vectors.shape[:3], np.inf, np.float32)
    for slopes in itertools.product(*axes):
        columns = [slope + np.eye(3, dtype=np.float32)[axis] for axis, slope in enumerate(slopes)]
        np.minimum(smallest, np.einsum("...c,...c->...", np.cross(columns[0], columns[1]), columns[2]), out=smallest)
    return smallest


def _slopes(vectors: np.ndarray, axis: int, differences: str) -> Iterator[np.ndarray]:
    if vectors.shape[axis] == 1:
        yield np.zeros_like(vectors)
    elif differences == "central":
        yield np.gradient(vectors, axis=axis)
    else:
        step = np.diff(vectors, axis=axis)
        n = step.shape[axis]
        yield step.take([*range(n), n - 1], axis=axis)
        yield step.take([0, *range(n)], axis=axis)


def inverse_consistency(field: sitk.Image, inverse: sitk.Image, region: np.ndarray) -> dict[str, float]:
    """Mean and 99th percentile of |inverse(T(x)) - x| in voxels of the fixed grid.

    Only over the region's voxels that T maps into the moving grid: outside, the inverse field is not defined.
    """
    there = sitk.GetArrayFromImage(field)
    voxels = np.stack(np.nonzero(region), axis=-1)[:, ::-1]
    steps = np.reshape(field.GetDirection(), (3, 3)) * field.GetSpacing()
    moved = voxels @ steps.T + np.array(field.GetOrigin()) + there[region]
    inverse_steps = np.reshape(inverse.GetDirection(), (3, 3)) * inverse.GetSpacing()
    at = (moved - np.array(inverse.GetOrigin())) @ np.linalg.inv(inverse_steps).T
    inside = ((at >= 0) & (at <= np.array(inverse.GetSize()) - 1)).all(axis=1)
    if not inside.any():
        return {"inverse_mean_voxels": np.nan, "inverse_p99_voxels": np.nan}
    back = sitk.GetArrayViewFromImage(inverse)
    vectors = [ndimage.map_coordinates(back[..., c], at[inside][:, ::-1].T, order=1) for c in range(3)]
    error = (there[region][inside] + np.stack(vectors, axis=-1)) @ np.linalg.inv(steps).T
    distances = np.linalg.norm(error, axis=1)
    return {"inverse_mean_voxels": _mean(distances), "inverse_p99_voxels": float(np.percentile(distances, 99))}


def _as_transform(field: sitk.Image) -> sitk.Transform:
    return sitk.DisplacementFieldTransform(sitk.Cast(field, sitk.sitkVectorFloat64))


def _mean(values: list[float] | np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


if __name__ == "__main__":
    pair_folder, run_folder = map(Path, sys.argv[1:])
    (run_folder / "score.json").write_text(json.dumps(score_run(pair_folder, run_folder), indent=1))
