"""A Slicer that was just started, as far as it can be had without Slicer: run by test_window_fresh.py in a process.

Opens the module, segments a ball by a click, and prints as JSON what came out, for how long the event loop stood still,
and whether torch was imported into the process of the window.

    python fresh_window.py FOLDER
"""
# ruff: noqa: PLC0415 - the paths must be set before

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

HERE = Path(__file__).parent
LOGICS = {
    "Colors": "vtkMRMLColorLogic",
    "Volumes": "vtkSlicerVolumesLogic",
    "Segmentations": "vtkSlicerSegmentationsModuleLogic",
    "SubjectHierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
}


def start_scene():
    """``slicer.mrmlScene`` and ``slicer.modules``; not by the library's own runtime, which needs torch."""
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


def add_head(scene):
    import numpy as np
    import slicer

    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "head")
    slicer.util.updateVolumeFromArray(node, np.random.default_rng(0).normal(100, 10, (24, 24, 24)).astype(np.float32))
    return node


def main() -> None:
    """Click once."""
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
        add_head(scene)
        window.enter()
        selector = window.control("modelSelector")
        selector.currentIndex = selector.findData("balls")
        events.click(window.control("segmentButton"))
        before = events.longest_block()
        events.wait_until(lambda: not window.widget.runner.busy, 240)
        told = {
            "segmentations": [node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode")],
            "messages": desktop.messages,
            "faults": [repr(error) for error in desktop.slot_errors],
            "torch": "torch" in sys.modules,
            "click": before,
            "longest_block": events.longest_block(),
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
