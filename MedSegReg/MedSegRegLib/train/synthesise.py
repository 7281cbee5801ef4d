"""Examples of random contrast from label maps. Training walk: label maps -> [synthesise] -> batch -> network.

The generative model of SynthSeg (Billot et al., Medical Image Analysis 2023): a label map is mirrored and warped, each
tissue gets Gaussian intensities of a random mean and deviation, then come a bias field, gamma, and a random resolution
and slice thickness. Labels are read as indices, so that the number of classes costs nothing.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field

from ..files.architectures import Strict
from ..sampling import sample_nearest
from .chance import Chance
from .intensities import bias_field, gamma, lower_resolution, smooth
from .label_maps import LabelMaps, LabelRoles
from .warp import diffeomorphic_displacement, patch_coordinates, random_matrix, random_velocity

Share = Annotated[float, Field(ge=0, le=1)]
BLACK = 0.02  # deviation of an empty background
QUANTILE_SAMPLE = 4  # every fourth voxel along each axis but one is enough for percentiles


class Synthesis(Strict):
    """The settings of the generator; the defaults are SynthSeg's where it has them. Intensities are of 0..1.

    Attributes:
        roles: what the values of the label maps stand for.
        map_spacing_mm: the grid on which label maps are held.
        shift_mm: how far the patch's centre may be from the structures' centre, along each axis.
        velocity_mm: largest deviation of the control points of the stationary velocity.
        means, deviations: ranges of the intensities of a tissue.
        kindred_probability, kindred_spread: how often tissues of one kind have nearly the same mean, and their
            deviation from it.
        black_background_probability: of an empty background; else it is a tissue as others are.
        removed_probability: that the surroundings of the brain are removed.
        cropped_probability, cropped: that the field of view ends inside the patch, and up to which share of an axis.
        slice_mm: largest spacing of slices; in-plane resolution goes to ``voxel_mm``.
        percentiles: how far the range that becomes 0..1 may be from the full range at either end, in percent.
    """

    roles: LabelRoles
    map_spacing_mm: float = Field(1.0, gt=0)
    mirror_probability: Share = 0.5
    rotation_degrees: float = Field(15.0, ge=0, le=180)
    scale: float = Field(0.2, ge=0, lt=1)
    shear: float = Field(0.012, ge=0, le=0.5)
    shift_mm: float = Field(20.0, ge=0)
    velocity_mm: float = Field(4.0, ge=0)
    velocity_control_mm: float = Field(25.0, gt=0)
    means: tuple[Share, Share] = (0.1, 0.9)
    deviations: tuple[Share, Share] = (0.01, 0.1)
    kindred_probability: Share = 0.5
    kindred_spread: Share = 0.06
    black_background_probability: Share = 0.7
    removed_probability: Share = 0.25
    cropped_probability: Share = 0.2
    cropped: Share = 0.3
    bias_field: float = Field(0.6, ge=0)
    gamma: float = Field(0.4, ge=0)
    voxel_mm: float = Field(4.0, gt=0)
    slice_mm: float = Field(7.0, gt=0)
    low_resolution_probability: Share = 0.6
    noise: float = Field(0.03, ge=0)
    percentiles: float = Field(1.5, ge=0, lt=50)


def synthesise(
    maps: LabelMaps,
    settings: Synthesis,
    patch_kji: tuple[int, int, int],
    spacing_ijk_mm: tuple[float, float, float],
    chance: Chance,
) -> tuple[torch.Tensor, torch.Tensor]:
    """One example from a random map, on the maps' device, decided by ``chance`` alone.

    Args:
        maps: on the device of ``chance``.
        settings: how.
        patch_kji: voxels of the example.
        spacing_ijk_mm: of its voxels.

    Returns:
        image [1, *patch_kji] float32 in 0..1, labels [*patch_kji] long.
    """
    number = chance.pick(len(maps.volumes))
    mirrored = chance.happens(settings.mirror_probability)
    indices = _warped_indices(maps, number, mirrored, settings, patch_kji, spacing_ijk_mm, chance)
    labels = (maps.mirrored_targets if mirrored else maps.targets)[indices]
    image = _tissue_intensities(maps, indices, settings, chance)[None]
    image = bias_field(image, chance, chance.uniform(0, settings.bias_field), control=4)
    image = gamma(image, 2.0 ** chance.uniform(-2 * settings.gamma, 2 * settings.gamma))
    image = _scanned(image, settings, spacing_ijk_mm[::-1], chance)
    image = _normalised(image, settings.percentiles, chance)
    if chance.happens(settings.cropped_probability):
        image, labels = _cropped(image, labels, settings.cropped, chance)
    return image, labels


def mean_labels(
    maps: LabelMaps, patch_kji: tuple[int, int, int], spacing_ijk_mm: tuple[float, float, float], labels: int
) -> torch.Tensor:
    """Frequency of each label at each voxel of a patch that lies around the maps' centres, [labels, K, J, I].

    Over all maps, as they are and mirrored; ``labels`` counts the background.
    """
    total = torch.zeros((labels, *patch_kji))
    matrix = torch.diag(torch.tensor(spacing_ijk_mm) / maps.spacing_mm)
    for volume, centre in zip(maps.volumes, maps.centres, strict=True):
        for targets, side in ((maps.targets, 1.0), (maps.mirrored_targets, -1.0)):
            ijk = patch_coordinates(torch.diag(torch.tensor([side, 1, 1])) @ matrix, centre, patch_kji, None, total)
            found = targets[sample_nearest(volume, ijk.to(volume.device)).int()].cpu()
            total.scatter_add_(0, found[None], torch.ones(1, *patch_kji))
    return total / (2 * len(maps.volumes))


def _warped_indices(
    maps: LabelMaps,
    number: int,
    mirrored: bool,
    settings: Synthesis,
    patch_kji: tuple[int, int, int],
    spacing_ijk_mm: tuple[float, float, float],
    chance: Chance,
) -> torch.Tensor:
    """Indices of one label map at the patch's voxels: mirrored, affine, diffeomorphic, in one reading."""
    to_map = torch.diag(torch.tensor(spacing_ijk_mm) / maps.spacing_mm)
    matrix = random_matrix(chance, settings.rotation_degrees, settings.scale, settings.shear) @ to_map
    if mirrored:
        matrix[0] *= -1
    reach = settings.shift_mm / maps.spacing_mm
    centre = [middle + chance.uniform(-reach, reach) for middle in maps.centres[number]]
    sides_mm = [n * spacing for n, spacing in zip(patch_kji, spacing_ijk_mm[::-1], strict=True)]
    control = tuple(max(2, round(side / settings.velocity_control_mm)) for side in sides_mm)
    std = chance.uniform(0, settings.velocity_mm) / min(spacing_ijk_mm)
    velocity = random_velocity(chance, patch_kji, control, std)  # type: ignore[arg-type]
    displacement = diffeomorphic_displacement(velocity, patch_kji)
    ijk = patch_coordinates(matrix, centre, patch_kji, displacement, displacement)
    return sample_nearest(maps.volumes[number], ijk).int()


def _tissue_intensities(maps: LabelMaps, indices: torch.Tensor, settings: Synthesis, chance: Chance) -> torch.Tensor:
    """A Gaussian mixture: mean and deviation of each tissue are drawn for this example."""
    tissues = len(maps.kinds)

    def drawn(limits: tuple[float, float], count: int) -> torch.Tensor:
        return limits[0] + (limits[1] - limits[0]) * chance.uniform_noise((count,))

    means = drawn(settings.means, tissues)
    if chance.happens(settings.kindred_probability):
        means = drawn(settings.means, tissues)[maps.kinds] + settings.kindred_spread * chance.normal_noise((tissues,))
    deviations = drawn(settings.deviations, tissues) * chance.uniform(0.3, 1.0)
    means, deviations = means.clamp(min=0)[maps.tissues], deviations[maps.tissues]
    removed = len(maps.kept) and chance.happens(settings.removed_probability)
    if removed:
        kept = maps.kept[chance.pick(len(maps.kept))]
        means, deviations = means * kept, deviations * kept
    if removed or chance.happens(settings.black_background_probability):
        means[0], deviations[0] = 0, 0 if removed else BLACK
    noise = chance.normal_noise(indices.shape)
    flat = indices.reshape(-1)
    image = means.index_select(0, flat).addcmul_(deviations.index_select(0, flat), noise.reshape(-1))
    return image.reshape(indices.shape).clamp_(min=0)


def _scanned(
    image: torch.Tensor, settings: Synthesis, spacing_kji_mm: tuple[float, float, float], chance: Chance
) -> torch.Tensor:
    """As a scanner of a random resolution and slice thickness shows it (Billot et al., MIDL 2020), with noise."""
    sizes = list(spacing_kji_mm)
    if chance.happens(settings.low_resolution_probability):
        if chance.happens(0.5):
            axis = chance.pick(3)
            sizes[axis] = max(sizes[axis], chance.uniform(spacing_kji_mm[axis], settings.slice_mm))
        else:
            size = chance.uniform(min(spacing_kji_mm), max(settings.voxel_mm, *spacing_kji_mm))
            sizes = [max(size, spacing) for spacing in spacing_kji_mm]
    factors = [size / spacing for size, spacing in zip(sizes, spacing_kji_mm, strict=True)]
    thickness = chance.uniform(0.6, 1.0)
    sigmas = [
        chance.uniform(0.2, 0.5) if factor == 1 else 0.75 * thickness * factor * chance.uniform(0.6, 1.05)
        for factor in factors
    ]
    noise = chance.normal_noise(image.shape) * chance.uniform(0, settings.noise)
    return lower_resolution(smooth(image, sigmas), factors, noise)


def _normalised(image: torch.Tensor, percentiles: float, chance: Chance) -> torch.Tensor:
    """A low and a high percentile become 0 and 1, as ``preprocess.PercentileRange`` does for an image."""
    sample = image[:, :: QUANTILE_SAMPLE // 2, ::QUANTILE_SAMPLE, ::QUANTILE_SAMPLE].reshape(-1).sort().values
    last = len(sample) - 1
    low = sample[round(last * chance.uniform(0, percentiles) / 100)]
    high = sample[round(last * (1 - chance.uniform(0, percentiles) / 100))]
    return ((image - low) / (high - low).clamp(min=1e-6)).clamp(0, 1)


def _cropped(
    image: torch.Tensor, labels: torch.Tensor, share: float, chance: Chance
) -> tuple[torch.Tensor, torch.Tensor]:
    """Nothing beyond a plane across one axis, at either end."""
    axis, at_end = chance.pick(3), chance.happens(0.5)
    side = labels.shape[axis]
    width = round(side * chance.uniform(0, share))
    first = side - width if at_end else 0
    image.narrow(1 + axis, first, width).zero_()
    labels.narrow(axis, first, width).zero_()
    return image, labels
