"""Where the visits of one patient meet: rigid motions, measured both ways, and the space half-way between all of them.

Follow-up's walk: visits -> [midway] -> change -> volumes and lesions -> report. Every visit is resampled into this
space once and by as much as the others, so that none looks smoother than another (Reuter 2012, "Within-subject template
estimation for unbiased longitudinal image analysis").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from scipy.linalg import expm, logm

from ..errors import InputError, NoOverlap, StructureNotFound
from ..geometry import Geometry
from ..image import Image, Labels
from ..progress import Progress
from ..register.run import register
from ..register.settings import RegistrationSettings
from ..report import Finding
from ..resample import resample_labels
from ..transform import Affine, Transform

ROUNDS, SMALLEST_STEP = 20, 1e-10
REFERENCE_MARGIN_MM = 4.0
FEWEST_VOXELS = 8
POINTS = 20_000


@dataclass(frozen=True, eq=False)
class Visit:
    """One time point.

    Attributes:
        image: on any grid.
        labels: its structures and lesions, on any grid in the image's space; None when none were drawn.
        reference: on the image's grid; what is above 0 keeps its place and shape between the visits (skull, bone), and
            alone decides the rigid motion. None lets the whole image decide.
    """

    image: Image
    labels: Labels | None = None
    reference: Labels | None = None


@dataclass(frozen=True, eq=False)
class Midway:
    """The common space.

    Attributes:
        grid: of equal sides along R, A and S, over what all visits show.
        to_visit: for each visit the 4x4 matrix from this space to it, RAS mm.
        rigid_error_mm: for each visit, how well its motion is known: the distance by which the registrations there and
            back disagree, root mean square over the first visit's tissue, halved, because their mean is taken.
        findings: of the registrations.
    """

    grid: Geometry
    to_visit: tuple[np.ndarray, ...]
    rigid_error_mm: tuple[float, ...]
    findings: tuple[Finding, ...]


def reference_mask(image: Image, labels: Labels | None, name: str) -> Labels:
    """A structure of the labels as the reference of a visit, on the image's grid.

    Raises:
        StructureNotFound: the visit has no labels, or none of that name.
    """
    values = [one.value for one in labels.structures if one.name == name] if labels is not None else []
    if labels is None or not values or not bool((labels.tensor == values[0]).any()):
        raise StructureNotFound(
            f"'{image.name}' has no structure '{name}'",
            "the reference structure in the labels of every visit",
            "give these labels, or a mask of the structure for each visit",
        )
    mask = Labels.from_array(labels.numpy() == values[0], labels.geometry)
    return resample_labels(mask, image.geometry)


def find_midway(
    visits: Sequence[Visit],
    settings: RegistrationSettings,
    spacing_mm: float | None,
    device: torch.device | str,
    progress: Progress,
) -> Midway:
    """Register each further visit to the first, there and back, and meet half-way.

    Args:
        visits: two or more.
        settings: the linear part is used.
        spacing_mm: of the grid; None takes the side of a cube as large as the visits' voxels.

    Raises:
        InputError: fewer than two visits. NoOverlap: they show nothing in common. Cancelled; others of ``register``.
    """
    if len(visits) < 2:
        raise InputError(f"There is {len(visits)} visit", "two or more of one patient", "add the other visit")
    linear = settings.model_copy(update={"deformable": None})
    motions, errors, findings = [np.eye(4)], [0.0], []
    for number, visit in enumerate(visits[1:]):
        share = progress.part(number / (len(visits) - 1), (number + 1) / (len(visits) - 1))
        motion, error, noticed = _motion(visits[0], visit, linear, device, share)
        motions.append(motion)
        errors.append(error)
        findings += noticed
    centre = mean_motion(motions)
    to_visit = tuple(motion @ centre for motion in motions)
    return Midway(_grid(visits, to_visit, spacing_mm), to_visit, tuple(errors), tuple(findings))


def mean_motion(motions: Sequence[np.ndarray]) -> np.ndarray:
    """The 4x4 matrix M for which the logarithms of ``motion @ M`` sum to zero: the space in the middle of all.

    >>> shift = np.eye(4); shift[0, 3] = 4.0
    >>> mean_motion([np.eye(4), shift])[0, 3].item()
    -2.0
    """
    mean = np.eye(4)
    for _ in range(ROUNDS):
        step = np.mean([logm(motion @ mean).real for motion in motions], axis=0)
        mean = mean @ expm(-step)
        if np.abs(step).max() < SMALLEST_STEP:
            break
    return mean


def _motion(
    first: Visit, other: Visit, settings: RegistrationSettings, device: torch.device | str, progress: Progress
) -> tuple[np.ndarray, float, list[Finding]]:
    """First visit RAS to other visit RAS, the middle of both directions; its error in mm."""
    masks = [None if visit.reference is None else _widened(visit.reference) for visit in (first, other)]
    forward = register(
        first.image,
        other.image,
        settings,
        fixed_mask=masks[0],
        moving_mask=masks[1],
        device=device,
        progress=progress.part(0.0, 0.6),
    )
    there = forward.transform.linear_part
    backward = register(
        other.image,
        first.image,
        settings,
        fixed_mask=masks[1],
        moving_mask=masks[0],
        initial=Transform((Affine(np.linalg.inv(there)),)),
        device=device,
        progress=progress.part(0.6, 1.0),
    )
    back = np.linalg.inv(backward.transform.linear_part)
    middle = there @ expm(logm(np.linalg.inv(there) @ back).real / 2)
    points = _tissue_points(first.image)
    apart = np.linalg.norm(_map(there, points) - _map(back, points), axis=1)
    return middle, float(np.sqrt(np.square(apart).mean()) / 2), list(forward.findings)


def _widened(reference: Labels) -> Labels:
    """With a margin, because a structure is recognised by its border."""
    mask = reference.numpy() > 0
    near = ndimage.distance_transform_edt(~mask, sampling=reference.geometry.spacing_mm[::-1]) <= REFERENCE_MARGIN_MM
    return Labels.from_array(near if mask.any() else mask, reference.geometry)


def _tissue_points(image: Image) -> np.ndarray:
    """[N, 3] RAS mm of voxels that are brighter than the mean."""
    values = image.numpy()[0]
    kji = np.argwhere(values > values.mean())
    return image.geometry.map_voxels(kji[:: max(1, len(kji) // POINTS), ::-1])


def _map(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def _grid(visits: Sequence[Visit], to_visit: Sequence[np.ndarray], spacing_mm: float | None) -> Geometry:
    """Over the box that all fields of view share."""
    boxes = [
        _map(np.linalg.inv(matrix), visit.image.geometry.corners_ras())
        for visit, matrix in zip(visits, to_visit, strict=True)
    ]
    low, high = np.max([box.min(axis=0) for box in boxes], axis=0), np.min([box.max(axis=0) for box in boxes], axis=0)
    if spacing_mm is None:
        volumes = [visit.image.geometry.voxel_volume_mm3 for visit in visits]
        spacing_mm = float(np.exp(np.mean(np.log(volumes)) / 3))
    size = np.floor((high - low) / spacing_mm + 1e-6).astype(int)
    if size.min() < FEWEST_VOXELS:
        raise NoOverlap(
            f"The visits share a box of {np.maximum(high - low, 0).round().tolist()} mm",
            f"at least {FEWEST_VOXELS} voxels of {spacing_mm:.2f} mm along each axis",
            "check that all visits show the same part of the body",
        )
    r, a, s = ((low + high) / 2 - (size - 1) / 2 * spacing_mm).tolist()
    i, j, k = size.tolist()
    return Geometry.from_spacing((i, j, k), (spacing_mm,) * 3, (r, a, s))
