"""Cleaning labels: components. Segmentation walk: labels -> [postprocess] -> labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from scipy import ndimage

from ..image import Labels
from .components import component_roots

FACES = ndimage.generate_binary_structure(3, 1)
Keep = Callable[[np.ndarray], np.ndarray]
"""Says of the components of one label, sizes in voxels, which stay."""


def keep_largest_component(labels: Labels, device: torch.device | None = None) -> Labels:
    """Of each label only the largest component (neighbours by faces); the others become background.

    Args:
        device: a GPU does the work itself; on the CPU, or None, scipy does.
    """
    return _filter_components(labels, lambda sizes: np.arange(len(sizes)) == sizes.argmax(), device)


def remove_islands(labels: Labels, smaller_than_mm3: float, device: torch.device | None = None) -> Labels:
    """Remove the components of each label whose volume is below a limit; ``device`` as above."""
    voxels = smaller_than_mm3 / labels.geometry.voxel_volume_mm3
    return _filter_components(labels, lambda sizes: sizes >= voxels, device)


def _filter_components(labels: Labels, keep: Keep, device: torch.device | None) -> Labels:
    if device is None or device.type == "cpu":
        tensor = torch.from_numpy(filter_by_boxes(labels.numpy().copy(), keep))
    else:
        tensor = filter_by_roots(labels.tensor.to(device), keep)
    return replace(labels, tensor=tensor.to(labels.tensor.device))


def filter_by_boxes(array: np.ndarray, keep: Keep) -> np.ndarray:
    """[K, J, I] labels without the components that do not stay, in place."""
    for value, box in enumerate(ndimage.find_objects(array), start=1):
        if box is None:
            continue
        part = array[box]
        components, count = ndimage.label(part == value, FACES)
        sizes = np.bincount(components.ravel(), minlength=count + 1)[1:]
        removed = np.concatenate(([False], ~keep(sizes)))
        part[removed[components]] = 0
    return array


def filter_by_roots(labels: torch.Tensor, keep: Keep) -> torch.Tensor:
    """[K, J, I] labels without the components that do not stay, on the device of the labels."""
    roots, members, sizes = component_roots(labels).unique(return_inverse=True, return_counts=True)
    values = labels.flatten()[roots].cpu().numpy()
    sizes_there = sizes.cpu().numpy()
    stays = np.zeros(len(values), bool)
    for value in np.unique(values[values > 0]):
        of_value = values == value
        stays[of_value] = keep(sizes_there[of_value])
    return labels * torch.from_numpy(stays).to(labels.device)[members]
