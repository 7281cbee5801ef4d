"""Run by ctest inside a Slicer build: the module opens, and its controls follow the scene's parameters."""
# ruff: noqa: PT009 - run by unittest inside Slicer, not by pytest

import unittest

import slicer


class MedSegRegPanelTest(unittest.TestCase):
    def setUp(self):
        slicer.mrmlScene.Clear()
        slicer.util.selectModule("MedSegReg")
        self.widget = slicer.modules.MedSegRegWidget

    def test_every_control_has_a_tooltip(self):
        for name in ("inputVolume", "model", "fixedVolume", "movingVolume", "preset", "modality", "device"):
            self.assertTrue(getattr(self.widget.ui, f"{name}Selector").toolTip, name)

    def test_buttons_wait_for_their_inputs(self):
        ui = self.widget.ui
        self.assertFalse(ui.segmentButton.enabled)
        self.assertFalse(ui.registerButton.enabled)
        ui.fixedVolumeSelector.setCurrentNode(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode"))
        ui.movingVolumeSelector.setCurrentNode(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode"))
        self.assertTrue(ui.registerButton.enabled)

    def test_choices_are_kept_in_the_scene(self):
        self.widget.ui.presetSelector.currentIndex = 0
        self.assertEqual(self.widget.logic.getParameterNode().preset.value, "rigid")
