"""Label maps into the space of the shipped template: ``python align_label_maps.py MAPS OUTPUT``.

A map is rendered with intensities like those of a T1, the template is placed in that as it is placed in a patient's
image, and the map is read on a 1 mm grid around the template's brain.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from MedSegRegLib.files import read_labels
from MedSegRegLib.files.labels import write_labels
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Image
from MedSegRegLib.resample import resample_labels
from MedSegRegLib.train.dataset import find_label_maps
from MedSegRegLib.workflows.locate import place_template

TEMPLATE = "icbm152-t1"
CENTRE_RAS_MM, SIZE_MM = (0.0, -18.0, 7.0), (220, 252, 220)
WHITE, GRAY, FLUID = (
    (2, 7, 16, 28, 41, 46, 60, 85),
    (3, 8, 17, 18, 26, 42, 47, 53, 54, 58),
    (4, 5, 14, 15, 24, 43, 44, 72),
)
BETWEEN = (10, 11, 12, 13, 49, 50, 51, 52)
BRIGHTNESS = {
    **dict.fromkeys(WHITE, 0.9),
    **dict.fromkeys(GRAY, 0.6),
    **dict.fromkeys(FLUID, 0.15),
    **dict.fromkeys(BETWEEN, 0.7),
}
OTHER = 0.45


def main(
    maps: Annotated[Path, typer.Argument(help="Folder of label maps in FreeSurfer's numbers.")],
    output: Annotated[Path, typer.Argument(help="Folder for the aligned ones.")],
) -> None:
    """Align all maps of a folder."""
    output.mkdir(parents=True, exist_ok=True)
    grid = _grid()
    for case in find_label_maps(maps):
        labels = read_labels(case.labels)
        place, fit = place_template(_rendered(labels), TEMPLATE, torch.device("cpu"))
        write_labels(resample_labels(labels, grid, place), output / case.labels.name)
        typer.echo(f"{case.name}: {fit.message}")


def _grid() -> Geometry:
    matrix = np.eye(4)
    matrix[:3, 3] = np.array(CENTRE_RAS_MM) - (np.array(SIZE_MM) - 1) / 2
    return Geometry(SIZE_MM, matrix)


def _rendered(labels) -> Image:
    table = torch.full((int(labels.tensor.max()) + 1,), OTHER)
    table[0] = 0
    for value, brightness in BRIGHTNESS.items():
        table[value] = brightness
    noise = 0.03 * torch.randn(labels.tensor.shape, generator=torch.Generator().manual_seed(0))
    return Image((table[labels.tensor.long()] + noise)[None], labels.geometry, labels.name)


if __name__ == "__main__":
    torch.set_num_threads(1)
    typer.run(main)
