"""Where to look: a coarse model segments the whole image, and the box of its labels is the region for a fine one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ..errors import StructureNotFound
from ..image import Image
from ..progress import SILENT, Progress
from .model import Model
from .options import DEFAULTS, SegmentationOptions
from .predict import segment


def find_region(
    image: Image | Mapping[str, Image],
    coarse: Model,
    structures: tuple[str, ...],
    margin_mm: float,
    options: SegmentationOptions = DEFAULTS,
    progress: Progress = SILENT,
) -> np.ndarray:
    """Corners of the box of some structures, widened on every side, [8, 3] RAS mm.

    Args:
        coarse: a model of low resolution.
        structures: names of its labels.
        options: of the segmentation that follows; how the image is treated counts here too.

    Raises:
        StructureNotFound: the coarse model finds none of them.
        InputError, ModelError: as :func:`MedSegRegLib.segment.predict.segment`.
    """
    found = segment(
        image,
        coarse,
        replace(options, structures=structures, confidence=False, mirror=False, largest_component=True),
        progress=progress,
    ).labels
    voxels = found.tensor.nonzero().numpy()
    if not len(voxels):
        raise StructureNotFound(
            f"'{coarse.spec.name}' finds no {' or '.join(structures)} in the image",
            "an image that shows it",
            "choose the whole image, or give a region by hand",
        )
    low, high = voxels.min(axis=0)[::-1], voxels.max(axis=0)[::-1]
    margin = np.ceil(margin_mm / np.asarray(found.geometry.spacing_mm))
    start, stop = low - margin, high + 1 + margin
    size = (stop - start).astype(int)
    box = found.geometry.window(tuple(start.astype(int).tolist()), (int(size[0]), int(size[1]), int(size[2])))
    return box.corners_ras()
