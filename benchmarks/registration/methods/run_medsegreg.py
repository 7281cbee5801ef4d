"""Ours: a preset by name (``medsegreg:quick``), or the one that fits the task's contrast and motion."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from exchange import Task, main

from MedSegRegLib import __version__
from MedSegRegLib.files.images import read_image
from MedSegRegLib.files.labels import read_labels
from MedSegRegLib.files.transforms import write_transform
from MedSegRegLib.image import Labels
from MedSegRegLib.register.presets import PRESETS
from MedSegRegLib.register.run import register as register_images

FITTING = {
    ("deformable", "same"): "deformable",
    ("deformable", "different"): "deformable-different-modality",
    ("rigid", "same"): "rigid",
    ("rigid", "different"): "rigid",
}


def register(task: Task) -> Callable[[], None]:
    """The library as a script would call it."""
    torch.set_num_threads(task.threads)
    fixed, moving = read_image(task.fixed), read_image(task.moving)
    found = register_images(
        fixed,
        moving,
        PRESETS[task.variant or FITTING[task.motion, task.contrast]],
        fixed_mask=_read_mask(task.fixed_mask),
        moving_mask=_read_mask(task.moving_mask),
        device=task.device,
    )

    def write() -> None:
        write_transform(found.transform, task.run / "field.mha", fixed.geometry)
        write_transform(found.inverse, task.run / "inverse.mha", moving.geometry)

    return write


def _read_mask(path: Path | None) -> Labels | None:
    return None if path is None else read_labels(path)


if __name__ == "__main__":
    main(register, __version__)
