from __future__ import annotations

import pytest

from MedSegRegLib.errors import NodeError
from MedSegRegLib.mrml.headless import load_scene, save_scene
from MedSegRegLib.mrml.provenance import read_provenance, write_provenance

FACTS = {
    "model": "hippocampus-mr",
    "sha256": "0f" * 32,
    "seconds": 12.5,
    "steps": ["tile 64", "CPU"],
    "reduced": None,
    "note": "a;b:c=d & <x> \"quoted\" 'é' %3B\nsecond line",
}


def test_provenance_survives_a_saved_scene(scene, a_volume_node, tmp_path):
    write_provenance(a_volume_node, FACTS)
    assert read_provenance(a_volume_node) == FACTS
    assert a_volume_node.GetAttribute("MedSegReg.model") == '"hippocampus-mr"'
    save_scene(scene, tmp_path / "scene.mrb")
    loaded = load_scene(tmp_path / "scene.mrb").GetFirstNodeByName("T1 of somebody")
    assert read_provenance(loaded) == FACTS


def test_nothing_is_written_when_one_fact_cannot_be(a_volume_node):
    with pytest.raises(TypeError):
        write_provenance(a_volume_node, {"good": 1, "bad": object()})
    assert read_provenance(a_volume_node) == {}


def test_refuses_a_removed_node(scene, a_volume_node):
    scene.RemoveNode(a_volume_node)
    with pytest.raises(NodeError):
        write_provenance(a_volume_node, FACTS)
