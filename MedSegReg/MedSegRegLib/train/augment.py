"""Random changes of training examples, on whatever device they lie: one warp for geometry, then intensities.

The set of changes follows nnU-Net's (Isensee et al. 2021): rotation, scaling, elastic deformation, mirroring, Gaussian
noise and blur, brightness, contrast, simulated low resolution, gamma; a smooth bias field is added for MR.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field

from ..files.architectures import Strict
from ..sampling import sample_linear, sample_nearest
from .chance import Chance
from .intensities import bias_field, gamma, lower_resolution, smooth
from .warp import Size, diffeomorphic_displacement, patch_coordinates, random_matrix, random_velocity


class Augmentation(Strict):
    """How strong and how often; probabilities are per example. ``mirror_axes``: 0, 1, 2 for i, j, k."""

    rotation_degrees: float = Field(15.0, ge=0, le=180)
    scale: float = Field(0.15, ge=0, lt=1)
    shift_voxels: float = Field(4.0, ge=0)
    foreground_probability: float = Field(0.5, ge=0, le=1)
    elastic_voxels: float = Field(2.0, ge=0)
    elastic_probability: float = Field(0.4, ge=0, le=1)
    mirror_axes: tuple[Literal[0, 1, 2], ...] = ()
    noise: float = Field(0.1, ge=0)
    blur_voxels: float = Field(0.8, ge=0)
    contrast: float = Field(0.25, ge=0, lt=1)
    gamma: float = Field(0.35, ge=0)
    bias_field: float = Field(0.3, ge=0)
    low_resolution: float = Field(2.0, ge=1)
    intensity_probability: float = Field(0.25, ge=0, le=1)


def augment(
    image: torch.Tensor,
    labels: torch.Tensor,
    patch_kji: Size,
    settings: Augmentation,
    chance: Chance,
    focus: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """A random patch of a random variant of one example.

    Args:
        image: [C, K, J, I] float32, normalised.
        labels: [K, J, I] integer.
        patch_kji: size of the patch; larger than the image gives its border value repeated, labels 0. One of a single
            slice is one of the image's slices, and nothing moves out of it.
        chance: source of all randomness, on the image's device.
        focus: [K, J, I] bool, the voxels around which ``foreground_probability`` counts; None for the labelled ones.

    Returns:
        image [C, *patch_kji], labels [*patch_kji].
    """
    centre = _patch_centre(labels > 0 if focus is None else focus, patch_kji, settings, chance)
    axes = (0, 1) if patch_kji[0] == 1 else (0, 1, 2)
    mirrored = [axis for axis in settings.mirror_axes if axis in axes]
    matrix = random_matrix(chance, settings.rotation_degrees, settings.scale, mirror_axes=mirrored, axes=axes)
    displacement = None
    if chance.happens(settings.elastic_probability):
        control = tuple(max(4, n // 8) for n in patch_kji)
        velocity = random_velocity(chance, patch_kji, control, chance.uniform(0, settings.elastic_voxels))  # type: ignore[arg-type]
        velocity[len(axes) :] = 0
        displacement = diffeomorphic_displacement(velocity, patch_kji)
    ijk = patch_coordinates(matrix, centre.tolist(), patch_kji, displacement, image)
    return _change_intensities(sample_linear(image, ijk), settings, chance), sample_nearest(labels, ijk)


def _patch_centre(focus: torch.Tensor, patch_kji: Size, settings: Augmentation, chance: Chance) -> torch.Tensor:
    """Anywhere that the patch fits, or around a random voxel of ``focus``; shifted a little. (i, j, k)."""
    size, image_size = (torch.tensor(tuple(shape)[::-1], dtype=torch.float32) for shape in (patch_kji, focus.shape))
    room, middle = ((image_size - size) / 2).clamp(min=0), (image_size - 1) / 2
    shift = torch.tensor([chance.uniform(-1, 1) for _ in range(3)]) * settings.shift_voxels
    one_slice = patch_kji[0] == 1
    if one_slice:
        shift[2] = 0
    if bool((room > 0).any()) and chance.happens(settings.foreground_probability):
        voxels = focus.nonzero()
        if len(voxels):
            chosen = voxels[chance.pick(len(voxels))]
            return chosen.flip(0).cpu().float().clamp(middle - room, middle + room) + shift
    centre = middle + torch.tensor([chance.uniform(-1, 1) for _ in range(3)]) * room + shift
    return torch.cat((centre[:2], centre[2:].round())) if one_slice else centre


def _change_intensities(patch: torch.Tensor, settings: Augmentation, chance: Chance) -> torch.Tensor:
    """Each change happens with ``intensity_probability``; the patch is normalised, so that strengths are relative."""
    p = settings.intensity_probability
    if chance.happens(p):
        patch = smooth(patch, [chance.uniform(0.3, max(0.3, settings.blur_voxels))] * 3)
    if chance.happens(p):
        patch = lower_resolution(patch, [chance.uniform(1, settings.low_resolution)] * 3)
    if chance.happens(2 * p):
        patch = bias_field(patch, chance, settings.bias_field * chance.uniform(0, 1))
    if chance.happens(2 * p):
        patch = gamma(patch, math.exp(chance.uniform(-settings.gamma, settings.gamma)))
    if chance.happens(2 * p):
        patch = patch * chance.uniform(1 - settings.contrast, 1 + settings.contrast)
        patch = patch + chance.uniform(-settings.contrast, settings.contrast)
    if chance.happens(p):
        patch = patch + chance.normal_noise(patch.shape) * settings.noise * chance.uniform(0, 1)
    return patch
