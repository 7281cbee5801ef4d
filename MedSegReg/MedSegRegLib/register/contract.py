"""What a transform promises, and whether it keeps it: what moves onto what, points against images, inverse, support.

For transforms from any source, after :mod:`.invert`; what a registration of ours says about itself is in ``quality``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
import torch

from ..evaluate.deformation import Folding, InverseConsistency, folding, inverse_consistency
from ..geometry import RAS_LPS, Geometry, flip_ras_lps
from ..image import Image, Labels
from ..report import Finding
from ..resample import resample_image
from ..sampling import is_outside, map_affine
from ..transform import Affine, Displacement, Transform
from .direction import DirectionTest, compare_directions
from .invert import border_motion_mm, fit_linear, invert
from .quality import describe_linear

POINTS = 20_000
AGREEMENT_MM = 0.1
ABRUPT_MM = 1.0
LEAST_COVERED = 0.99
CUBE = Geometry.from_spacing((33, 33, 33), (6.25, 6.25, 6.25), (-100.0, -100.0, -100.0))


@dataclass(frozen=True)
class Support:
    """Where the dense stages of a transform hold vectors; outside them they move nothing.

    Attributes:
        covered: fraction of the fixed points that meet every one of them inside its grid.
        lowest_ras_mm, highest_ras_mm: the box, in fixed space, around the first of them.
        border_mm: the longest vector on a border: the motion jumps by that much there.
    """

    covered: float
    lowest_ras_mm: tuple[float, float, float]
    highest_ras_mm: tuple[float, float, float]
    border_mm: float


@dataclass(frozen=True)
class Contract:
    """Attributes:
    sentence: what moves onto what, and by how much.
    stages: each stage in words, in the order in which a fixed point meets them.
    points_and_images_mm: the largest distance between where a point is taken by this library's points, its images,
        ITK's points and ITK's images.
    inverse: how far transform and inverse lead back, over the fixed points that the dense stages cover.
    folding: of all dense stages; None for a linear transform.
    support: of the dense stages; None for a linear transform.
    direction: how alike the images are through the transform, without it, and through its inverse; None without images.
    findings: what speaks against using it; none when all is well.
    """

    sentence: str
    stages: tuple[str, ...]
    points_and_images_mm: float
    inverse: InverseConsistency
    folding: Folding | None
    support: Support | None
    direction: DirectionTest | None
    findings: tuple[Finding, ...]


def check_transform(
    transform: Transform,
    by_itk: sitk.Transform,
    *,
    inverse: Transform | None = None,
    fixed: Image | None = None,
    moving: Image | None = None,
) -> Contract:
    """Read a transform's contract, and test it.

    Args:
        transform: fixed RAS to moving RAS.
        by_itk: the same as ITK reads it (LPS), see :func:`~MedSegRegLib.files.transforms.read_itk_transform`.
        inverse: the one that came with it; None solves for one.
        fixed, moving: the images that it is meant for. Both are needed to tell whether the direction is right; the
            fixed one says where to look, else that is the first field's grid, or 100 mm around the origin.

    Raises:
        InputError: an image that cannot be worked on.
    """
    grid = _coarse(_grid_of(transform, fixed))
    dense = [stage for stage in transform.stages if isinstance(stage, Displacement)]
    covered = _covered(transform, grid)
    looked_at = Labels(covered if bool(covered.any()) else torch.ones_like(covered), grid)
    back = invert(transform) if inverse is None else inverse
    error = inverse_consistency(transform, back, grid, looked_at)
    support = _support(transform, dense, covered) if dense else None
    folded = _all_folding(dense) if dense else None
    direction = None if fixed is None or moving is None else compare_directions(fixed, moving, transform, back)
    disagreement = disagreement_mm(transform, by_itk, grid)
    return Contract(
        _describe(transform, grid, folded, fixed, moving),
        tuple(_stage_in_words(stage) for stage in transform.stages) or ("identity",),
        disagreement,
        error,
        folded,
        support,
        direction,
        tuple(_findings(disagreement, error, grid, folded, support, direction)),
    )


def disagreement_mm(transform: Transform, by_itk: sitk.Transform, grid: Geometry) -> float:
    """The largest distance between four ways to take the voxels of a grid, by points and by images, here and in ITK.

    The image that is moved holds coordinates, so that its voxels tell where each was read.
    """
    k, j, i = np.indices(grid.shape_kji).reshape(3, -1)
    fixed = grid.map_voxels(np.stack((i, j, k), axis=1))
    points = transform.map_points(fixed)
    ramp, centre = _ramp(points)
    image = resample_image(ramp, grid, transform).numpy().reshape(3, -1).T + centre
    itk_points = flip_ras_lps(np.array([by_itk.TransformPoint(p) for p in flip_ras_lps(fixed).tolist()]))
    itk_image = _resample_by_itk(ramp, grid, by_itk).reshape(-1, 3) + centre
    return float(max(np.linalg.norm(other - points, axis=1).max() for other in (image, itk_points, itk_image)))


def _ramp(points: np.ndarray) -> tuple[Image, np.ndarray]:
    """A box of 2 voxels a side around the points, whose intensities are r, a, s from its centre; and that centre."""
    low, high = points.min(axis=0) - 1, points.max(axis=0) + 1
    size = high - low
    geometry = Geometry.from_spacing((2, 2, 2), (float(size[0]), float(size[1]), float(size[2])), tuple(low.tolist()))
    corners = np.moveaxis(np.indices((2, 2, 2))[::-1], 0, -1)
    centre = (low + high) / 2
    return Image.from_array(np.moveaxis(geometry.map_voxels(corners) - centre, -1, 0), geometry), centre


def _resample_by_itk(ramp: Image, grid: Geometry, by_itk: sitk.Transform) -> np.ndarray:
    """[K, J, I, 3]."""
    moving = sitk.GetImageFromArray(np.moveaxis(ramp.numpy(), 0, -1).astype(np.float64), isVector=True)
    resample = sitk.ResampleImageFilter()
    for place, geometry in ((moving, ramp.geometry), (resample, grid)):
        lps = RAS_LPS @ geometry.ijk_to_ras
        for values, name in (
            (geometry.spacing_mm, "Spacing"),
            (lps[:3, 3].tolist(), "Origin"),
            ((lps[:3, :3] / geometry.spacing_mm).ravel().tolist(), "Direction"),
        ):
            getattr(place, f"Set{name}" if place is moving else f"SetOutput{name}")(values)
    resample.SetSize(grid.size_ijk)
    resample.SetTransform(by_itk)
    return sitk.GetArrayFromImage(resample.Execute(moving))


def _grid_of(transform: Transform, fixed: Image | None) -> Geometry:
    """Where to look: the fixed image, the first field taken back to fixed space, or a cube around the origin."""
    if fixed is not None:
        return fixed.geometry
    before = np.eye(4)
    for stage in transform.stages:
        if isinstance(stage, Displacement):
            return Geometry(stage.geometry.size_ijk, np.linalg.inv(before) @ stage.geometry.ijk_to_ras)
        before = stage.matrix @ before
    return CUBE


def _coarse(grid: Geometry) -> Geometry:
    """The same field of view with at most some 20,000 voxels: no finer than it is."""
    along = np.asarray(grid.size_ijk) > 1
    factor = max(1.0, float(np.prod(grid.size_ijk, dtype=float) / POINTS) ** (1 / max(1, along.sum())))
    i, j, k = np.where(along, factor, 1.0) * grid.spacing_mm
    return grid.with_spacing((float(i), float(j), float(k)))


def _covered(transform: Transform, grid: Geometry) -> torch.Tensor:
    """[K, J, I] uint8: 1 for voxels that meet every dense stage inside its grid."""
    i, j, k = grid.size_ijk
    points = torch.from_numpy(grid.map_voxels(np.moveaxis(np.indices((k, j, i))[::-1], 0, -1)))
    covered = torch.ones(grid.shape_kji, dtype=torch.bool)
    for stage in transform.stages:
        if isinstance(stage, Displacement):
            voxels = map_affine(torch.as_tensor(stage.geometry.ras_to_ijk), points)
            covered &= ~is_outside(voxels, stage.geometry.size_ijk)
        points = stage.map_about(points, np.zeros(3))
    return covered.to(torch.uint8)


def _support(transform: Transform, dense: list[Displacement], covered: torch.Tensor) -> Support:
    corners = _grid_of(transform, None).corners_ras()
    low, high = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
    return Support(
        float(covered.double().mean()),
        (low[0], low[1], low[2]),
        (high[0], high[1], high[2]),
        max(border_motion_mm(stage) for stage in dense),
    )


def _all_folding(dense: list[Displacement]) -> Folding:
    found = [folding(stage) for stage in dense]
    voxels = sum(stage.vectors_ras_mm[0].numel() for stage in dense)
    central, corner = sum(f.voxels for f in found), sum(f.voxels_any_corner for f in found)
    return Folding(central, 100 * central / voxels, corner, 100 * corner / voxels)


def _describe(
    transform: Transform, grid: Geometry, folded: Folding | None, fixed: Image | None, moving: Image | None
) -> str:
    names = [
        (image.name if image else "") or f"the {role} image" for image, role in ((moving, "moving"), (fixed, "fixed"))
    ]
    k, j, i = np.indices(grid.shape_kji).reshape(3, -1)
    points = grid.map_voxels(np.stack((i, j, k), axis=1))
    moved = transform.map_points(points)
    known = any(isinstance(stage, Affine) for stage in transform.stages)
    matrix = transform.linear_part if known or not transform.stages else fit_linear(points, moved)
    parts = describe_linear(matrix, grid.centre_ras)
    if folded is not None:
        bend = np.linalg.norm(moved - points @ matrix[:3, :3].T - matrix[:3, 3], axis=1)
        parts.append(f"a deformation of {bend.mean():.1f} mm on average and {bend.max():.1f} mm at most")
    return (
        f"Takes points of {names[1]} to {names[0]}, and so moves the voxels of {names[0]} onto {names[1]}: "
        f"{', '.join(parts)}."
    )


def _stage_in_words(stage: Affine | Displacement) -> str:
    if isinstance(stage, Affine):
        return "linear, 4x4 matrix"
    size = "x".join(map(str, stage.geometry.size_ijk))
    return f"displacement field, {size} vectors every {', '.join(f'{mm:.3g}' for mm in stage.geometry.spacing_mm)} mm"


def _findings(
    disagreement: float,
    error: InverseConsistency,
    grid: Geometry,
    folded: Folding | None,
    support: Support | None,
    direction: DirectionTest | None,
) -> list[Finding]:
    found = []
    if disagreement > AGREEMENT_MM:
        found.append((f"Points and images are taken apart by up to {disagreement:.2f} mm", "Do not use this file."))
    if direction is not None and direction.looks_reversed:
        found.append((str(direction), "It seems to lead the other way: use 'medsegreg transform invert' first."))
    if direction is not None and direction.is_useless:
        found.append((str(direction), "Check that it belongs to these two images."))
    if folded is not None and folded.voxels_any_corner:
        found.append(
            (f"{folded.voxels_any_corner} voxels fold ({folded.percent_any_corner:.3g} %)", "There it has no inverse.")
        )
    if error.p99_mm > grid.finest_spacing_mm:
        found.append((f"The inverse leads back with an error of {error.p99_mm:.2f} mm (99 %)", "Use it one way only."))
    if support is not None and support.covered < LEAST_COVERED:
        found.append(
            (f"The field covers {100 * support.covered:.0f} % of the fixed image", "The rest is not deformed.")
        )
    if support is not None and support.border_mm > ABRUPT_MM:
        found.append(
            (
                f"The field ends with vectors of up to {support.border_mm:.1f} mm on its border",
                "ITK moves nothing beyond it, Slicer goes on with the border's vectors: they differ there.",
            )
        )
    return [Finding.warn(message, fix) for message, fix in found]
