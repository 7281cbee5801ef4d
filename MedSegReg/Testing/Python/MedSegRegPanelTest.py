"""Run by ctest inside a Slicer build: the module opens, and its controls follow the scene's parameters."""
# ruff: noqa: PT009 - run by unittest inside Slicer, not by pytest

import unittest

import slicer


class MedSegRegPanelTest(unittest.TestCase):
    def setUp(self):
        slicer.mrmlScene.Clear()
        slicer.util.selectModule("MedSegReg")
        self.widget = slicer.modules.MedSegRegWidget
        self.panels = self.widget.panels

    def test_each_section_has_its_panel(self):
        names = ["Segment", "Register", "Correct", "Evaluate", "Adapt", "Models", "Compute"]
        self.assertEqual(list(self.panels), names)

    def test_every_control_has_a_tooltip(self):
        kinds = ("QPushButton", "QComboBox", "QCheckBox", "qMRMLNodeComboBox", "ctkMenuButton", "QListWidget")
        for panel in self.panels.values():
            for name, control in vars(panel.ui).items():
                if getattr(control, "className", str)() in kinds and not name.startswith("qt_"):
                    self.assertTrue(control.toolTip, name)

    def test_the_button_waits_for_a_volume(self):
        ui = self.panels["Segment"].ui
        self.assertFalse(ui.segmentButton.enabled)
        ui.inputVolumeSelector.setCurrentNode(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode"))
        self.assertTrue(ui.segmentButton.enabled)

    def test_choices_are_kept_in_the_scene(self):
        self.panels["Segment"].ui.confidenceCheckBox.checked = True
        node = self.widget.logic.getParameterNode()
        self.assertIn("true", node.GetParameter("segmentConfidence").lower())
