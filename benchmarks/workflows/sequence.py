"""A segmentation carried through real images in a known motion: Dice, distance and trembling, against other ways.

``python benchmarks/workflows/sequence.py GROUP --work DIR --data DATA``; see the README beside it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from scipy.stats import spearmanr

sys.path.insert(0, str(Path(__file__).parents[1]))

from measured import cpu_seconds
from moving_sequence import Movement, MovingSequence

from MedSegRegLib.files import read_image, read_labels
from MedSegRegLib.files.itk import displacement_from_itk, itk_from_image
from MedSegRegLib.image import Image, Labels
from MedSegRegLib.register.filters import filter_axes, resize_axes
from MedSegRegLib.register.run import register
from MedSegRegLib.transform import Transform
from MedSegRegLib.workflows.sequence import SETTINGS as PRESETS
from MedSegRegLib.workflows.sequence import propagate
from MedSegRegLib.workflows.soft_labels import transfer_labels

GROUPS = ("hippocampus", "hippocampus-noisy", "ct")
CT_PACKAGE = "totalsegmentator==2.18.0"
CT_FILES = "tests/reference_files/example_ct.nii.gz", "tests/reference_files/example_seg_fast_force_split.nii.gz"
CT_SPACING_MM = 4.5
MOST_POINTS = 20_000
SETTINGS = PRESETS["same-contrast"]

Places = list[Transform]
"""From each frame to the key frame."""


def main() -> None:
    """Run a group and write its rows and its summary."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("group", choices=GROUPS)
    parser.add_argument("--work", type=Path, required=True, help="folder for sources and results")
    parser.add_argument("--data", type=Path, default=Path(), help="folder with hippocampus/")
    parser.add_argument("--cases", type=int, default=4)
    options = parser.parse_args()
    torch.set_num_threads(1)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    rows = []
    for name, sequence in _cases(options):
        for method, run in METHODS.items():
            began = cpu_seconds()
            labels, places, confidence = run(sequence)
            rows.append({"case": name, "method": method, "cpu_seconds": cpu_seconds() - began})
            rows[-1] |= _score(sequence, labels, places, confidence)
            _say(_line(rows[-1:]))
    for method in METHODS:
        _say(_line([row for row in rows if row["method"] == method]))
    (options.work / f"sequence-{options.group}.json").write_text(json.dumps(rows, indent=1))


def _cases(options: argparse.Namespace) -> Iterator[tuple[str, MovingSequence]]:
    if options.group == "ct":
        still, labels = _ct(options.work)
        yield "ct", MovingSequence(still, labels, Movement(largest_mm=25.0, sigma_mm=35.0, noise=0.02, seed=1))
        return
    noise = 0.08 if options.group == "hippocampus-noisy" else 0.03
    files = sorted((options.data / "hippocampus" / "images").glob("*.nii.gz"))[: options.cases]
    for seed, file in enumerate(files):
        labels = read_labels(file.parents[1] / "labels" / file.name)
        movement = Movement(largest_mm=9.0, sigma_mm=9.0, noise=noise, seed=seed)
        yield file.name.partition(".")[0], MovingSequence(read_image(file), labels, movement)


def _ct(work: Path) -> tuple[Image, Labels]:
    """A CT of the trunk with the labels of 61 organs, both of TotalSegmentator's tests (Apache-2.0)."""
    folder = work / "sources" / "totalsegmentator"
    if not folder.exists():
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-build-isolation"]
        subprocess.run([*command, "--no-binary", ":all:", "--dest", str(work / "sources"), CT_PACKAGE], check=True)
        with tarfile.open(next((work / "sources").glob("totalsegmentator-*.tar.gz"))) as archive:
            wanted = [member for member in archive.getmembers() if member.name.endswith(CT_FILES)]
            archive.extractall(folder, wanted, filter="data")
    image, labels = (
        read(next(folder.glob(f"*/{file}"))) for read, file in zip((read_image, read_labels), CT_FILES, strict=True)
    )
    grid = image.geometry.with_spacing((CT_SPACING_MM,) * 3)
    axes = resize_axes(image.geometry, grid, image.tensor, smooth=True)
    coarse = Image(filter_axes(image.tensor, axes).clamp(-1000, 500) + 1000, grid, "ct")
    return coarse, transfer_labels(labels, grid, Transform())


def _nothing(sequence: MovingSequence) -> tuple[list[Labels], Places, dict[int, float]]:
    return _carried(sequence, [Transform()] * len(sequence.frames))


def _alone(sequence: MovingSequence) -> tuple[list[Labels], Places, dict[int, float]]:
    """Each frame registered for itself, from the start."""
    key = sequence.frames[0]
    found = [register(key, sequence.frames[number], SETTINGS).inverse for number in range(1, len(sequence.frames))]
    return _carried(sequence, [Transform(), *found])


def _chain(sequence: MovingSequence) -> tuple[list[Labels], Places, dict[int, float]]:
    """From frame to frame, always forwards."""
    places = [Transform()]
    for number in range(1, len(sequence.frames)):
        step = register(sequence.frames[number - 1], sequence.frames[number], SETTINGS).inverse
        places.append(step.then(places[-1]))
    return _carried(sequence, places)


def _demons(sequence: MovingSequence) -> tuple[list[Labels], Places, dict[int, float]]:
    """ITK's fast symmetric forces demons on three levels, after its histogram matching."""
    key = itk_from_image(sequence.frames[0])
    places = [Transform()]
    for number in range(1, len(sequence.frames)):
        frame = itk_from_image(sequence.frames[number])
        moving, field = sitk.HistogramMatching(key, frame, 256, 15), None
        for factor in (4, 2, 1):
            shrink = [max(1, min(factor, n // 8)) for n in frame.GetSize()]
            fixed = sitk.Shrink(sitk.SmoothingRecursiveGaussian(frame, 0.5 * factor * min(frame.GetSpacing())), shrink)
            field = sitk.Resample(field, fixed) if field is not None else sitk.TransformToDisplacementField(
                sitk.Transform(3, sitk.sitkIdentity), sitk.sitkVectorFloat64, fixed.GetSize(), fixed.GetOrigin(),
                fixed.GetSpacing(), fixed.GetDirection(),
            )  # fmt: skip
            demons = sitk.FastSymmetricForcesDemonsRegistrationFilter()
            demons.SetNumberOfIterations(60)
            demons.SetStandardDeviations(1.5)
            field = demons.Execute(fixed, sitk.Resample(moving, fixed), field)
        places.append(Transform((displacement_from_itk(sitk.Cast(field, sitk.sitkVectorFloat32)),)))
    return _carried(sequence, places)


def _ours(sequence: MovingSequence, smooth: bool = True) -> tuple[list[Labels], Places, dict[int, float]]:
    frames = []
    told = propagate(sequence.frames, {0: sequence.still_labels}, frames.append, cyclic=True, smooth=smooth)
    confidence = {review.number: review.confidence for review in told.reviews}
    return [frame.labels for frame in frames], [frame.transform for frame in frames], confidence


def _carried(sequence: MovingSequence, places: Places) -> tuple[list[Labels], Places, dict[int, float]]:
    labels = [transfer_labels(sequence.still_labels, sequence.still.geometry, place) for place in places]
    return labels, places, {}


METHODS: dict[str, Callable[[MovingSequence], tuple[list[Labels], Places, dict[int, float]]]] = {
    "nothing": _nothing,
    "demons, frame to key (SimpleITK)": _demons,
    "register, each frame alone": _alone,
    "register, frame to frame": _chain,
    "propagate, not smoothed": lambda sequence: _ours(sequence, smooth=False),
    "propagate": _ours,
}


def _score(
    sequence: MovingSequence, labels: list[Labels], places: Places, confidence: dict[int, float]
) -> dict[str, object]:
    """Of all frames but the key frame. Distances are in the key frame, at points of its structures."""
    inside = np.argwhere(sequence.still_labels.numpy() > 0)[:, ::-1]
    points = sequence.still.geometry.map_voxels(inside[:: max(1, len(inside) // MOST_POINTS)])
    numbers = range(len(sequence.frames))
    errors = np.stack([places[n].map_points(sequence.from_rest(n).map_points(points)) - points for n in numbers])
    bends = np.roll(errors, 1, axis=0) - 2 * errors + np.roll(errors, -1, axis=0)
    distance = np.linalg.norm(errors, axis=-1)[1:].mean(axis=1)
    dice = [_dice(labels[n], sequence.labels(n)) for n in numbers[1:]]
    return {
        "dice": dice,
        "distance_mm": distance.tolist(),
        "trembling_mm": float(np.linalg.norm(bends, axis=-1).mean()),
        "confidence": [confidence[n] for n in numbers[1:]] if confidence else None,
    }


def _dice(found: Labels, truth: Labels) -> float:
    one, other = found.numpy(), truth.numpy()
    values = [value for value in np.unique(other) if value]
    return float(
        np.mean([2 * ((one == v) & (other == v)).sum() / ((one == v).sum() + (other == v).sum()) for v in values])
    )


def _line(rows: list[dict]) -> str:
    dice, distance = (np.array([row[key] for row in rows]) for key in ("dice", "distance_mm"))
    trembling, seconds = (np.mean([row[key] for row in rows]) for key in ("trembling_mm", "cpu_seconds"))
    name = rows[0]["case"] if len(rows) == 1 else f"{len(rows)} cases"
    line = (
        f"| {name} | {rows[0]['method']} | {dice.mean():.3f} | {dice.min():.3f} | {distance.mean():.2f} | "
        f"{distance.max():.2f} | {trembling:.3f} | {seconds:.0f} |"
    )
    if rows[0]["confidence"]:
        sure = np.ravel([row["confidence"] for row in rows])
        line += f" confidence {sure.mean():.3f}, Spearman {spearmanr(sure, dice.ravel())[0]:.2f} |"
    return line


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
