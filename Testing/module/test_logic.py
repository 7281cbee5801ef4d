"""The module's logic on real MRML nodes, with Qt absent: nodes in, nodes out."""
# ruff: noqa: PLC0415 - the scene and the panels are loaded late

from __future__ import annotations

import numpy as np
import pytest

from MedSegRegLib.errors import Cancelled, EmptyVolume, NodeError, UnknownModel
from MedSegRegLib.mrml.provenance import read_provenance
from MedSegRegLib.progress import Progress

SHIFT_RAS_MM = np.array([6.0, -4.0, 5.0])
OBLIQUE = np.array([[3.6, 0.6, 0.0, -60.0], [-0.6, 3.6, 0.0, -50.0], [0.0, 0.0, 4.0, -55.0], [0.0, 0.0, 0.0, 1.0]])


def head_phantom(size: int = 32) -> np.ndarray:
    """[K, J, I]: a head-like ellipsoid with three unequal parts, so that only one pose fits."""
    k, j, i = np.meshgrid(*[np.linspace(-1, 1, size)] * 3, indexing="ij")
    image = 60.0 * ((i / 0.75) ** 2 + (j / 0.9) ** 2 + (k / 0.8) ** 2 < 1)
    parts = (((0.3, 0.2, 0.1), 0.22, 80.0), ((-0.3, -0.3, 0.2), 0.3, -40.0), ((0.0, 0.4, -0.35), 0.18, 50.0))
    for centre, radius, value in parts:
        image += value * ((i - centre[0]) ** 2 + (j - centre[1]) ** 2 + (k - centre[2]) ** 2 < radius**2)
    return image.astype(np.float32)


@pytest.fixture
def logic(module):
    return module.MedSegRegLogic()


@pytest.fixture
def fixed(scene):
    return volume_node(scene, "baseline", OBLIQUE)


@pytest.fixture
def crop(scene):
    """38 mm wide: small enough that a model of crops takes it as it is."""
    return volume_node(scene, "crop", np.diag([1.2, 1.2, 1.2, 1.0]))


@pytest.fixture
def moving(scene):
    """The same head, lying elsewhere by SHIFT_RAS_MM."""
    shifted = OBLIQUE.copy()
    shifted[:3, 3] += SHIFT_RAS_MM
    return volume_node(scene, "follow-up", shifted)


def volume_node(scene, name: str, ijk_to_ras: np.ndarray):
    import slicer

    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    slicer.util.updateVolumeFromArray(node, head_phantom())
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(ijk_to_ras))
    return node


def node_names(scene) -> set[str]:
    return {scene.GetNthNode(n).GetName() for n in range(scene.GetNumberOfNodes())}


def moved(node, point) -> np.ndarray:
    """Where Slicer takes a point that lies under a transform node."""
    import vtk

    to_world = vtk.vtkGeneralTransform()
    node.GetTransformToWorld(to_world)
    return np.array(to_world.TransformPoint(point))


@pytest.mark.parametrize(("preset", "tolerance_mm"), [("rigid", 0.5), ("deformable", 1.0)])
def test_the_transform_node_brings_the_moving_volume_home(logic, fixed, moving, preset, tolerance_mm):
    transform_node, inverse_node, quality = logic.register(fixed, moving, preset, device="cpu")
    for centre in ([0.0, 0.0, 0.0], [10.0, -8.0, 6.0]):
        there = np.array(centre) + SHIFT_RAS_MM
        assert np.linalg.norm(moved(transform_node, there) - centre) < tolerance_mm
        assert np.linalg.norm(moved(inverse_node, centre) - there) < tolerance_mm
    assert transform_node.GetName() == "follow-up to baseline"
    assert inverse_node.GetName() == "baseline to follow-up"
    assert "follow-up" in quality["sentence"]
    assert read_provenance(transform_node)["sentence"] == quality["sentence"]


def test_a_registration_leaves_both_volumes_as_they_were(logic, fixed, moving):
    logic.register(fixed, moving, "rigid", device="cpu")
    assert fixed.GetParentTransformNode() is None
    assert moving.GetParentTransformNode() is None


def test_a_cancelled_registration_writes_nothing(logic, fixed, moving, scene):
    before = node_names(scene)
    with pytest.raises(Cancelled):
        logic.register(fixed, moving, "rigid", device="cpu", progress=Progress(should_cancel=lambda: True))
    assert node_names(scene) == before


def test_progress_is_told_until_the_end(logic, fixed, moving):
    told = []
    progress = Progress(lambda fraction, message: told.append(fraction))
    logic.register(fixed, moving, "rigid", device="cpu", progress=progress)
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_a_volume_that_was_removed_is_refused(logic, fixed, moving, scene):
    scene.RemoveNode(moving)
    with pytest.raises(NodeError, match="follow-up"):
        logic.register(fixed, moving)


def test_a_volume_without_voxels_is_refused_and_the_scene_stays_as_it_was(logic, fixed, scene):
    empty = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
    before = node_names(scene)
    with pytest.raises(EmptyVolume):
        logic.register(fixed, empty)
    with pytest.raises(EmptyVolume):
        logic.segment(empty, "hippocampus-mr")
    assert node_names(scene) == before


def test_an_unknown_model_is_refused(logic, fixed, scene):
    before = node_names(scene)
    with pytest.raises(UnknownModel):
        logic.segment(fixed, "no-such-model", device="cpu")
    assert node_names(scene) == before


def test_a_segmentation_is_named_after_its_input_and_tells_how_it_was_made(logic, crop):
    if "hippocampus-mr" not in logic.models():
        pytest.skip("the model hippocampus-mr is not shipped yet")
    node = logic.segment(crop, "hippocampus-mr", device="cpu")
    assert node.GetName() == "crop hippocampus-mr"
    assert node.GetSegmentation().GetNumberOfSegments() == 2
    facts = read_provenance(node)
    assert facts["model"].startswith("hippocampus-mr ")
    assert facts["input"] == "crop"
    assert all(isinstance(text, str) for text in facts["warnings"])


def test_a_segmentation_can_be_added_to_another_without_replacing_its_segments(logic, crop):
    if "hippocampus-mr" not in logic.models():
        pytest.skip("the model hippocampus-mr is not shipped yet")
    first = logic.segment(crop, "hippocampus-mr", device="cpu")
    assert logic.segment(crop, "hippocampus-mr", first, device="cpu") is first
    assert first.GetSegmentation().GetNumberOfSegments() == 4


def test_models_are_listed_without_torch_and_by_their_names(logic, module):
    folders = sorted(path.parent.name for path in module.LIBRARY.glob("models/*/model.json"))
    assert list(logic.models()) == folders


def test_all_devices_of_the_window_are_known_to_the_library(module):
    from MedSegRegLib.device import DEVICE_NAMES
    from MedSegRegPanels.parameters import Device

    assert {device.value for device in Device} == set(DEVICE_NAMES)
