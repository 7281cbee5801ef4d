"""One scene per test, on real MRML, and the grids that every conversion must survive."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
import vtk
from scipy.spatial.transform import Rotation

from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Image
from MedSegRegLib.mrml.headless import new_scene
from MedSegRegLib.mrml.volumes import node_from_image

OBLIQUE = Rotation.from_euler("xyz", (10, 20, 30), degrees=True).as_matrix()
SHEARED = OBLIQUE @ np.array([[1.0, 0.3, 0.0], [0.0, np.sqrt(1 - 0.09), 0.0], [0.0, 0.0, 1.0]])
DIRECTIONS = {
    "anisotropic": np.eye(3),
    "oblique": OBLIQUE,
    "left-handed": OBLIQUE @ np.diag([-1, 1, 1]),
    "sheared": SHEARED,
}
GRIDS = {
    name: Geometry.from_spacing((14, 12, 9), (2.0, 3.0, 5.0), (-20.0, 12.0, 5.0), directions)
    for name, directions in DIRECTIONS.items()
}


@pytest.fixture
def scene():
    scene = new_scene()
    yield scene
    scene.Clear(True)


@pytest.fixture(params=["anisotropic", "oblique", "left-handed"])
def grid(request):
    """A grid of three at right angles."""
    return GRIDS[request.param]


@pytest.fixture(params=GRIDS)
def any_grid(request):
    """A grid of four, one of them sheared."""
    return GRIDS[request.param]


@pytest.fixture
def an_oblique_grid():
    return GRIDS["oblique"]


@pytest.fixture
def a_sheared_grid():
    return GRIDS["sheared"]


@pytest.fixture
def an_image(an_oblique_grid):
    values = np.random.default_rng(0).normal(100, 20, an_oblique_grid.shape_kji)
    return Image.from_array(values, an_oblique_grid, "T1 of somebody")


@pytest.fixture
def a_volume_node(scene, an_image):
    return node_from_image(an_image, scene, an_image.name)


@pytest.fixture
def a_linear_parent(scene):
    """A linear transform node: rotation and translation to the parent."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", (3, -5, 8), degrees=True).as_matrix()
    matrix[:3, 3] = (7, -4, 2)
    node = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "table position")
    node.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    return node


@pytest.fixture
def a_nonlinear_parent(scene):
    """A thin-plate-spline transform node that bends the world."""
    source, target = vtk.vtkPoints(), vtk.vtkPoints()
    for number, point in enumerate(np.random.default_rng(1).uniform(-60, 60, (8, 3))):
        source.InsertNextPoint(point)
        target.InsertNextPoint(np.add(point, (3.0 * (number % 2), 1.0, -2.0)))
    spline = vtk.vtkThinPlateSplineTransform()
    spline.SetSourceLandmarks(source)
    spline.SetTargetLandmarks(target)
    spline.SetBasisToR()
    node = scene.AddNewNodeByClass("vtkMRMLTransformNode", "bend")
    node.SetAndObserveTransformFromParent(spline)
    return node
