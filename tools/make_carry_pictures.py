"""Draw the pictures of ``docs/carry.md`` from the volumes that come with MedSegReg.

    python tools/make_carry_pictures.py                 # minutes on a CPU

The template is the study that was drawn on: some structures that the shipped model finds in it stand for a person's
drawing. They are carried to the subject S1; what the same model finds in S1 itself is printed beside the review, as a
second opinion. Writes ``carry-source.png``, ``carry-before.png`` and ``carry-target.png`` in ``Resources/Screenshots``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image as Picture

from MedSegRegLib.evaluate.pictures import overlay
from MedSegRegLib.evaluate.scores import compare_labels
from MedSegRegLib.files import read_image
from MedSegRegLib.image import Image, Labels
from MedSegRegLib.resample import resample_labels
from MedSegRegLib.samples import sample_path
from MedSegRegLib.transform import Transform
from MedSegRegLib.workflows.carry import Carried, carry
from MedSegRegLib.workflows.locate import segment_anywhere

SCREENSHOTS = Path(__file__).parents[1] / "Resources" / "Screenshots"
DRAWN = ("lateral ventricle", "caudate", "putamen", "thalamus", "hippocampus", "amygdala", "brain stem")
WIDEST = 900


def drawn_on(image: Image) -> Labels:
    """The deep structures of a head, by the shipped model."""
    found = segment_anywhere(image, "brain-any-contrast").labels
    kept = tuple(one for one in found.structures if any(word in one.name.lower() for word in DRAWN))
    array = np.where(np.isin(found.numpy(), [one.value for one in kept]), found.numpy(), 0)
    return Labels.from_array(array, found.geometry, kept, "drawing")


def draw(image: Image, labels: Labels, name: str, title: str) -> None:
    """A picture of labels on three planes, small enough for a page."""
    path = SCREENSHOTS / f"{name}.png"
    overlay(image, labels, path, title)
    with Picture.open(path) as picture:
        picture.thumbnail((WIDEST, WIDEST))
        picture.convert("RGB").quantize(method=Picture.Quantize.MAXCOVERAGE, kmeans=8).save(path, optimize=True)


def tell(result: Carried, opinion: Labels, carried: Labels) -> None:
    """The outcome, and a row a structure, for the page."""
    dice = {score.name: score.dice or 0.0 for score in compare_labels(opinion, carried)}
    lines = [result.sentence, result.registration.sentence]
    for one in result.review:
        numbers = f"{one.confidence:.2f} | {one.border_error_mm or 0:.2f} | {dice[one.name]:.2f}"
        lines.append(f"| {one.name} | {numbers} | {one.remark} |")
    sys.stdout.write("\n".join(lines) + "\n")


def main() -> None:
    """Carry, and draw."""
    source, target = (read_image(sample_path(name)) for name in ("icbm152-t1", "s1-t1"))
    labels = drawn_on(source)
    draw(source, labels, "carry-source", "Drawn on the template")
    draw(target, resample_labels(labels, target.geometry, Transform()), "carry-before", "The same place in the subject")
    result = carry(source, target, labels=labels)
    assert result.labels is not None
    draw(target, result.labels, "carry-target", "Carried to the subject")
    tell(result, drawn_on(target), result.labels)


if __name__ == "__main__":
    main()
