"""Training on pictures: ``python slices.py [--chest-xray FOLDER]``. Shows the path in two dimensions on two examples.

Lungs in chest X-rays (grey): trained on one of two pictures, measured on the other, and the reverse. Two pictures are a
smoke case, no model. Vessels in a fundus photograph (red, green, blue): on scikit-image's ``retina.jpg``, blurred so
that its own vessels are gone, vessels of known shape are painted; trained on one half of the picture, measured on the
other, and the reverse. Prints a Markdown table.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from scipy import ndimage
from skimage import data

from MedSegRegLib.evaluate.scores import compare_labels
from MedSegRegLib.files import read_image, read_labels
from MedSegRegLib.files.architectures import UNetArchitecture
from MedSegRegLib.files.model_package import write_model
from MedSegRegLib.files.model_spec import ChannelSpec, GridSpec, LabelSpec, ModelSpec
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Image, Labels
from MedSegRegLib.preprocess import ZScore
from MedSegRegLib.segment import segment
from MedSegRegLib.train.augment import Augmentation
from MedSegRegLib.train.batches import AugmentedBatches
from MedSegRegLib.train.dataset import make_example
from MedSegRegLib.train.loop import train_network
from MedSegRegLib.train.settings import TrainingSettings

EPOCHS = 4
VESSELS, VESSEL_STEPS = 60, 90
VESSEL_COLOUR = np.array([0.78, 0.55, 0.62])


@dataclass(frozen=True)
class Picture:
    """One to train on or to measure on."""

    name: str
    image: Image
    labels: Labels


def main(
    chest_xray: Annotated[Path | None, typer.Option(help="Folder with 1.jpg, 1_lungs.png, 2.jpg, 2_lungs.png.")] = None,
    steps: Annotated[int, typer.Option(help="Batches of two patches in each training.", min=EPOCHS)] = 160,
    threads: Annotated[int, typer.Option(help="Of the CPU.")] = 1,
) -> None:
    """Train each way round, and measure on what was held out."""
    torch.set_num_threads(threads)
    typer.echo("| task | trained on | measured on | Dice | CPU s of training |\n|---|---|---|---|---|")
    if chest_xray:
        pictures = [
            Picture(name, read_image(chest_xray / f"{name}.jpg"), read_labels(chest_xray / f"{name}_lungs.png"))
            for name in ("1", "2")
        ]
        _both_ways("lungs", pictures, _spec("lungs", ("radiograph",), 2.0, 192), steps)
    _both_ways("vessels", painted_halves(), _spec("vessels", ("red", "green", "blue"), 1.0, 128), steps)


def painted_halves(seed: int = 0) -> list[Picture]:
    """Left and right half of the retina at half its resolution, with painted vessels; [3, 1, J, I] each."""
    photograph = data.retina().astype(np.float64)[:1410, :1410]
    background = ndimage.gaussian_filter(photograph.reshape(705, 2, 705, 2, 3).mean(axis=(1, 3)), (12, 12, 0))
    fundus = background.sum(axis=-1) > 120
    rng = np.random.default_rng(seed)
    mask = paint_vessels(fundus, rng)
    share = ndimage.gaussian_filter(mask.astype(np.float64), 0.8)[..., None]
    picture = background * (1 - share * (1 - VESSEL_COLOUR)) + rng.normal(0, 3, background.shape)
    middle = picture.shape[1] // 2
    halves = []
    for name, part in (("left half", slice(0, middle)), ("right half", slice(middle, None))):
        values, labels = np.moveaxis(picture[:, part], -1, 0)[:, None], mask[None, :, part]
        grid = Geometry.from_spacing((*labels.shape[:0:-1], 1))
        halves.append(Picture(name, Image.from_array(values, grid), Labels.from_array(labels, grid)))
    return halves


def paint_vessels(fundus: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mask [J, I] of bending lines that grow thinner."""
    mask = np.zeros(fundus.shape, bool)
    rows, columns = np.indices(fundus.shape)
    starts = np.argwhere(fundus)
    for _ in range(VESSELS):
        place, angle, bend = starts[rng.integers(len(starts))].astype(float), rng.uniform(0, 2 * np.pi), 0.0
        for step in range(VESSEL_STEPS):
            bend = 0.9 * bend + rng.normal(0, 0.03)
            angle += bend
            place = place + 2.0 * np.array([np.sin(angle), np.cos(angle)])
            radius = 1.2 + 2.4 * (1 - step / VESSEL_STEPS)
            j, i = (slice(max(0, int(p) - 6), int(p) + 7) for p in place)
            mask[j, i] |= np.hypot(rows[j, i] - place[0], columns[j, i] - place[1]) < radius
    return mask & fundus


def _spec(name: str, channels: tuple[str, ...], spacing: float, tile: int) -> ModelSpec:
    return ModelSpec(
        name=name,
        title=name,
        version="0.1.0",
        description="A demonstration.",
        architecture=UNetArchitecture(dimensions=2, features=(16, 32, 64, 128)),
        channels=tuple(ChannelSpec(name=channel) for channel in channels),
        labels=(LabelSpec(value=1, name=name),),
        spacing_mm=(spacing, spacing, None),
        grid=GridSpec(axes="ijk"),
        intensity=(ZScore(),),
        tile_ijk=(tile, tile, 1),
        licence="not stated",
        training={},
    )


def _both_ways(task: str, pictures: list[Picture], spec: ModelSpec, steps: int) -> None:
    for trained, measured in (pictures, pictures[::-1]):
        started = time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            weights = _train(trained, spec, steps, Path(folder))
            seconds = time.process_time() - started
            write_model(Path(folder) / "model", spec, [weights], "")
            found = segment(measured.image, Path(folder) / "model", device="cpu").labels
        (score,) = compare_labels(replace(measured.labels, structures=()), found, spec.structures)
        typer.echo(f"| {task} | {trained.name} | {measured.name} | {score.dice:.3f} | {seconds:.0f} |")


def _train(picture: Picture, spec: ModelSpec, steps: int, folder: Path) -> dict[str, torch.Tensor]:
    """Validated on the very picture that is trained on: nothing of the other one decides anything."""
    settings = TrainingSettings(
        model=spec,
        epochs=EPOCHS,
        steps_per_epoch=steps // EPOCHS,
        warm_up_epochs=0.5,
        augmentation=Augmentation(mirror_axes=(0,)),
    )
    example = make_example(picture.name, picture.image, picture.labels, spec)
    return train_network(AugmentedBatches([example], settings), [example], settings, folder, device="cpu").best


if __name__ == "__main__":
    typer.run(main)
