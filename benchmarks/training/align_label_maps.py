"""Label maps into the space of the shipped template: ``python align_label_maps.py MAPS OUTPUT``.

A map is rendered with intensities like those of a T1, the template is placed in that as it is placed in a patient's
image, and the map is read on a 1 mm grid around the template's brain. With ``--mask`` what is inside the brain's mask
and no tissue of it gets its value plus 1000: the mask is the tissue, closed over the sulci, and a millimetre more.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from scipy import ndimage

from MedSegRegLib.files import read_labels
from MedSegRegLib.files.labels import write_labels
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Image, Labels
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
OUTSIDE, IN_MASK = (0, 24, 72, 85), 1000  # and what is 500 or more: the head around the brain
CLOSED_MM, MORE_MM = 6.0, 1.1


def main(
    maps: Annotated[Path, typer.Argument(help="Folder of label maps in FreeSurfer's numbers.")],
    output: Annotated[Path, typer.Argument(help="Folder for the aligned ones.")],
    mask: Annotated[bool, typer.Option(help="Mark what is inside the brain's mask.")] = False,
) -> None:
    """Align all maps of a folder."""
    output.mkdir(parents=True, exist_ok=True)
    grid = _grid()
    for case in find_label_maps(maps):
        labels = read_labels(case.labels)
        place, fit = place_template(_rendered(labels), TEMPLATE, torch.device("cpu"))
        aligned = resample_labels(labels, grid, place)
        write_labels(_with_mask(aligned) if mask else aligned, output / case.labels.name)
        typer.echo(f"{case.name}: {fit.message}")


def _grid() -> Geometry:
    matrix = np.eye(4)
    matrix[:3, 3] = np.array(CENTRE_RAS_MM) - (np.array(SIZE_MM) - 1) / 2
    return Geometry(SIZE_MM, matrix)


def _rendered(labels: Labels) -> Image:
    table = torch.full((int(labels.tensor.max()) + 1,), OTHER)
    table[0] = 0
    for value, brightness in BRIGHTNESS.items():
        table[value] = brightness
    noise = 0.03 * torch.randn(labels.tensor.shape, generator=torch.Generator().manual_seed(0))
    return Image((table[labels.tensor.long()] + noise)[None], labels.geometry, labels.name)


def _with_mask(labels: Labels) -> Labels:
    values = labels.numpy().astype(np.int32)
    tissue = (values < 500) & ~np.isin(values, OUTSIDE)
    closed = ndimage.distance_transform_edt(ndimage.distance_transform_edt(~tissue) <= CLOSED_MM) > CLOSED_MM
    inside = ndimage.distance_transform_edt(~(closed | tissue)) <= MORE_MM
    return Labels.from_array(np.where(inside & ~tissue, values + IN_MASK, values), labels.geometry)


if __name__ == "__main__":
    torch.set_num_threads(1)
    typer.run(main)
