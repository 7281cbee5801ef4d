"""What a correction will do and where: read off what a person has placed, before anything moves."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from ..errors import InputError
from ..geometry import Geometry
from ..image import Labels
from ..report import Finding
from ..sampling import is_outside, sample_linear
from ..transform import Affine, Transform
from .confine import Window, distance_to_points, distance_to_region, fading
from .deformable import border_taper
from .displacement import to_displacement
from .flow import DisplacementField
from .guidance import Guidance
from .settle import TOLERANCE_MM, Orders, lacking_mm
from .terms import LandmarkTerm, RigidRegions, region_voxels

REACH_MM = 40.0
REACH_OF_REGIONS_MM = 20.0
REACH_PER_MOTION = 4.0  # space gives way over four times the length of a motion: no voxel is pressed together by half
NEAREST_SHARE = 0.2  # of their distance in the fixed image that two targets keep along the line between the points


@dataclass(frozen=True, eq=False)
class CorrectionPlan:
    """What to do.

    Attributes:
        window: what may change.
        orders: what is wanted there.
        rigid: the regions that stay, or become, rigid there.
        ignored: [K, J, I] bool, the voxels of the window whose motion is filled from around.
    """

    window: Window
    orders: Orders
    rigid: RigidRegions | None
    ignored: torch.Tensor


def plan_correction(
    flow: DisplacementField, matrix: np.ndarray, guidance: Guidance
) -> tuple[CorrectionPlan | None, list[Finding]]:
    """The plan, None when all that is wanted is so already, and what was noticed.

    Args:
        flow, matrix: the registration as it stands.

    Raises:
        InputError: a point outside the field, or two pairs of points that contradict each other.
    """
    grid, like = flow.geometry, flow.vectors[0]
    weight, reach_mm, landmarks, findings = torch.zeros_like(like), REACH_MM, None, []
    if guidance.points is not None:
        targets = Transform((Affine(matrix).inverse(),)).map_points(guidance.points[1])
        landmarks = LandmarkTerm(guidance.points[0], targets)
        _check_points(landmarks, grid)
        lacking = lacking_mm(flow.vectors, grid, landmarks)
        reach_mm = max(REACH_MM, REACH_PER_MOTION * float(lacking.max()))
        if reach_mm > REACH_MM:
            message = f"A point had to move by {lacking.max():.0f} mm: {reach_mm:.0f} mm around it gave way"
            findings.append(Finding.info(message))
        led = landmarks.fixed_ras[lacking > TOLERANCE_MM]
        weight = fading(distance_to_points(grid, led, like), _reach_of_voxels(grid, reach_mm))
    rigid = None if guidance.rigid is None else _concerned(guidance.rigid, flow, weight)
    for region in (rigid, guidance.ignore):
        if region is not None:
            weight = torch.maximum(weight, fading(distance_to_region(grid, region, like), REACH_OF_REGIONS_MM))
    weight = weight * border_taper(grid, like)
    if not bool(weight.any()):
        return None, [*findings, Finding.info("Nothing was left to correct")]
    window = Window.around(weight, grid)
    regions = None if rigid is None else RigidRegions(rigid)
    around = _inside(rigid, window, REACH_OF_REGIONS_MM)
    bodies = None if regions is None else regions.on(window.geometry, like)
    orders = Orders(_reached(landmarks, window), bodies, around & ~_inside(rigid, window), reach_mm)
    return CorrectionPlan(window, orders, regions, _inside(guidance.ignore, window)), findings


def _reach_of_voxels(grid: Geometry, reach_mm: float) -> float:
    """Up to where voxels may change, so that the motion, linear between them, does not beyond the reach."""
    cell = [spacing for spacing, n in zip(grid.spacing_mm, grid.size_ijk, strict=True) if n > 1]
    return max(reach_mm / 2, reach_mm - float(np.linalg.norm(cell)))


def _check_points(landmarks: LandmarkTerm, grid: Geometry) -> None:
    """Refuse points where there is no motion to correct, and pairs that no smooth motion can obey together."""
    fixed, targets = landmarks.fixed_ras, landmarks.target_ras
    outside = is_outside(torch.as_tensor(grid.map_points(fixed)), grid.size_ijk).numpy()
    if outside.any():
        number = int(outside.argmax())
        raise InputError(
            f"Fixed landmark {number + 1} at {np.round(fixed[number], 1).tolist()} lies outside the motion's field",
            "points inside the fixed image",
            "move it into the image or remove it",
        )
    apart, wanted = (points[:, None] - points for points in (fixed, targets))
    kept = (apart * wanted).sum(axis=-1) / (apart**2).sum(axis=-1).clip(min=1e-12)
    np.fill_diagonal(kept, np.inf)
    if kept.min(initial=np.inf) < NEAREST_SHARE:
        one, other = (int(n) for n in np.unravel_index(kept.argmin(), kept.shape))
        distance_mm = np.linalg.norm(apart[one, other])
        raise InputError(
            f"The landmark pairs {one + 1} and {other + 1} contradict each other: {distance_mm:.1f} mm apart in the "
            "fixed image, they ask for a motion that would turn the tissue between them over",
            "pairs whose points lie in about the same order in both images",
            "check which of the two marks the same place in both images, and move or remove the other",
        )


def _concerned(labels: Labels, flow: DisplacementField, weight: torch.Tensor) -> Labels | None:
    """The rigid regions that are not rigid yet, or that the points' correction reaches; None without."""
    bodies = RigidRegions(labels).on(flow.geometry, flow.vectors)
    change = to_displacement(bodies.stiffened(flow.vectors) - flow.vectors, flow.geometry).vectors_ras_mm.norm(dim=0)
    counts = ((change > TOLERANCE_MM) | (weight > 0)).flatten()
    values = region_voxels(labels, flow.geometry)
    kept = torch.tensor([value for value, voxels in values.items() if bool(counts[voxels.to(counts.device)].any())])
    if not len(kept):
        return None
    return replace(labels, tensor=labels.tensor * torch.isin(labels.tensor, kept.to(labels.tensor)))


def _reached(landmarks: LandmarkTerm | None, window: Window) -> LandmarkTerm | None:
    """The points that what changes could move."""
    if landmarks is None:
        return None
    weight = window.weight
    voxels = weight.new_tensor(window.geometry.map_points(landmarks.fixed_ras))
    kept = (sample_linear(weight[None], voxels, fill=0.0)[0] > 0).cpu().numpy()
    return LandmarkTerm(landmarks.fixed_ras[kept], landmarks.target_ras[kept]) if kept.any() else None


def _inside(region: Labels | None, window: Window, margin_mm: float = 0.0) -> torch.Tensor:
    """[K, J, I] bool: the voxels of a window that lie in a region, or less than a margin from it."""
    like = window.weight
    if region is None:
        return torch.zeros_like(like, dtype=torch.bool)
    return distance_to_region(window.geometry, region, like) <= margin_mm
