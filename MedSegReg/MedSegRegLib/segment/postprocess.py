"""Cleaning labels: components. Segmentation walk: labels -> [postprocess] -> labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from scipy import ndimage

from ..image import Labels

FACES = ndimage.generate_binary_structure(3, 1)


def keep_largest_component(labels: Labels) -> Labels:
    """Of each label only the largest component (neighbours by faces); the others become background."""
    return _filter_components(labels, lambda sizes: np.arange(len(sizes)) == sizes.argmax())


def remove_islands(labels: Labels, smaller_than_mm3: float) -> Labels:
    """Remove the components of each label whose volume is below a limit."""
    voxels = smaller_than_mm3 / labels.geometry.voxel_volume_mm3
    return _filter_components(labels, lambda sizes: sizes >= voxels)


def _filter_components(labels: Labels, keep: Callable[[np.ndarray], np.ndarray]) -> Labels:
    """``keep(sizes)`` says which components stay; sizes in voxels, one entry a component."""
    array = labels.numpy().copy()
    for value, box in enumerate(ndimage.find_objects(array), start=1):
        if box is None:
            continue
        part = array[box]
        components, count = ndimage.label(part == value, FACES)
        sizes = np.bincount(components.ravel(), minlength=count + 1)[1:]
        removed = np.concatenate(([False], ~keep(sizes)))
        part[removed[components]] = 0
    return replace(labels, tensor=torch.from_numpy(array).to(labels.tensor.device))
