"""A template of hippocampus crops: is it sharper than their affine mean, has it the mean shape; beside ANTs.

``python benchmarks/workflows/template.py --work DIR --data DIR [--peer]``; see the README beside it. The peer,
``ants.build_template``, runs in the environment of the registration's benchmark, on the same normalised files.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

sys.path.insert(0, str(Path(__file__).parents[1]))

from isolated import Limits, python_of, run_isolated

from MedSegRegLib.files import read_image, read_labels, write_image, write_labels
from MedSegRegLib.image import Image, Labels
from MedSegRegLib.transform import Affine, Transform
from MedSegRegLib.workflows.mean_shape import mean_image, normalised, sharpness
from MedSegRegLib.workflows.soft_labels import transfer_labels
from MedSegRegLib.workflows.template import Template, build_template

MARGIN_VOXELS = 4
PEER = """
import json, sys, time
import ants
folder, rounds, files = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
images = [ants.image_read(file) for file in files]
began = time.process_time()
template = ants.build_template(initial_template=images[0], image_list=images, iterations=rounds, gradient_step=0.2)
seconds = time.process_time() - began
ants.image_write(template, folder + "/template.nii.gz")
labels = []
for file, image in zip(files, images):
    found = ants.registration(template, image, "SyN", random_seed=1)
    drawn = ants.image_read(file.replace("study", "labels"))
    moved = ants.apply_transforms(template, drawn, found["fwdtransforms"], interpolator="genericLabel")
    ants.image_write(moved, folder + "/" + file.rpartition("/")[2].replace("study", "moved"))
json.dump({"cpu_s": seconds}, open(folder + "/usage.json", "w"))
"""


def main() -> None:
    """Build both templates, and write a row each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder of the registration's benchmark")
    parser.add_argument("--data", type=Path, required=True, help="folder with hippocampus/")
    parser.add_argument("--studies", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--peer", action="store_true", help="also by ANTs")
    options = parser.parse_args()
    torch.set_num_threads(1)
    files = sorted((options.data / "hippocampus" / "images").glob("*.nii.gz"))[: options.studies]
    studies = [read_image(file) for file in files]
    drawn = [read_labels(file.parents[1] / "labels" / file.name) for file in files]
    began = time.process_time()
    template = build_template(studies, drawn, rounds=options.rounds)
    seconds = time.process_time() - began
    for one in template.rounds:
        _say(f"round {one.number}: {one.sharpness:.2f} per mm, moved {one.shape_mm:.2f} mm, change {one.change}")
    _say(f"off the mean {_off_mean_mm(template):.2f} mm, {seconds:.0f} CPU s")
    linear = [Transform((Affine(way.linear_part),)) for way in template.transforms]
    folder = options.work / "template-ours"
    folder.mkdir(exist_ok=True)
    for name, ways in (("linear", linear), ("template", template.transforms)):
        grid = template.image.geometry
        image, _ = mean_image([normalised(study) for study in studies], ways, grid)
        write_image(image, folder / f"{name}.nii.gz")
        moved = [transfer_labels(one, grid, way) for one, way in zip(drawn, ways, strict=True)]
        _say(f"{name}: {_row(image, moved)}")
    write_labels(template.labels, folder / "labels.nii.gz")
    if options.peer:
        _say(f"ANTs: {_run_peer(options, studies, drawn)}")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _row(image: Image, moved: list[Labels]) -> str:
    """Sharpness around the labels, and the mean Dice of all pairs of the studies' labels in the template's space."""
    any_label = np.any([one.numpy() > 0 for one in moved], axis=0)
    around = torch.from_numpy(ndimage.binary_dilation(any_label, iterations=MARGIN_VOXELS))
    dice = [_dice(one, other, value) for n, one in enumerate(moved) for other in moved[n + 1 :] for value in (1, 2)]
    return f"{sharpness(image, around):.2f} per mm | Dice of pairs {np.mean(dice):.3f}"


def _dice(one: Labels, other: Labels, value: int) -> float:
    a, b = one.tensor == value, other.tensor == value
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def _off_mean_mm(template: Template) -> float:
    """How far points are from the mean of where the studies have them, each study's affine position taken out."""
    voxels = np.argwhere(template.mask.numpy() > 0)[::7, ::-1]
    points = template.image.geometry.map_voxels(voxels)
    places = []
    for way in template.transforms:
        back = np.linalg.inv(way.linear_part)
        places.append(way.map_points(points) @ back[:3, :3].T + back[:3, 3])
    return float(np.linalg.norm(np.mean(places, axis=0) - points, axis=1).mean())


def _run_peer(options: argparse.Namespace, studies: list[Image], drawn: list[Labels]) -> str:
    folder = options.work / "template-ants"
    folder.mkdir(exist_ok=True)
    files = []
    for number, (study, labels) in enumerate(zip(studies, drawn, strict=True)):
        files.append(folder / f"study{number}.nii.gz")
        write_image(normalised(study), files[-1])
        write_labels(labels, folder / f"labels{number}.nii.gz")
    script = folder / "peer.py"
    script.write_text(PEER)
    python = python_of(options.work, "peers")
    command = [str(python), str(script), str(folder), str(options.rounds), *map(str, files)]
    reason = run_isolated(command, folder / "log.txt", Limits())
    if reason:
        return reason
    image = read_image(folder / "template.nii.gz")
    moved = [read_labels(folder / f"moved{number}.nii.gz") for number in range(len(files))]
    seconds = json.loads((folder / "usage.json").read_text())["cpu_s"]
    return f"{_row(image, moved)} | {seconds:.0f} CPU s"


if __name__ == "__main__":
    main()
