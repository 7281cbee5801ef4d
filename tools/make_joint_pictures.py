"""Make the pictures of docs/joint.md and docs/atlas.md: ``python tools/make_joint_pictures.py --data DATA --work DIR``.

From the hippocampus crops of the Medical Segmentation Decathlon (CC-BY-SA 4.0) in DATA, and the template that
``benchmarks/workflows/template.py`` left in DIR.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy import ndimage

from MedSegRegLib.evaluate.scores import compare_labels
from MedSegRegLib.files import read_image, read_labels
from MedSegRegLib.image import Labels
from MedSegRegLib.workflows.drawn import Drawn
from MedSegRegLib.workflows.joint import Joint, refine_jointly

SCREENSHOTS = Path(__file__).parents[1] / "Resources" / "Screenshots"
COLORS = {1: "#f6ad55", 2: "#63b3ed"}
TOO_MUCH_VOXELS = 3


def main() -> None:
    """Both pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with hippocampus/")
    parser.add_argument("--work", type=Path, required=True, help="--work of the template's benchmark")
    options = parser.parse_args()
    matplotlib.use("agg")
    picture_joint(options.data / "hippocampus")
    picture_template(options.work / "template-ours")


def picture_joint(folder: Path) -> None:
    """Two crops; on the first, too much was drawn of the anterior part."""
    files = sorted((folder / "images").glob("*.nii.gz"))[:2]
    studies = [Drawn(read_image(file), read_labels(folder / "labels" / file.name)) for file in files]
    fixed = replace(studies[0], labels=_too_much(studies[0].labels))
    result = refine_jointly(fixed, studies[1])
    study, image = result.fixed, fixed.image.numpy()[0]
    _tell(result, studies[0].labels)
    plane = int(np.median(np.nonzero(fixed.labels.numpy() != studies[0].labels.numpy())[2]))
    titles = ("its own drawing", "carried from the other study", "where they disagree", "the proposal")
    figure, axes = plt.subplots(2, 2, figsize=(8, 5.6))
    for axis, title, labels in zip(axes.flat, titles, (study.own, study.carried, None, study.fused), strict=True):
        _show(axis, image[:, :, plane], title)
        if labels is not None:
            _draw(axis, labels.numpy()[:, :, plane])
        else:
            apart = study.disagreement.numpy()[0, :, :, plane]
            axis.imshow(np.ma.masked_equal(apart, 0), cmap="YlOrRd", vmin=0, vmax=4, origin="lower")
    figure.tight_layout()
    figure.savefig(SCREENSHOTS / "joint.png", dpi=90, bbox_inches="tight")


def picture_template(folder: Path) -> None:
    """What the mean of six crops shows without and with deformations, and the labels of most."""
    linear, template = (read_image(folder / f"{name}.nii.gz").numpy()[0] for name in ("linear", "template"))
    labels = read_labels(folder / "labels.nii.gz").numpy()
    plane = int(np.median(np.nonzero(labels)[2]))
    figure, axes = plt.subplots(1, 3, figsize=(9, 3.4))
    for axis, title, image in zip(
        axes,
        ("mean after linear registration", "template", "its mean labels"),
        (linear, template, template),
        strict=True,
    ):
        _show(axis, image[:, :, plane], title)
    _draw(axes[2], labels[:, :, plane])
    figure.tight_layout()
    figure.savefig(SCREENSHOTS / "template.png", dpi=90, bbox_inches="tight")


def _tell(result: Joint, truth: Labels) -> None:
    """The numbers of the page."""
    lines = [result.sentence, *map(str, (*result.rounds, *result.fixed.structures))]
    study = result.fixed
    for name, labels in (("own", study.own), ("carried", study.carried), ("proposal", study.fused)):
        dice = [f"{score.name} {score.dice:.3f}" for score in compare_labels(truth, labels)]
        lines.append(f"Dice with the true drawing, {name}: {', '.join(dice)}")
    sys.stdout.write("\n".join(lines) + "\n")


def _too_much(labels: Labels) -> Labels:
    """The anterior part grown by three voxels, in one half."""
    array = labels.numpy().copy()
    part = array == 1
    half = np.arange(array.shape[0])[:, None, None] > np.median(np.nonzero(part)[0])
    grown = ndimage.binary_dilation(part, iterations=TOO_MUCH_VOXELS) & half & (array == 0)
    return replace(labels, tensor=torch.from_numpy(np.where(grown, 1, array)))


def _show(axis: plt.Axes, image: np.ndarray, title: str) -> None:
    axis.imshow(
        image,
        cmap="gray",
        interpolation="bilinear",
        origin="lower",
        vmin=np.percentile(image, 1),
        vmax=np.percentile(image, 99.5),
    )
    axis.set_title(title, fontsize=10)
    axis.axis("off")


def _draw(axis: plt.Axes, labels: np.ndarray) -> None:
    for value, color in COLORS.items():
        if (labels == value).any():
            axis.contour(labels == value, levels=[0.5], colors=[color], linewidths=1.5)


if __name__ == "__main__":
    main()
