"""Settings that fit a data set, for a user who has none yet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydantic import ValidationError

from ..errors import DatasetError, InvalidSetting, MedSegRegError
from ..files import read_labels
from ..files.architectures import UNetArchitecture
from ..files.model_spec import ChannelSpec, GridSpec, LabelSpec, ModelSpec
from ..preprocess import CtWindow, IntensityStep, ZScore
from .dataset import Dataset, read_case_image
from .layouts import find_dataset
from .settings import TrainingSettings

LOOKED_AT = 20
LARGEST_TILE = 96
LARGEST_FLAT_TILE = 256
FLAT_FEATURES = (16, 32, 64, 128, 256)
AIR_HU = -500.0
Steps = tuple[IntensityStep, ...]
COLORS = ((0.9, 0.45, 0.2), (0.25, 0.6, 0.9), (0.4, 0.8, 0.4), (0.85, 0.75, 0.3), (0.7, 0.45, 0.85))


def propose_settings(data: Path, name: str) -> TrainingSettings:
    """Channels, labels, spacing, normalisation and tile from the first 20 cases.

    The spacing is the median one; channels with values below -500 count as CT (windowed), others are z-scored; the tile
    is the median image size, at most 96 voxels an axis. For images of one slice, such as pictures, the network is one
    of two dimensions, with tiles of at most 256 pixels.

    Raises:
        DatasetError: no cases, or none of the first 20 can be read.
        InvalidSetting: the name or the labels found do not make a model.
    """
    dataset = find_dataset(data)
    values: set[int] = set()
    spacings, extents, lowest, faults = [], [], [], []
    for case in dataset.cases[:LOOKED_AT]:
        try:
            image, labels = read_case_image(case), read_labels(case.labels)
        except MedSegRegError as error:  # the training lists it with the faults of all others
            faults.append(f"{case.name}: {error}")
            continue
        values |= set(labels.tensor.unique().tolist())
        spacings.append(image.geometry.spacing_mm)
        extents.append(np.multiply(image.geometry.size_ijk, image.geometry.spacing_mm))
        lowest.append(image.tensor.flatten(1).amin(1).tolist())
    if not spacings:
        raise DatasetError(
            "\n  ".join(["No case can be read:", *faults, ""]), "images with labels", "correct the files"
        )
    channels, intensity = _channels(dataset, lowest)
    spacing = np.median(spacings, axis=0)
    size = np.median(extents, axis=0) / spacing
    flat = bool(round(size[2]) == 1)
    architecture = UNetArchitecture(dimensions=2, features=FLAT_FEATURES) if flat else UNetArchitecture()
    stride = architecture.multiple_kji[::-1]
    tile = np.clip(np.ceil(size / stride) * stride, stride, LARGEST_FLAT_TILE if flat else LARGEST_TILE).astype(int)
    if flat:
        tile[2] = 1
    try:
        model = ModelSpec(
            name=name,
            title=name,
            version="0.1.0",
            architecture=architecture,
            description=f"Trained on {len(dataset.cases)} cases of '{data.resolve().name}'.",
            channels=channels,
            labels=_labels(dataset, max(values)),
            spacing_mm=(*spacing[:2].tolist(), None if flat else float(spacing[2])),
            grid=GridSpec(axes="ijk" if flat else "ras"),
            intensity=intensity,
            tile_ijk=tuple(tile.tolist()),
            licence="not stated",
            training={"data": data.resolve().name},
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidSetting(
            f"No model can be proposed: {'.'.join(map(str, first['loc']))}: {first['msg']}",
            "a name of a-z, 0-9, '.', '-' and label values 1, 2, 3...",
            "choose another name, renumber the labels, or write a settings file",
        ) from None
    return TrainingSettings(model=model)


def _channels(dataset: Dataset, lowest: list[list[float]]) -> tuple[tuple[ChannelSpec, ...], Steps]:
    """Channels, and the normalisation that they share, if they do; from the lowest intensities of each case."""
    count = len(lowest[0])
    names = dataset.channels or (("image",) if count == 1 else tuple(f"image {n + 1}" for n in range(count)))
    are_ct = [float(np.median(values)) < AIR_HU for values in zip(*lowest, strict=False)]
    steps: list[Steps] = [(CtWindow(),) if is_ct else (ZScore(),) for is_ct in are_ct]
    common = steps[0] if len(set(are_ct)) == 1 else ()
    return tuple(
        ChannelSpec(name=name, modality="CT" if is_ct else "any", intensity=() if common else own)
        for name, is_ct, own in zip(names, are_ct, steps, strict=False)
    ), common


def _labels(dataset: Dataset, highest: int) -> tuple[LabelSpec, ...]:
    names = dataset.labels or tuple(f"label {n}" for n in range(1, highest + 1))
    return tuple(
        LabelSpec(value=n, name=label, color=COLORS[n % len(COLORS)]) for n, label in enumerate(names, start=1)
    )
