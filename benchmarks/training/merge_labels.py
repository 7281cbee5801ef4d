"""A model of the parts of the brain as a model of the brain: ``python merge_labels.py RUN MAPS OUTPUT``.

The probabilities of the parts are added when it is run. The dark rim of fluid on a T1 looks as bone does, and a network
that is as often right as wrong there leaves it out, so ``--rim`` is added to the scores of the parts. Held-out examples
are scored again with the one label.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import torch
import typer

from MedSegRegLib.evaluate.scores import summarize
from MedSegRegLib.files.model_package import read_model, write_model
from MedSegRegLib.files.model_spec import CodeSpec, LabelSpec, ModelSpec
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Image, Labels
from MedSegRegLib.segment.prepare import grid_of
from MedSegRegLib.train.batches import synthetic_examples
from MedSegRegLib.train.card import card_numbers, write_card
from MedSegRegLib.train.dataset import find_label_maps
from MedSegRegLib.train.label_maps import read_label_maps
from MedSegRegLib.train.run import read_settings, score_cases
from MedSegRegLib.train.settings import TrainingSettings

BRAIN = LabelSpec(value=1, name="brain", color=(0.98, 0.86, 0.78), code=CodeSpec(value="12738006", meaning="Brain"))


def main(
    run: Annotated[Path, typer.Argument(help="Output of the training.")],
    maps: Annotated[Path, typer.Argument(help="Folder of the label maps that it was trained on.")],
    output: Annotated[Path, typer.Argument(help="Folder of the merged model.")],
    rim: Annotated[float, typer.Option(help="Added to the scores of the parts.")] = 1.0,
) -> None:
    """Write the weights with one label, and a card of its scores."""
    spec, weights = read_model(run / "model")
    for one in weights:
        one["scores.bias"][1:] += rim
    merged = ModelSpec.model_validate(
        {
            **spec.model_dump(exclude={"sha256", "scores"}),
            "labels": [BRAIN.model_dump()],
            "merged": (0, *(1,) * len(spec.labels)),
            "keep_largest_component": True,
            "training": {**spec.training, "rim": f"{rim:g} added to the scores of the parts"},
        }
    )
    held_out = json.loads((run / "split.json").read_text())["validation"]
    settings = read_settings(run / "settings.json")
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder), merged, list(weights), "")
        cases = score_cases(folder, _examples(maps, held_out, settings, merged))
    summaries = summarize(cases)
    merged = merged.model_copy(update={"scores": card_numbers(summaries)})
    write_model(output, merged, list(weights), write_card(merged, summaries, list(cases)))


def _examples(
    folder: Path, names: list[str], settings: TrainingSettings, merged: ModelSpec
) -> Iterator[tuple[str, Image, Labels]]:
    paths = [case.labels for case in find_label_maps(folder) if case.name in names]
    maps = read_label_maps(
        paths,
        settings.synthesis.roles,
        settings.synthesis.map_spacing_mm,
        centre_ras_mm=merged.standard.centre_ras_mm,
    )
    geometry = grid_of(Geometry.from_spacing(merged.tile_ijk, merged.spacing_mm), merged)
    for example in synthetic_examples(maps, settings, 2 * settings.validation_examples):
        brain = (example.labels > 0).to(torch.int32)
        labels = Labels(brain, geometry, merged.structures, example.name)
        yield example.name, Image(example.image, geometry, example.name), labels


if __name__ == "__main__":
    torch.set_num_threads(1)
    typer.run(main)
