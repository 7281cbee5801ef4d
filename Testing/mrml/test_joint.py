"""What two studies learned from each other, as nodes of a real scene: named after them, and saved with it."""

from __future__ import annotations

import numpy as np
import pytest

from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Image, Labels, Structure
from MedSegRegLib.mrml.headless import load_scene, save_scene
from MedSegRegLib.mrml.joint import StudyFindings, write_joint
from MedSegRegLib.mrml.provenance import read_provenance
from MedSegRegLib.mrml.review_links import REVIEWED
from MedSegRegLib.mrml.segmentations import labels_from_segmentation
from MedSegRegLib.mrml.volumes import image_from_node, node_from_image
from MedSegRegLib.transform import Affine, Transform

GRID = Geometry.from_spacing((12, 12, 12), (2.0, 2.0, 2.0))
COLUMNS = {"structure": ["Box"], "Dice, own and carried": [0.8]}


def box(last: int) -> Labels:
    array = np.zeros(GRID.shape_kji, np.uint8)
    array[3:9, 3:9, 3:last] = 1
    return Labels.from_array(array, GRID, (Structure(1, "Box"),))


@pytest.fixture
def written(scene):
    scene.SetUndoOn()
    moved = np.eye(4)
    moved[0, 3] = 5.0
    way, back = Transform((Affine(moved),)), Transform((Affine(moved).inverse(),))
    random = np.random.default_rng(1)
    studies = [
        StudyFindings(
            node_from_image(Image.from_array(random.random(GRID.shape_kji), GRID), scene, name),
            box(9),
            box(8),
            Image.from_array((box(9).numpy() != box(7).numpy()) * 2.0, GRID),
            COLUMNS,
        )
        for name in ("Before", "After")
    ]
    return write_joint(*studies, way, back, {"sentence": "It fits."})


def test_each_study_gets_its_proposal_its_map_and_its_table(scene, written):
    for nodes, name in zip(written, ("Before", "After"), strict=True):
        np.testing.assert_array_equal(labels_from_segmentation(nodes.proposal, GRID).numpy(), box(8).numpy())
        np.testing.assert_array_equal(labels_from_segmentation(nodes.carried, GRID).numpy(), box(9).numpy())
        assert nodes.proposal.GetName() == f"{name} proposal"
        assert nodes.proposal.GetDisplayNode().GetVisibility()
        assert not nodes.carried.GetDisplayNode().GetVisibility()
        assert image_from_node(nodes.disagreement).numpy().max() == 2.0
        display = nodes.disagreement.GetDisplayNode()
        assert display.GetApplyThreshold()
        assert display.GetLowerThreshold() > 0
        assert nodes.table.GetTable().GetNumberOfRows() == 1
    assert written[0].carried.GetName() == "Before carried from After"
    assert scene.GetFirstNodeByName("After to Before") is not None
    assert scene.GetFirstNodeByName("Before to After (inverse)") is not None


def test_a_saved_scene_still_knows_what_a_table_is_about(scene, written, tmp_path):
    save_scene(scene, tmp_path / "joint.mrb")
    again = load_scene(tmp_path / "joint.mrb")
    table = again.GetFirstNodeByName("After agreement")
    assert table.GetNodeReference(REVIEWED).GetName() == "After proposal"
    assert read_provenance(table)["sentence"] == "It fits."
    again.Clear(True)
