"""Random changes of training examples, on whatever device they lie: one warp for geometry, then intensities.

The set of changes follows nnU-Net's (Isensee et al. 2021): rotation, scaling, elastic deformation, mirroring, Gaussian
noise and blur, brightness, contrast, simulated low resolution, gamma; a smooth bias field is added for MR.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch.nn import functional

from ..sampling import map_affine, sample_linear, sample_nearest, voxel_coordinates


class Augmentation(BaseModel):
    """How strong and how often; probabilities are per example. ``mirror_axes``: 0, 1, 2 for i, j, k."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

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
    patch_kji: tuple[int, int, int],
    settings: Augmentation,
    rng: torch.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """A random patch of a random variant of one example.

    Args:
        image: [C, K, J, I] float32, normalised.
        labels: [K, J, I] integer.
        patch_kji: size of the patch; larger than the image gives its border value repeated, labels 0.
        rng: source of all randomness (on the CPU).

    Returns:
        image [C, *patch_kji], labels [*patch_kji].
    """
    centre = _patch_centre(labels, patch_kji, settings, rng)
    ijk = _patch_coordinates(centre, patch_kji, settings, rng, image)
    patch, target = sample_linear(image, ijk), sample_nearest(labels, ijk)
    return _change_intensities(patch, settings, rng), target


def _uniform(rng: torch.Generator, low: float, high: float, size: tuple[int, ...] = ()) -> torch.Tensor:
    return low + (high - low) * torch.rand(size, generator=rng)


def _happens(rng: torch.Generator, probability: float) -> bool:
    return bool(torch.rand((), generator=rng) < probability)


def _patch_centre(
    labels: torch.Tensor, patch_kji: tuple[int, int, int], settings: Augmentation, rng: torch.Generator
) -> torch.Tensor:
    """Anywhere that the patch fits, or around a random labelled voxel; shifted a little. (i, j, k)."""
    size, image_size = (torch.tensor(tuple(shape)[::-1], dtype=torch.float32) for shape in (patch_kji, labels.shape))
    room = ((image_size - size) / 2).clamp(min=0)
    shift = _uniform(rng, -1, 1, (3,)) * settings.shift_voxels
    if bool((room > 0).any()) and _happens(rng, settings.foreground_probability):
        foreground = labels.nonzero()
        if len(foreground):
            pick = int(torch.randint(len(foreground), (), generator=rng))
            middle = (image_size - 1) / 2
            return foreground[pick].flip(0).cpu().float().clamp(middle - room, middle + room) + shift
    return (image_size - 1) / 2 + _uniform(rng, -1, 1, (3,)) * room + shift


def _patch_coordinates(
    centre: torch.Tensor,
    patch_kji: tuple[int, int, int],
    settings: Augmentation,
    rng: torch.Generator,
    like: torch.Tensor,
) -> torch.Tensor:
    """Voxel coordinates in the example for every voxel of the patch around ``centre`` (i, j, k), [K, J, I, 3]."""
    size = torch.tensor(patch_kji[::-1], dtype=torch.float32)
    matrix = torch.eye(3)
    for axis in range(3):
        angle = math.radians(float(_uniform(rng, -settings.rotation_degrees, settings.rotation_degrees)))
        first, second = (axis + 1) % 3, (axis + 2) % 3
        turn = torch.eye(3)
        turn[first, first] = turn[second, second] = math.cos(angle)
        turn[first, second], turn[second, first] = -math.sin(angle), math.sin(angle)
        matrix = matrix @ turn
    matrix = matrix @ torch.diag(_uniform(rng, 1 - settings.scale, 1 + settings.scale, (3,)))
    for axis in settings.mirror_axes:
        if _happens(rng, 0.5):
            matrix[axis] *= -1
    affine = torch.eye(4)
    affine[:3, :3], affine[:3, 3] = matrix, centre
    ijk = voxel_coordinates(patch_kji[::-1], 0, patch_kji[0], like) - ((size - 1) / 2).to(like)
    ijk = map_affine(affine.to(like), ijk)
    if _happens(rng, settings.elastic_probability):
        control = tuple(max(4, n // 8) for n in patch_kji)
        coarse = torch.randn((1, 3, *control), generator=rng) * float(_uniform(rng, 0, settings.elastic_voxels))
        shifts = functional.interpolate(coarse.to(like), patch_kji, mode="trilinear", align_corners=True)[0]
        ijk = ijk + shifts.movedim(0, -1)
    return ijk


def _change_intensities(patch: torch.Tensor, settings: Augmentation, rng: torch.Generator) -> torch.Tensor:
    """Each change happens with ``intensity_probability``; the patch is normalised, so that strengths are relative."""
    p = settings.intensity_probability
    if _happens(rng, p):
        patch = _smooth(patch, float(_uniform(rng, 0.3, max(0.3, settings.blur_voxels))))
    if _happens(rng, p):
        factor = float(_uniform(rng, 1, settings.low_resolution))
        small = [max(1, round(n / factor)) for n in patch.shape[1:]]
        coarse = functional.interpolate(patch[None], small, mode="trilinear", align_corners=False)
        patch = functional.interpolate(coarse, patch.shape[1:], mode="trilinear", align_corners=False)[0]
    if _happens(rng, 2 * p):
        control = torch.randn((1, 1, 3, 3, 3), generator=rng) * settings.bias_field * float(_uniform(rng, 0, 1))
        field = functional.interpolate(control.to(patch), patch.shape[1:], mode="trilinear", align_corners=True)[0]
        low = patch.amin()
        patch = (patch - low) * field.exp() + low
    if _happens(rng, 2 * p):
        low, high = patch.amin(), patch.amax()
        power = float(_uniform(rng, -settings.gamma, settings.gamma).exp())
        patch = ((patch - low) / (high - low).clamp(min=1e-6)).pow(power) * (high - low) + low
    if _happens(rng, 2 * p):
        patch = patch * float(_uniform(rng, 1 - settings.contrast, 1 + settings.contrast)) + float(
            _uniform(rng, -settings.contrast, settings.contrast)
        )
    if _happens(rng, p):
        noise = torch.randn(patch.shape, generator=rng) * settings.noise * float(_uniform(rng, 0, 1))
        patch = patch + noise.to(patch)
    return patch


def _smooth(patch: torch.Tensor, sigma: float) -> torch.Tensor:
    radius = max(1, math.ceil(3 * sigma))
    kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, device=patch.device) / sigma) ** 2).to(patch.dtype)
    kernel = kernel / kernel.sum()
    out = patch[:, None]
    for axis in range(3):
        shape = [1, 1, 1, 1, 1]
        shape[2 + axis] = -1
        pad = [0] * 6
        pad[4 - 2 * axis] = pad[5 - 2 * axis] = radius
        out = functional.conv3d(functional.pad(out, pad, mode="replicate"), kernel.reshape(shape))
    return out[:, 0]
