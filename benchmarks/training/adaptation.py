"""What adapting to a site brings: ``python adaptation.py HIPPOCAMPUS`` (a folder with ``images`` and ``labels``).

The shipped ``hippocampus-mr`` meets images of another kind: other contrast (gamma), thick slices along one axis, a
strong bias field; all deterministic. It is adapted to three cases as a user would, and measured on twenty others. All
of them are test cases of the model's own split: it has seen none. Prints a Markdown table, also of the images as they
are.
"""

from __future__ import annotations

import re
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from scipy import ndimage

from MedSegRegLib.evaluate.scores import compare_labels
from MedSegRegLib.files import read_image, read_labels
from MedSegRegLib.files.model_store import model_folder
from MedSegRegLib.image import Image
from MedSegRegLib.segment import Model, load_model, segment
from MedSegRegLib.train.adapt import adapt_model
from MedSegRegLib.train.corrections import Correction
from MedSegRegLib.train.dataset import pair_files

READERS = read_image, read_labels
MODEL = "hippocampus-mr"
MEASURED, ADAPTED = 20, 3
GAMMA, THICKNESS, BIAS = 0.4, 3.0, 1.0


def main(
    data: Annotated[Path, typer.Argument(help="Folder with 'images' and 'labels'.")],
    cases: Annotated[int, typer.Option(help="To adapt to.", min=1)] = ADAPTED,
    threads: Annotated[int, typer.Option(help="Of the CPU.")] = 1,
) -> None:
    """Adapt, and measure on cases that were not adapted to."""
    torch.set_num_threads(threads)
    tested = read_test_cases(data)
    measured, corrected = tested[:MEASURED], tested[MEASURED : MEASURED + cases]
    with tempfile.TemporaryDirectory() as folder:
        wall, cpu = time.perf_counter(), time.process_time()
        result = adapt_model(MODEL, [_shifted(one) for one in corrected], Path(folder), device="cpu")
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        typer.echo(f"{result.verdict}. {wall:.0f} s, {cpu:.0f} CPU s on {threads} thread(s).\n")
        if result.spec is None:
            return
        parent, adapted = load_model(MODEL), load_model(Path(folder) / "model")
        size = (Path(folder) / "model" / "delta.safetensors").stat().st_size
        typer.echo(f"The differences have {size / 1024:.0f} KiB.\n")
        typer.echo(f"| images of {len(measured)} other cases | structure | before | after | better in | worst loss |")
        typer.echo("|---|---|---|---|---|---|")
        for kind, images in (("shifted", [_shifted(one) for one in measured]), ("as they are", measured)):
            before, after = _dice(parent, images), _dice(adapted, images)
            for number, structure in enumerate(parent.spec.labels):
                gain = after[:, number] - before[:, number]
                typer.echo(
                    f"| {kind} | {structure.name} | {before[:, number].mean():.3f} | {after[:, number].mean():.3f} "
                    f"| {(gain > 0).sum()} of {len(gain)} | {min(0.0, gain.min()):.3f} |"
                )


def read_test_cases(data: Path) -> list[Correction]:
    """The test cases that the card of the shipped model names."""
    card = (model_folder(MODEL) / "README.md").read_text(encoding="utf-8")
    names = re.search(r"^\d+ cases: (.+)\.$", card, re.MULTILINE).group(1).split(", ")
    pairs = {name: (image, labels) for name, image, labels in pair_files(data / "images", data / "labels")}
    return [Correction(name, *(read(path) for read, path in zip(READERS, pairs[name], strict=True))) for name in names]


def shift(image: Image) -> Image:
    """The image from another scanner: brighter mid-tones, slices of 3 voxels along j, a bias field of e^1."""
    voxels = image.numpy()[0].astype(np.float64)
    voxels = ((voxels - voxels.min()) / np.ptp(voxels)) ** GAMMA
    blurred = ndimage.gaussian_filter1d(voxels, 0.42 * THICKNESS, axis=1)
    thick = ndimage.zoom(blurred, (1, 1 / THICKNESS, 1), order=1, mode="nearest", grid_mode=True)
    factors = np.array(voxels.shape) / thick.shape
    voxels = ndimage.zoom(thick, factors, order=1, mode="nearest", grid_mode=True)
    k, j, i = np.meshgrid(*(np.linspace(-1, 1, n) for n in voxels.shape), indexing="ij")
    voxels *= np.exp(BIAS * (0.7 * k - 0.5 * j + 0.6 * k * i))
    return image.with_tensor(torch.from_numpy(voxels.astype(np.float32))[None])


def _shifted(case: Correction) -> Correction:
    return replace(case, image=shift(case.image))


def _dice(model: Model, cases: list[Correction]) -> np.ndarray:
    """[cases, structures]."""
    return np.array(
        [
            [one.dice for one in compare_labels(case.labels, segment(case.image, model).labels, model.spec.structures)]
            for case in cases
        ]
    )


if __name__ == "__main__":
    typer.run(main)
