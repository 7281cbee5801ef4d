"""Transform (RAS, stages in order of use) to a SimpleITK transform (LPS) and back."""

from __future__ import annotations

import itertools

import numpy as np
import SimpleITK as sitk

from ..errors import DimensionError, UnsupportedFile
from ..geometry import RAS_LPS, Geometry, flip_world_matrix
from ..transform import Affine, Displacement, Transform
from .itk import displacement_from_itk, itk_from_displacement

BSPLINE_ERROR_MM = 1e-3
MOST_BSPLINE_VECTORS = 1 << 24


def itk_from_transform(transform: Transform) -> sitk.Transform:
    """One ITK transform; neighbouring linear stages become one matrix. A chain is a composite.

    ITK's composite applies the transform that was added last first, so the stages are added from the last to the first.
    """
    stages = [_itk_from_stage(stage) for stage in merge_linear(transform).stages]
    if len(stages) == 1:
        return stages[0]
    return sitk.CompositeTransform(stages[::-1]) if stages else sitk.AffineTransform(3)


def merge_linear(transform: Transform) -> Transform:
    """The same mapping with neighbouring linear stages multiplied."""
    merged: list[Affine | Displacement] = []
    for stage in transform.stages:
        if merged and isinstance(stage, Affine) and isinstance(merged[-1], Affine):
            merged[-1] = Affine(stage.matrix @ merged[-1].matrix)
        else:
            merged.append(stage)
    return Transform(tuple(merged))


def _itk_from_stage(stage: Affine | Displacement) -> sitk.Transform:
    if isinstance(stage, Displacement):
        return sitk.DisplacementFieldTransform(itk_from_displacement(stage, np.float64))
    matrix = flip_world_matrix(stage.matrix)
    affine = sitk.AffineTransform(3)
    affine.SetMatrix(matrix[:3, :3].ravel().tolist())
    affine.SetTranslation(matrix[:3, 3].tolist())
    return affine


def transform_from_itk(transform: sitk.Transform) -> Transform:
    """Affine, Euler, versor, similarity, scale, translation, displacement field, B-spline and composites of them.

    A B-spline becomes a dense field, refined until it is right to 0.001 mm or has 16.8 million vectors.

    Raises:
        DimensionError: not 3D. UnsupportedFile: another kind of transform. InvalidGeometry: a singular matrix.
    """
    if transform.GetDimension() != 3:
        raise DimensionError(f"The transform has {transform.GetDimension()} dimensions", "3", "choose a 3D transform")
    transform = transform.Downcast()
    if transform.IsLinear():
        return Transform((_affine_from_itk(transform),))
    if isinstance(transform, sitk.DisplacementFieldTransform):
        return Transform((displacement_from_itk(transform.GetDisplacementField()),))
    if isinstance(transform, sitk.BSplineTransform):
        return Transform((_dense_from_bspline(transform),))
    parts = _parts(transform)
    if not parts:
        raise UnsupportedFile(
            f"The transform is a {transform.GetName()} of a kind that is not read here",
            "linear, displacement field, B-spline, or a chain of them",
            "convert it to a displacement field in Slicer",
        )
    return Transform(tuple(itertools.chain.from_iterable(transform_from_itk(p).stages for p in reversed(parts))))


def _parts(transform: sitk.Transform) -> list[sitk.Transform]:
    """The members of a composite, in the order they were added; none of an unknown kind.

    SimpleITK wraps a kind that it does not know into a composite of one, whose only member is again such a composite.
    """
    if not isinstance(transform, sitk.CompositeTransform):
        return []
    parts = [transform.GetNthTransform(n) for n in range(transform.GetNumberOfTransforms())]
    return [] if len(parts) == 1 and isinstance(parts[0], sitk.CompositeTransform) else parts


def _affine_from_itk(linear: sitk.Transform) -> Affine:
    """The matrix of any linear transform, or of a chain of linear ones, from where it sends four points."""
    offset = np.array(linear.TransformPoint((0.0, 0.0, 0.0)))
    matrix = np.eye(4)
    matrix[:3, 3] = offset
    matrix[:3, :3] = np.array([np.array(linear.TransformPoint(axis)) - offset for axis in np.eye(3).tolist()]).T
    return Affine(flip_world_matrix(matrix))


def _dense_from_bspline(bspline: sitk.BSplineTransform) -> Displacement:
    """Sample from edge to edge of the spline's domain, outside of which ITK moves nothing."""
    mesh = np.array(bspline.GetTransformDomainMeshSize())
    extent = np.array(bspline.GetTransformDomainPhysicalDimensions())
    directions = np.array(bspline.GetTransformDomainDirection()).reshape(3, 3)
    inside = 1e-6 * extent
    lps = np.eye(4)
    lps[:3, 3] = np.array(bspline.GetTransformDomainOrigin()) + directions @ inside
    for samples_per_cell in (4, 8, 16, 32):
        cells = mesh * samples_per_cell
        lps[:3, :3] = directions * ((extent - 2 * inside) / cells)
        size_ijk = int(cells[0]) + 1, int(cells[1]) + 1, int(cells[2]) + 1
        dense = _sample(bspline, Geometry(size_ijk, RAS_LPS @ lps))
        finer = int(np.prod(2 * cells + 1, dtype=np.float64))
        if finer > MOST_BSPLINE_VECTORS or _largest_error(bspline, dense) < BSPLINE_ERROR_MM:
            break
    return dense


def _sample(bspline: sitk.Transform, geometry: Geometry) -> Displacement:
    lps = RAS_LPS @ geometry.ijk_to_ras
    field = sitk.TransformToDisplacementField(
        bspline,
        sitk.sitkVectorFloat64,
        geometry.size_ijk,
        lps[:3, 3].tolist(),
        geometry.spacing_mm,
        (lps[:3, :3] / np.asarray(geometry.spacing_mm)).ravel().tolist(),
    )
    return displacement_from_itk(field)


def _largest_error(bspline: sitk.Transform, dense: Displacement) -> float:
    """Largest distance (mm) between spline and field at 1000 random points of the domain."""
    ijk = np.random.default_rng(0).uniform(0, 1, (1000, 3)) * (np.array(dense.geometry.size_ijk) - 1)
    ras = dense.geometry.map_voxels(ijk)
    truth = np.array([bspline.TransformPoint(p) for p in (ras * (-1, -1, 1)).tolist()]) * (-1, -1, 1)
    return float(np.linalg.norm(Transform((dense,)).map_points(ras) - truth, axis=1).max())
