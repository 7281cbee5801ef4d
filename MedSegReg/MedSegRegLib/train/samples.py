"""Images to make a smaller model from and to measure it on. Compression walk: folder -> [samples] -> variants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import DatasetError
from ..files import read_image
from ..files.model_spec import ModelSpec
from ..image import Image, Labels
from .corrections import crops_of, read_corrections, to_model_labels
from .dataset import named_files, patient_of

LABELLED = ("labels", "labelsTr")


@dataclass(frozen=True, eq=False)
class Sample:
    """An image as a model takes it, and what is known to be in it, with the model's label values; or None."""

    name: str
    image: Image
    labels: Labels | None = None
    patient: str = ""


def read_samples(data: Path, spec: ModelSpec) -> list[Sample]:
    """Labelled cases in any layout of :func:`layouts.find_dataset`, or a folder of images without labels.

    Of a larger image whose structures are named by their side a model of crops gets the crops.

    Raises:
        DatasetError: no images, incomplete cases, structures that the model does not have, or images that are too
            large for a model of crops; all are listed.
        FileError, InputError: a file that cannot be read.
    """
    if data.is_dir() and not any((data / part).exists() for part in (*LABELLED, "dataset.json")):
        folder = data / "images" if (data / "images").is_dir() else data
        samples = [
            Sample(name, read_image(path), None, patient_of(name)) for name, path in sorted(named_files(folder).items())
        ]
    else:
        crops = [crop for one in read_corrections(data) for crop in crops_of(one, spec)]
        samples = [Sample(one.name, one.image, to_model_labels(one.labels, spec), one.patient) for one in crops]
    region = spec.region
    large = [one.name for one in samples if region and region.is_part_of(one.image.geometry)]
    if large or not samples:
        raise DatasetError(
            f"Not crops: {', '.join(large)}" if large else f"There are no images in '{data.name}'",
            "images, for a model of crops cut around one structure",
            "crop them, or label the structures with their sides in the names",
        )
    return samples


def part_samples(samples: Sequence[Sample]) -> tuple[list[Sample], list[Sample]]:
    """What variants are made from, and what they are measured on: every second patient.

    Raises:
        DatasetError: fewer than two patients, or labels for some images only.
    """
    patients = list(dict.fromkeys(sample.patient or sample.name for sample in samples))
    unlabelled = [sample.name for sample in samples if sample.labels is None]
    if len(patients) < 2 or 0 < len(unlabelled) < len(samples):
        raise DatasetError(
            f"{len(patients)} patients, {len(samples)} images, {len(unlabelled)} of them without labels",
            "two patients or more, with labels for all images or for none",
            "add images: what is measured on must not be what a variant was made from",
        )
    measured = set(patients[1::2])
    parts: tuple[list[Sample], list[Sample]] = ([], [])
    for sample in samples:
        parts[(sample.patient or sample.name) in measured].append(sample)
    return parts
