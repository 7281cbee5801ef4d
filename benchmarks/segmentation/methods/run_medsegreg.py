"""Ours: ``ENGINE`` or ``ENGINE:as-nnunet``, with the preprocessing and tiles of MONAI's transforms, or of nnU-Net."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import numpy as np
from exchange import Clocked, Segmenter, Task, main

from MedSegRegLib import __version__
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Image
from MedSegRegLib.segment.engines import Engine
from MedSegRegLib.segment.model import load_model
from MedSegRegLib.segment.predict import segment


def prepare(task: Task) -> Segmenter:
    """The library as a script would call it."""
    engine, _, package = task.variant.partition(":")
    model = load_model(task.models / (package or "as-monai"), task.device, engine)
    model = replace(model, engines=tuple(_clocked(one) for one in model.engines))

    def segmenter(volume: np.ndarray) -> np.ndarray:
        image = Image.from_array(volume, Geometry.from_spacing(volume.shape[::-1], task.spacing_kji[::-1]))
        return segment(image, model).labels.numpy()

    return segmenter


def _clocked(engine: Engine) -> Engine:
    told = {name: getattr(engine, name) for name in ("name", "device", "head", "description")}
    return cast(Engine, SimpleNamespace(**told, run=Clocked(engine.run)))


if __name__ == "__main__":
    main(prepare, __version__)
