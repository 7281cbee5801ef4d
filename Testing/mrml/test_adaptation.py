"""From a segmentation that was corrected in a scene to an adapted model, whose result goes back into the scene."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from MedSegRegLib.errors import DatasetError, NodeError
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Image, Labels, Structure
from MedSegRegLib.mrml.corrections import correction_from_nodes
from MedSegRegLib.mrml.segmentations import labels_from_segmentation, write_segmentation
from MedSegRegLib.mrml.volumes import image_from_node, node_from_image
from MedSegRegLib.segment import load_model, segment
from MedSegRegLib.train.adapt import adapt_model
from MedSegRegLib.train.fine_tune import FineTuning
from small_training import ball

OBLIQUE = Rotation.from_euler("xyz", (10, 20, 30), degrees=True).as_matrix()
GRID = Geometry.from_spacing((24, 24, 24), (1.0, 1.0, 1.0), (-20.0, 12.0, 5.0), OBLIQUE)
BALL = Structure(1, "ball 1", (0.2, 0.4, 0.6))


@pytest.fixture
def a_volume(scene):
    return node_from_image(Image.from_array(ball(3)[0], GRID), scene, "MR of somebody")


def corrected(scene, volume, name="ball 1"):
    """A wrong segmentation, of which the user has put the segment right."""
    wrong = Labels.from_array(np.roll(ball(3)[1], 9, axis=0), GRID, (Structure(1, name),))
    node = write_segmentation(wrong, scene, name="result", reference=volume)
    right = Labels.from_array(ball(3)[1], GRID, (Structure(1, name),))
    return write_segmentation(right, scene, name="result", node=node, replace=(name,))


def test_a_model_is_adapted_to_a_segmentation_that_was_corrected_in_the_scene(
    scene, a_volume, a_model_folder, a_linear_parent, tmp_path
):
    a_volume.SetAndObserveTransformNodeID(a_linear_parent.GetID())
    segmentation = corrected(scene, a_volume)
    segmentation.SetAndObserveTransformNodeID(a_linear_parent.GetID())
    case = correction_from_nodes(a_volume, segmentation)
    np.testing.assert_array_equal(case.labels.numpy(), ball(3)[1])
    settings = FineTuning(steps=25, learning_rate=4e-2)
    result = adapt_model(a_model_folder, [case], tmp_path / "out", settings, name="mine", device="cpu")
    assert result.spec is not None, result.verdict
    assert "half of the same image" in result.verdict
    assert result.after > result.before + 0.1

    (tmp_path / "mine").symlink_to(tmp_path / "out" / "model")
    found = segment(image_from_node(a_volume), load_model(tmp_path / "mine")).labels
    node = write_segmentation(found, scene, name="by the adapted model", reference=a_volume)
    voxels, mask = labels_from_segmentation(node, case.image.geometry).numpy() > 0, ball(3)[1] > 0
    assert 2 * (voxels & mask).sum() / (voxels.sum() + mask.sum()) == pytest.approx(result.seen[1], abs=1e-6)


def test_a_segment_that_the_model_does_not_have_is_refused_by_its_name(scene, a_volume, a_model_folder, tmp_path):
    case = correction_from_nodes(a_volume, corrected(scene, a_volume, "kidney"))
    with pytest.raises(DatasetError, match="no structure kidney"):
        adapt_model(a_model_folder, [case], tmp_path / "out", device="cpu")


def test_refuses_other_nodes(scene, a_volume):
    with pytest.raises(NodeError):
        correction_from_nodes(a_volume, a_volume)
