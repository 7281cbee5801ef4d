"""Take back what soft Dice adds to small structures: ``python calibrate.py MODEL --settings SETTINGS --maps FOLDER``.

A network that is trained with soft Dice finds too much of what it is not sure of, small structures above all. Here the
biases of its last layer are shifted until, over examples that the generator makes of the label maps it was trained
with, every structure's volume is right on average; left and right are shifted alike. Nothing else changes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import torch
import typer

from MedSegRegLib.files.model_package import read_model, write_model
from MedSegRegLib.files.model_spec import ModelSpec
from MedSegRegLib.segment import load_model
from MedSegRegLib.train.batches import synthetic_examples
from MedSegRegLib.train.dataset import find_label_maps
from MedSegRegLib.train.label_maps import read_label_maps
from MedSegRegLib.train.run import read_settings

ROUNDS, STEP = 25, 0.5
BIAS = "scores.bias"
FEW_VOXELS = 50.0


def main(
    model: Annotated[Path, typer.Argument(help="Folder of the model, which is rewritten.")],
    settings: Annotated[Path, typer.Option(help="Settings that it was trained with.")],
    maps: Annotated[Path, typer.Option(help="Folder of the label maps.")],
    split: Annotated[Path, typer.Option(help="split.json of the training: which maps were held out.")],
    examples: Annotated[int, typer.Option(help="Examples to look at.")] = 40,
) -> None:
    """Print each structure's volume before, as a share of the true one, and the shift of its bias."""
    network = load_model(model, "cpu", engine="torch").sources[0].module
    spec, (weights,) = read_model(model)
    trained = read_settings(settings).model_copy(update={"model": spec})
    assert trained.synthesis is not None
    held_out = json.loads(split.read_text())["validation"]
    paths = [case.labels for case in find_label_maps(maps) if case.name not in held_out]
    centre = spec.standard.centre_ras_mm if spec.standard else None
    source = read_label_maps(paths, trained.synthesis.roles, trained.synthesis.map_spacing_mm, centre_ras_mm=centre)
    scores, truth = [], torch.zeros(spec.classes)
    for example in synthetic_examples(source, trained, examples):
        with torch.no_grad():
            scores.append(network(example.image[None])[0].flatten(1).half())
        truth += _volumes(example.labels, spec.classes)
    sides = _sides(spec)
    shift = torch.zeros(spec.classes)
    first = _found(scores, shift)
    for _ in range(ROUNDS):
        found = _found(scores, shift)
        ratio = torch.log((found + found[sides] + FEW_VOXELS) / (truth + truth[sides] + FEW_VOXELS))
        shift -= STEP * (ratio - ratio[0])
    for number, label in enumerate(spec.labels, start=1):
        typer.echo(f"{label.name:32} {first[number] / truth[number]:6.2f} {shift[number]:+6.2f}")
    write_model(model, spec, [{**weights, BIAS: weights[BIAS] + shift}], (model / "README.md").read_text("utf-8"))


def _found(scores: list[torch.Tensor], shift: torch.Tensor) -> torch.Tensor:
    """Voxels of each class over all examples."""
    volumes = [_volumes((one + shift[:, None].half()).argmax(0), len(shift)) for one in scores]
    return torch.stack(volumes).sum(0)


def _volumes(labels: torch.Tensor, classes: int) -> torch.Tensor:
    return torch.bincount(labels.flatten().long(), minlength=classes).float()


def _sides(spec: ModelSpec) -> list[int]:
    """For each class the same structure on the other side; itself on the midline."""
    names = ["", *(label.name for label in spec.labels)]
    swapped = [name.replace("left", "@").replace("right", "left").replace("@", "right") for name in names]
    return [names.index(name) for name in swapped]


if __name__ == "__main__":
    typer.run(main)
