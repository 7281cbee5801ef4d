"""A Slicer that was just started, as far as it can be had without Slicer: run by test_window_fresh.py in a process.

Opens the module, runs the job of each section by a click, and prints as JSON what came out, for how long the event loop
stood still, and which heavy packages were imported into the process of the window.

    python fresh_window.py FOLDER
"""
# ruff: noqa: PLC0415 - the paths must be set before

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from time import perf_counter
from types import SimpleNamespace

HERE = Path(__file__).parent
LOGICS = {
    "Colors": "vtkMRMLColorLogic",
    "Volumes": "vtkSlicerVolumesLogic",
    "Segmentations": "vtkSlicerSegmentationsModuleLogic",
    "Transforms": "vtkSlicerTransformLogic",
    "Markups": "vtkSlicerMarkupsLogic",
    "Tables": "vtkSlicerTablesLogic",
    "SubjectHierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
}


def start_scene():
    """``slicer.mrmlScene`` and ``slicer.modules``; not by the library's own runtime, which reads files with torch."""
    import slicer

    scene, application = slicer.vtkMRMLScene(), slicer.vtkSlicerApplicationLogic()
    application.SetMRMLScene(scene)
    logics = {name: getattr(slicer, kind)() for name, kind in LOGICS.items()}
    for name, logic in logics.items():
        logic.SetMRMLApplicationLogic(application)
        logic.SetMRMLScene(scene)
        application.SetModuleLogic(name, logic)
    slicer.mrmlScene = scene
    slicer.modules = SimpleNamespace(
        application=application,
        **{name.lower(): SimpleNamespace(logic=lambda logic=logic: logic) for name, logic in logics.items()},
    )
    return scene


def add_studies(scene):
    """A head of random tissue, and the same one moved."""
    import numpy as np
    import slicer

    tissue = np.random.default_rng(0).normal(100, 30, (12, 12, 12)).repeat(2, 0).repeat(2, 1).repeat(2, 2)
    for name, shift in (("head", 0), ("later", 1)):
        node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
        slicer.util.updateVolumeFromArray(node, np.roll(tissue, shift, axis=2).astype(np.float32))
        node.SetSpacing(2.0, 2.0, 2.0)


def segment(window, node):
    window.control("inputVolumeSelector").setCurrentNode(node("head"))
    selector = window.control("modelSelector")
    selector.currentIndex = selector.findData("balls")
    return "segmentButton", "head balls"


def register(window, node):
    parameters = window.widget.panels["Register"].parameters
    parameters.registerFixed, parameters.registerMoving = node("head"), node("later")
    parameters.registerPreset = type(parameters.registerPreset)("quick")
    parameters.registerFixedSegments = parameters.registerMovingSegments = node("head balls")
    parameters.registerResample = parameters.registerJacobian = True
    parameters.registerPlace = False  # the segments lie under it then, and cannot be compared as they are
    return "registerButton", "later to head volume change"


def correct(window, node):
    parameters = window.widget.panels["Correct"].parameters
    scene, parameters.correctTransform = node("head").GetScene(), node("later to head")
    parameters.correctIgnore = node("head balls")
    for side in ("Fixed", "Moving"):
        points = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", side)
        points.AddControlPointWorld((20.0, 20.0, 20.0))
        setattr(parameters, f"correct{side}Points", points)
    return "correctButton", "later to head quality"


def evaluate(window, node):
    parameters, second = window.widget.panels["Evaluate"].parameters, node("head balls")
    first = second.GetScene().CopyNode(second)
    first.SetName("by hand")
    parameters.evaluateReference, parameters.evaluateCompared = first, second
    return "evaluateButton", "head balls against by hand"


def adapt(window, node):
    parameters = window.widget.panels["Adapt"].parameters
    parameters.adaptModel, parameters.adaptCases = "balls", [node("head balls")]
    return "adaptButton", "balls adapted to head balls"


def transform(window, node):
    window.widget.panels["Transform"].parameters.contractTransform = node("later to head")
    return "contractButton", "Check of later to head"


def carry(window, node):
    parameters = window.widget.panels["Carry"].parameters
    parameters.carrySource, parameters.carryTarget = node("head"), node("later")
    parameters.carrySegmentation = node("head balls")
    parameters.carryPreset = type(parameters.carryPreset)("rigid")
    return "carryButton", "head balls on later"


def atlas(window, node):
    parameters = window.widget.panels["Atlas"].parameters
    parameters.atlasImage = node("later")
    parameters.atlasVolumes, parameters.atlasDrawings = [node("head")], [node("head balls")]
    parameters.atlasPreset = type(parameters.atlasPreset)("rigid")
    return "atlasButton", "later by atlas"


def align(window, node):
    parameters = window.widget.panels["Align"].parameters
    parameters.alignVolume1, parameters.alignVolume2 = node("head"), node("later")
    return "alignButton", "later on head"


def joint(window, node):
    parameters = window.widget.panels["Joint"].parameters
    parameters.jointFixed, parameters.jointMoving = node("head"), node("later")
    parameters.jointFixedLabels, parameters.jointMovingLabels = node("head balls"), node("head balls on later")
    parameters.jointPreset = type(parameters.jointPreset)("quick")
    return "jointButton", "head proposal"


def followup(window, node):
    parameters = window.widget.panels["Followup"].parameters
    parameters.followupFirst, parameters.followupSecond = node("head"), node("later")
    parameters.followupFirstLabels, parameters.followupSecondLabels = node("head balls"), node("head balls on later")
    parameters.followupMotion = type(parameters.followupMotion)("rigid")
    return "followupButton", "head to later changes"


STORIES = (segment, register, correct, transform, carry, atlas, align, joint, followup, evaluate, adapt)
"""Each sets its section up, and gives the button to click and the name of a node that comes of it."""
HEAVY = ("torch", "SimpleITK", "skimage", "pydantic", "safetensors")


def main() -> None:
    """Click once in each section."""
    import pytest
    import slicer
    from PySide6 import QtWidgets
    from standin.scripted_modules import submodules

    application = QtWidgets.QApplication(["Slicer"])
    scene = start_scene()
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name, submodule in submodules().items():
            monkeypatch.setitem(sys.modules, f"slicer.{name}", submodule)
            monkeypatch.setattr(slicer, name, submodule, raising=False)
        from standin.desktop import Desktop, Window
        from standin.event_loop import EventLoop

        desktop, events = Desktop(scene, Path(sys.argv[1]), monkeypatch), EventLoop()
        window = Window(desktop, importlib.import_module("MedSegReg"), HERE.parents[1] / "MedSegReg" / "MedSegReg.py")
        add_studies(scene)
        window.enter()
        told = {}
        for story in STORIES:
            window.open(story.__name__)
            button, name = story(window, scene.GetFirstNodeByName)
            begun = perf_counter()
            events.longest_block()
            events.click(window.control(button))
            click = events.longest_block()
            events.wait_until(lambda: not window.widget.runner.busy, 240)
            told[story.__name__] = {
                "came": scene.GetFirstNodeByName(name) is not None,
                "messages": [*desktop.messages],
                "faults": [repr(error) for error in desktop.slot_errors],
                "imported": [package for package in HEAVY if package in sys.modules],
                "click": click,
                "longest_block": events.longest_block(),
                "seconds": perf_counter() - begun,
            }
        window.close()
        desktop.close()
    sys.stdout.write(json.dumps(told))
    sys.stdout.flush()
    del application
    os._exit(0)  # Qt and VTK are not taken apart in an order that both like


if __name__ == "__main__":
    sys.path[:0] = [str(HERE), str(HERE.parents[1] / "MedSegReg")]
    os.environ["QT_QPA_PLATFORM"] = "offscreen"
    main()
