"""What starting from a trained model brings: ``python transfer.py HIPPOCAMPUS`` (with ``images`` and ``labels``).

Asked for is the whole hippocampus as one label, and there are five cases with it: four to train on, one to choose the
best epoch. One training starts from ``hippocampus-mr``, which knows two parts, the other from random weights; settings,
cases, patches and steps are the same. Both are tested on twenty others by the product's own command. All of them are
test cases of the model's own split: it has seen none. Prints a Markdown table, beside the parts that the model itself
finds, joined.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Annotated

import torch
import typer
from adaptation import MODEL, read_test_cases

from MedSegRegLib.evaluate.scores import compare_labels, summarize
from MedSegRegLib.files import write_image, write_labels
from MedSegRegLib.image import Labels, Structure
from MedSegRegLib.segment import load_model, segment
from MedSegRegLib.train.card import card_numbers
from MedSegRegLib.train.corrections import Correction
from MedSegRegLib.train.run import change_settings, train_model
from MedSegRegLib.train.transfer import propose_transfer

MEASURED, TRAINED, VALIDATED = 20, 4, 1
EPOCH = 10
WHOLE = Structure(1, "hippocampus")


def main(
    data: Annotated[Path, typer.Argument(help="Folder with 'images' and 'labels'.")],
    steps: Annotated[list[int] | None, typer.Option(help="Of each training, of two patches.")] = None,
    threads: Annotated[int, typer.Option(help="Of the CPU.")] = 1,
) -> None:
    """Train from the model and from scratch, and measure both."""
    torch.set_num_threads(threads)
    cases = read_test_cases(data)[: MEASURED + TRAINED + VALIDATED]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table = write_cases(cases, folder)
        settings = propose_transfer(MODEL, table, "hippocampus-whole")
        typer.echo(f"{settings.model.training['taken_from_it']}.\n")
        typer.echo("| network | steps | Dice | worst | HD95, mm | CPU s |")
        typer.echo("|---|---|---|---|---|---|")
        _row(f"`{MODEL}` itself, its two parts joined", 0, _joined_parts(cases[:MEASURED]), 0.0)
        for count in steps or (20, 60):
            chosen = change_settings(settings, {"epochs": count // EPOCH, "steps_per_epoch": EPOCH})
            for start in (None, settings.start):
                began = time.process_time()
                output = folder / f"{count}-{start is not None}"
                spec = train_model(table, chosen.model_copy(update={"start": start}), output, device="cpu")
                seconds = time.process_time() - began
                what = f"from `{MODEL}`" if start else "from scratch"
                _row(what, count, spec.scores, seconds)  # type: ignore[union-attr]


def write_cases(cases: list[Correction], folder: Path) -> Path:
    """Images and labels with one value for both parts, and a table that says which are trained on."""
    lines = ["image,labels,split"]
    for number, case in enumerate(cases):
        image, labels = f"{case.name}.nii", f"{case.name}_labels.nii"
        write_image(case.image, folder / image)
        write_labels(_whole(case.labels), folder / labels)
        place = number - MEASURED
        lines.append(f"{image},{labels},{'test' if place < 0 else 'train' if place < TRAINED else 'validation'}")
    (folder / "cases.csv").write_text("\n".join(lines))
    return folder / "cases.csv"


def _whole(labels: Labels) -> Labels:
    return Labels((labels.tensor > 0).to(torch.uint8), labels.geometry, (WHOLE,))


def _joined_parts(cases: list[Correction]) -> dict[str, dict[str, float]]:
    model = load_model(MODEL)
    scores = {
        case.name: compare_labels(_whole(case.labels), _whole(segment(case.image, model).labels), (WHOLE,))
        for case in cases
    }
    return card_numbers(summarize(scores))


def _row(what: str, steps: int, scores: dict[str, dict[str, float]], seconds: float) -> None:
    (numbers,) = scores.values()
    dice, worst, hd95 = (numbers[name] for name in ("dice_mean", "dice_worst", "hd95_mm_mean"))
    typer.echo(f"| {what} | {steps or ''} | {dice:.3f} | {worst:.3f} | {hd95:.2f} | {seconds:.0f} |")


if __name__ == "__main__":
    typer.run(main)
