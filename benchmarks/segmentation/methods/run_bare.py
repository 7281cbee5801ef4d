"""The network alone over the same tiles, by an engine: nothing is blended or restored, and no labels are left."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from exchange import Clocked, Segmenter, Task, main

from MedSegRegLib import __version__
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Image
from MedSegRegLib.segment.model import load_model
from MedSegRegLib.segment.prepare import prepare as prepare_image
from MedSegRegLib.segment.tiles import lay_tiles


def prepare(task: Task) -> Segmenter:
    """Cuts and runs the tiles that ours would; what prepares the image is not counted."""
    model = load_model(task.models / "as-monai", task.device, task.variant)
    run = Clocked(model.engines[0].run)
    volume = np.load(task.volume)
    image = Image.from_array(volume, Geometry.from_spacing(volume.shape[::-1], task.spacing_kji[::-1]))
    prepared = prepare_image(image, model.spec)
    tiling = lay_tiles(model.spec, prepared.geometry.shape_kji)

    @torch.no_grad()
    def segmenter(volume: np.ndarray) -> np.ndarray:
        for start in itertools.product(*tiling.starts):
            k, j, i = (slice(s, s + n) for s, n in zip(start, tiling.tile, strict=True))
            run(prepared.tensor[None, :, k, j, i].to(model.device).contiguous())
        return np.zeros((), np.uint8)

    return segmenter


if __name__ == "__main__":
    main(prepare, __version__)
