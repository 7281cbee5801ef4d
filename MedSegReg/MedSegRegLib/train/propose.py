"""Settings that fit a folder of pairs, for a user who has none yet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydantic import ValidationError

from ..errors import InvalidSetting
from ..files import read_image, read_labels
from ..files.architectures import UNetArchitecture
from ..files.model_spec import ChannelSpec, LabelSpec, ModelSpec
from ..preprocess import CtWindow, ZScore
from .dataset import find_cases
from .settings import TrainingSettings

LOOKED_AT = 20
LARGEST_TILE = 96
AIR_HU = -500.0
COLORS = ((0.9, 0.45, 0.2), (0.25, 0.6, 0.9), (0.4, 0.8, 0.4), (0.85, 0.75, 0.3), (0.7, 0.45, 0.85))


def propose_settings(data: Path, name: str) -> TrainingSettings:
    """Labels, spacing, normalisation and tile from the first 20 cases.

    The spacing is the median one; images with values below -500 count as CT (windowed), others are z-scored; the tile
    is the median image size, at most 96 voxels an axis.

    Raises:
        DatasetError: no pairs.
        InvalidSetting: the name or the labels found do not make a model.
    """
    cases = find_cases(data)
    values: set[int] = set()
    spacings, extents, lowest = [], [], []
    for case in cases[:LOOKED_AT]:
        image, labels = read_image(case.image), read_labels(case.labels)
        values |= set(labels.tensor.unique().tolist())
        spacings.append(image.geometry.spacing_mm)
        extents.append(np.multiply(image.geometry.size_ijk, image.geometry.spacing_mm))
        lowest.append(float(image.tensor.min()))
    is_ct = float(np.median(lowest)) < AIR_HU
    step = CtWindow() if is_ct else ZScore()
    spacing = np.median(spacings, axis=0)
    architecture = UNetArchitecture()
    size = np.median(extents, axis=0) / spacing
    stride = architecture.multiple_kji[::-1]
    tile = np.clip(np.ceil(size / stride) * stride, stride, LARGEST_TILE).astype(int)
    try:
        model = ModelSpec(
            name=name,
            title=name,
            version="0.1.0",
            architecture=architecture,
            description=f"Trained on {len(cases)} cases of '{data.resolve().name}'.",
            channels=(ChannelSpec(name="image", modality="CT" if is_ct else "any"),),
            labels=tuple(
                LabelSpec(value=n, name=f"label {n}", color=COLORS[n % len(COLORS)]) for n in range(1, max(values) + 1)
            ),
            spacing_mm=tuple(spacing.tolist()),
            intensity=(step,),
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
