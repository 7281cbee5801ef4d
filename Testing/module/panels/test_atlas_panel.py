"""The section Atlas: labelled volumes of the scene segment another volume."""
# ruff: noqa: PLC0415 - the scene and the panels are loaded late

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture
def parameters(window):
    return window.widget.panels["Atlas"].parameters


@pytest.fixture
def atlases(scene, studies):
    """The second study with a segmentation, and with a label map of the same structure; the first is the image."""
    import slicer

    from MedSegRegLib.image import Labels, Structure
    from MedSegRegLib.mrml.segmentations import write_segmentation
    from MedSegRegLib.mrml.volumes import geometry_of_node

    array = np.zeros((32, 32, 32), np.int16)
    array[12:20, 12:20, 14:22] = 1
    grid = geometry_of_node(studies[1])
    segmentation = write_segmentation(
        Labels.from_array(array, grid, (Structure(1, "Box"),)), scene, name="Drawing", reference=studies[1]
    )
    label_map = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "Map")
    slicer.util.updateVolumeFromArray(label_map, array)
    label_map.CopyOrientation(studies[1])
    return segmentation, label_map


def choose_pair(window, volume, labels):
    window.control("atlasVolumeSelector").setCurrentNode(volume)
    window.control("atlasLabelsSelector").setCurrentNode(labels)


def add(window, click, volume, labels):
    choose_pair(window, volume, labels)
    click(window.control("atlasAddButton"))


def listed(window) -> list[list[str]]:
    table = window.control("atlasTable")
    return [[table.item(row, column).text() for column in range(2)] for row in range(table.rowCount)]


def test_atlases_are_added_to_a_list_and_taken_out_of_it(panels, studies, atlases, click):
    panels.open("atlas")
    button = panels.control("atlasAddButton")
    assert "Select an atlas" in button.toolTip
    for labels in atlases:
        add(panels, click, studies[1], labels)
    assert listed(panels) == [["T2", "Drawing"], ["T2", "Map"]]
    choose_pair(panels, studies[1], atlases[0])
    assert not button.enabled
    assert "already" in button.toolTip
    remove = panels.control("atlasRemoveButton")
    assert not remove.enabled
    panels.control("atlasTable").setCurrentCell(0, 0)
    click(remove)
    assert listed(panels) == [["T2", "Map"]]


def test_the_button_waits_for_an_image_and_an_atlas(panels, studies, atlases, click):
    panels.open("atlas")
    button, image = panels.control("atlasButton"), panels.control("atlasImageSelector")
    assert "volume to segment" in button.toolTip
    image.setCurrentNode(studies[0])
    assert "Add an atlas" in button.toolTip
    add(panels, click, studies[1], atlases[0])
    assert button.enabled
    image.setCurrentNode(studies[1])
    assert "one of the atlases" in button.toolTip


def test_an_atlas_whose_node_was_removed_leaves_the_list(panels, studies, atlases, scene, click):
    panels.open("atlas")
    for labels in atlases:
        add(panels, click, studies[1], labels)
    scene.RemoveNode(atlases[0])
    panels.exit()
    panels.enter()
    panels.widget.updatePanels()
    assert listed(panels) == [["T2", "Map"]]


def test_the_list_is_saved_with_the_scene(panels, parameters, studies, atlases, scene, click, tmp_path):
    from MedSegRegLib.mrml.headless import load_scene, save_scene

    panels.open("atlas")
    add(panels, click, studies[1], atlases[1])
    parameters.atlasLabels = atlases[1]
    save_scene(scene, tmp_path / "scene.mrb")
    again = load_scene(tmp_path / "scene.mrb")
    node = again.GetSingletonNode("MedSegReg", "vtkMRMLScriptedModuleNode")
    read = type(parameters)(node)
    assert [one.GetName() for one in (*read.atlasVolumes, *read.atlasDrawings, read.atlasLabels)] == [
        "T2",
        "Map",
        "Map",
    ]
    again.Clear(True)


def test_a_click_segments_by_a_segmentation_and_a_label_map(at_work, parameters, studies, atlases, scene, click):
    from MedSegRegLib.mrml.provenance import read_provenance
    from MedSegRegLib.mrml.segmentations import labels_from_segmentation
    from MedSegRegLib.mrml.volumes import geometry_of_node
    from MedSegRegPanels.registration_presets import PresetOrAutomatic

    at_work.open("atlas")
    at_work.control("atlasImageSelector").setCurrentNode(studies[0])
    for labels in atlases:
        add(at_work, click, studies[1], labels)
    parameters.atlasPreset, parameters.atlasAgreement = PresetOrAutomatic.RIGID, True
    at_work.run(at_work.control("atlasButton"), seconds=400)
    assert at_work.desktop.messages == []
    node = scene.GetFirstNodeByName("T1 by atlas")
    labels = labels_from_segmentation(node, geometry_of_node(studies[0]))
    expected = np.zeros((32, 32, 32), bool)
    expected[12:20, 12:20, 12:20] = True
    box = labels.numpy() == 1
    assert 2 * (box & expected).sum() / (box.sum() + expected.sum()) > 0.95
    assert labels.structures[0].name == "Box"
    assert read_provenance(node)["atlases"] == ["T2", "T2"]
    agreement = scene.GetFirstNodeByName("T1 by atlas agreement")
    assert agreement.GetImageData().GetScalarRange()[1] == 1.0
    assert "structures written" in at_work.control("atlasLabel").text


def test_everything_fits_into_350_pixels(panels, studies, atlases, click):
    section = panels.open("atlas")
    add(panels, click, studies[1], atlases[0])
    assert section.minimumSizeHint.width() <= 342
