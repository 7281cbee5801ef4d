"""Aligning the series of one real patient: corner error against the affines that come with the data, beside SimpleITK.

``python benchmarks/workflows/align.py --data DIR [--json FILE]``; see the README beside it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from scipy.spatial.transform import Rotation

from MedSegRegLib.errors import RegistrationError
from MedSegRegLib.evaluate.fusion import draw_fusion
from MedSegRegLib.evaluate.pictures import before_after
from MedSegRegLib.files import read_image, read_labels, read_transform
from MedSegRegLib.files.itk import itk_from_image
from MedSegRegLib.geometry import Geometry, flip_world_matrix
from MedSegRegLib.image import Image, Labels
from MedSegRegLib.register.filters import filter_axes, gaussian_axes
from MedSegRegLib.resample import resample_image, resample_labels
from MedSegRegLib.samples import sample_path
from MedSegRegLib.segment.model import load_model
from MedSegRegLib.transform import Affine, Transform
from MedSegRegLib.workflows.align import SETTINGS, Aligned, align_series, segment_aligned
from MedSegRegLib.workflows.align_check import apart_mm

STUDIES, SERIES, REFERENCE = ("study1", "study2"), ("T1W", "T2W"), "FLAIR"


def main() -> None:
    """Measure and print tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with ms_longitudinal/, prostate_mr_us/")
    parser.add_argument("--json", type=Path, help="file for all numbers")
    parser.add_argument("--only", choices=("accuracy", "failures", "segment", "simulated"))
    parser.add_argument("--pictures", type=Path, help="folder for pictures of the simulated series")
    options = parser.parse_args()
    torch.set_num_threads(1)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    patient = options.data / "ms_longitudinal" / "patient01"
    parts: dict[str, Callable[[], object]] = {
        "accuracy": lambda: measure_accuracy(patient),
        "failures": lambda: measure_failures(patient, options.data),
        "segment": lambda: measure_segmentation(patient),
        "simulated": lambda: measure_simulated(options.pictures),
    }
    found = {name: part() for name, part in parts.items() if options.only in (None, name)}
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=1))


def measure_accuracy(patient: Path) -> list[dict[str, object]]:
    """Corner errors of each series of each study, by ours (rigid, affine) and by SimpleITK's rigid."""
    rows = []
    for study in STUDIES:
        images = _images(patient, study)
        grid = images[REFERENCE].geometry
        for name in SERIES:
            truth = read_transform(patient / f"{study}_{name}_intrastudy_to_FLAIR.txt").linear_part
            pair = {REFERENCE: images[REFERENCE], name: images[name]}
            row: dict[str, object] = {"study": study, "series": name, "before": apart_mm(np.eye(4), truth, grid)}
            row["best_rigid"] = apart_mm(_best_rigid(truth, grid), truth, grid)
            for kind, settings in SETTINGS.items():
                began = time.process_time()
                aligned = align_series(pair, REFERENCE, settings=settings)
                row[f"{kind}_seconds"] = time.process_time() - began
                row[kind] = apart_mm(aligned.series[name].transform.linear_part, truth, grid)
                row[f"{kind}_both_ways"] = aligned.checks[name].both_ways_mm
                row[f"{kind}_verdict"] = aligned.checks[name].verdict
            began = time.process_time()
            row["itk"] = apart_mm(_register_by_itk(pair[REFERENCE], pair[name]), truth, grid)
            row["itk_seconds"] = time.process_time() - began
            rows.append(row)
            _say(row)
    keys = ("before", "best_rigid", "rigid", "affine", "itk", "rigid_seconds", "affine_seconds", "itk_seconds")
    _say({"mean": "", **{key: float(np.mean([row[key] for row in rows])) for key in keys}})
    return rows


def measure_failures(patient: Path, data: Path) -> list[dict[str, object]]:
    """What the check says where there is nothing to align, and where a series begins far away."""
    images = _images(patient, "study2")
    flair, t1 = images[REFERENCE], images["T1W"]
    far = np.eye(4)
    far[:3, :3] = Rotation.from_euler("xyz", (10, -15, 30), degrees=True).as_matrix()
    far[:3, 3] = 80, -50, 120
    noise = torch.rand(t1.tensor.shape, generator=torch.Generator().manual_seed(0))
    prostate = min((data / "prostate_mr_us" / "mr_images").glob("*.nii.gz"))
    cases = {
        "T1 turned by 36 degrees and 150 mm away": Image(t1.tensor, t1.geometry.moved(far), "far"),
        "only the upper third of the T1": _upper_third(t1),
        "noise": t1.with_tensor(noise),
        "T1 upside down": t1.with_tensor(t1.tensor.flip(1)),
        "a prostate": read_image(prostate),
    }
    rows = []
    for name, image in cases.items():
        try:
            check = align_series({REFERENCE: flair, "other": image}, REFERENCE).checks["other"]
        except RegistrationError as error:
            rows.append({"case": name, "verdict": "refused", "reasons": [str(error)]})
            _say(rows[-1])
            continue
        rows.append(
            {
                "case": name,
                "verdict": check.verdict,
                "both_ways": check.both_ways_mm,
                "overlap": check.overlap,
                "turn": check.turn_degrees,
                "reasons": list(check.reasons),
            }
        )
        _say(rows[-1])
    return rows


def measure_segmentation(patient: Path) -> list[dict[str, object]]:
    """The brain by the shipped model on the FLAIR, back on each native grid, against the model on each series alone."""
    images, model = _images(patient, "study2"), load_model("brain-extraction", "cpu")
    aligned = align_series(images, REFERENCE)
    result, native = segment_aligned(aligned, model, native=tuple(images))
    rows = []
    for name, labels in native.items():
        alone = result.labels if name == REFERENCE else _segment_alone(aligned, model, name)
        rows.append(
            {
                "grid": name,
                "size": labels.geometry.size_ijk,
                "same_grid": labels.geometry.same_grid(images[name].geometry),
                "ml": _volume_ml(labels),
                "ml_alone": _volume_ml(alone),
                "dice": _dice(labels, alone),
            }
        )
        _say(rows[-1])
    return rows


def measure_simulated(pictures: Path | None) -> list[dict[str, object]]:
    """The shipped head in another contrast, in slices of 4 mm and turned: how far the result is from the known pose."""
    head = read_image(sample_path("s1-t1"))
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("xyz", (7, -5, 9), degrees=True).as_matrix()
    pose[:3, 3] = 9, -12, 6
    value = head.tensor / float(torch.quantile(head.tensor.flatten()[::50], 0.99))
    other = value * torch.exp(-(((value - 0.45) / 0.25) ** 2))
    thick = head.geometry.with_spacing((1.2, 1.2, 4.0))
    series = resample_image(head.with_tensor(other), thick, Transform((Affine(np.linalg.inv(pose)),)))
    aligned = align_series({"T1": head, "other": series}, "T1")
    error = apart_mm(aligned.series["other"].transform.linear_part, pose, head.geometry)
    row: dict[str, object] = {"case": "simulated", "before": apart_mm(np.eye(4), pose, head.geometry), "rigid": error}
    _say(row)
    if pictures is not None:
        before = resample_image(series, head.geometry)
        before_after(
            head, before, aligned.resampled("other"), pictures / "align.png", "Another contrast, in thick slices"
        )
        _draw_uptake(pictures / "align-fusion.png")
    return [row]


def _draw_uptake(path: Path) -> None:
    """The grey matter of the shipped template, smoothed, as if it were a PET."""
    head, brain = read_image(sample_path("icbm152-t1")), read_labels(sample_path("icbm152-t1-mask"))
    value = head.tensor / float(torch.quantile(head.tensor.flatten()[::50], 0.99))
    uptake = torch.exp(-(((value - 0.62) / 0.09) ** 2)) * resample_labels(brain, head.geometry).tensor
    uptake = filter_axes(uptake, gaussian_axes(head.geometry, 3.0, uptake))
    draw_fusion(head, head.with_tensor(uptake), path, "pet")


def _segment_alone(aligned: Aligned, model: object, name: str) -> Labels:
    one = Aligned({name: aligned.series[name]}, name, aligned.settings, "", ())
    return segment_aligned(one, model)[0].labels  # type: ignore[arg-type]


def _images(patient: Path, study: str) -> dict[str, Image]:
    return {name: read_image(patient / f"{study}_{name}.nii.gz") for name in (REFERENCE, *SERIES)}


def _best_rigid(truth: np.ndarray, grid: Geometry) -> np.ndarray:
    """The rigid matrix that is nearest to an affine one at the corners."""
    corners = grid.corners_ras()
    there = corners @ truth[:3, :3].T + truth[:3, 3]
    turn, _ = Rotation.align_vectors(there - there.mean(axis=0), corners - corners.mean(axis=0))
    matrix = np.eye(4)
    matrix[:3, :3] = turn.as_matrix()
    matrix[:3, 3] = there.mean(axis=0) - matrix[:3, :3] @ corners.mean(axis=0)
    return matrix


def _register_by_itk(fixed: Image, moving: Image) -> np.ndarray:
    """SimpleITK's rigid registration by Mattes' mutual information over three scales: fixed to moving RAS."""
    a, b = itk_from_image(fixed), itk_from_image(moving)
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(50)
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(0.2)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsGradientDescent(1.0, 200, 1e-6, 10)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([4, 2, 1])
    method.SetSmoothingSigmasPerLevel([2, 1, 0])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.SetInitialTransform(sitk.Euler3DTransform(fixed.geometry.centre_ras * (-1, -1, 1), 0, 0, 0), inPlace=False)
    found = method.Execute(a, b)
    matrix = np.eye(4)
    origin = np.array(found.TransformPoint((0.0, 0.0, 0.0)))
    matrix[:3, :3] = np.stack([np.array(found.TransformPoint(axis)) - origin for axis in np.eye(3).tolist()], axis=1)
    matrix[:3, 3] = origin
    return flip_world_matrix(matrix)


def _upper_third(image: Image) -> Image:
    i, j, k = image.geometry.size_ijk
    first = 2 * k // 3
    return Image(
        image.tensor[:, first:].clone(), image.geometry.window((0, 0, first), (i, j, k - first)), "upper third"
    )


def _volume_ml(labels: Labels) -> float:
    return float((labels.tensor > 0).sum()) * labels.geometry.voxel_volume_mm3 / 1000


def _dice(one: Labels, other: Labels) -> float:
    a, b = one.tensor > 0, other.tensor > 0
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def _say(row: dict[str, object]) -> None:
    cells = [f"{key} {value:.3f}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items()]
    sys.stdout.write(" | ".join(cells) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
