"""What the tests of the core share: random grids, and the same things as SimpleITK sees them."""

from __future__ import annotations

import numpy as np
import SimpleITK
from hypothesis import settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from MedSegRegLib.geometry import RAS_LPS, Geometry, flip_ras_lps, flip_world_matrix
from MedSegRegLib.transform import Affine, Displacement, Transform

FEW = settings(max_examples=40, deadline=None, derandomize=True)


@st.composite
def geometries(draw, smallest: int = 1, largest: int = 9, furthest_mm: float = 1e9, sheared: bool = True) -> Geometry:
    """Oblique, anisotropic, left- or right-handed grids, sheared too if asked."""
    size = draw(st.tuples(*[st.integers(smallest, largest)] * 3))
    spacing = draw(st.tuples(*[st.floats(0.4, 6.0)] * 3))
    angles = np.array(draw(st.tuples(*[st.integers(-1800, 1800)] * 3))) / 10  # ITK cannot invert entries like 1e-303
    origin = draw(st.tuples(*[st.floats(-furthest_mm, furthest_mm)] * 3))
    handedness = np.diag([1, 1, draw(st.sampled_from((-1, 1)))])
    directions = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ handedness
    if sheared:
        directions[:, 1] += draw(st.floats(-0.5, 0.5)) * directions[:, 0]
        directions /= np.linalg.norm(directions, axis=0)
    return Geometry.from_spacing(size, spacing, origin, directions)


@st.composite
def grid_pairs(draw, smallest: int = 2, sheared: bool = False) -> tuple[Geometry, Geometry]:
    """(fixed, moving): two unlike grids whose fields of view overlap."""
    fixed = draw(geometries(smallest, furthest_mm=500.0, sheared=sheared))
    moving = draw(geometries(smallest, furthest_mm=0.0, sheared=sheared))
    offset = draw(st.tuples(*[st.floats(-3.0, 3.0)] * 3))
    return fixed, centred(moving, fixed.centre_ras + offset)


def centred(geometry: Geometry, point_ras: np.ndarray) -> Geometry:
    """The same grid, moved so that its centre is there."""
    matrix = geometry.ijk_to_ras.copy()
    matrix[:3, 3] += point_ras - geometry.centre_ras
    return Geometry(geometry.size_ijk, matrix)


def random_affine(rng: np.random.Generator, centre: np.ndarray) -> Affine:
    """A small rotation, scaling, shear and shift about a point."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.random(random_state=rng).as_matrix() if rng.random() < 0.3 else np.eye(3)
    matrix[:3, :3] += rng.uniform(-0.15, 0.15, (3, 3))
    matrix[:3, 3] = centre - matrix[:3, :3] @ centre + rng.uniform(-2, 2, 3)
    return Affine(matrix)


def itk_image(array_kji: np.ndarray, geometry: Geometry) -> SimpleITK.Image:
    """A scalar volume [K, J, I], or vectors [K, J, I, 3], as SimpleITK sees them (LPS)."""
    lps = RAS_LPS @ geometry.ijk_to_ras
    image = SimpleITK.GetImageFromArray(array_kji, isVector=array_kji.ndim == 4)
    image.SetSpacing(geometry.spacing_mm)
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetDirection((lps[:3, :3] / geometry.spacing_mm).ravel().tolist())
    return image


def itk_transform(transform: Transform) -> SimpleITK.CompositeTransform:
    """The same chain for SimpleITK, which applies the stage that was added last first."""
    chain = SimpleITK.CompositeTransform(3)
    for stage in reversed(transform.stages):
        chain.AddTransform(_itk_field(stage) if isinstance(stage, Displacement) else _itk_affine(stage))
    return chain


def _itk_affine(stage: Affine) -> SimpleITK.AffineTransform:
    matrix = flip_world_matrix(stage.matrix)
    affine = SimpleITK.AffineTransform(3)
    affine.SetMatrix(matrix[:3, :3].ravel().tolist())
    affine.SetTranslation(matrix[:3, 3].tolist())
    return affine


def _itk_field(stage: Displacement) -> SimpleITK.DisplacementFieldTransform:
    vectors = flip_ras_lps(np.moveaxis(stage.vectors_ras_mm.numpy().astype(np.float64), 0, -1))
    return SimpleITK.DisplacementFieldTransform(itk_image(vectors, stage.geometry))
