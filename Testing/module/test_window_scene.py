"""The window and its scene: settings are saved and come back, and many runs leave nothing behind."""

from __future__ import annotations

import enum
import sys
import typing
from pathlib import Path

import numpy as np
import pytest
import slicer
from standin.parameter_node import WithinRange
from stories import add_ball, add_volume, child_processes, memory_bytes, observers

from MedSegRegLib.mrml.headless import save_scene

PANEL_WIDTH = 350


def all_parameters(window):
    """(wrapper of a panel's parameters, field) for every setting of the window."""
    for panel in window.widget.panels.values():
        for field in panel.parameters.allParameters.values() if panel.parameters else ():
            yield panel.parameters, field


def another_value(field, scene):
    """Something else than the default; None for a text, which only its panel understands."""
    if isinstance(field.kind, enum.EnumMeta):
        return next(choice for choice in reversed(field.kind) if choice is not field.default)
    if field.kind is bool:
        return not field.default
    if field.kind in (int, float):
        within = field.note(WithinRange)
        return field.default + 1 if within is None else (field.default + within.maximum) / 2
    kind = typing.get_args(field.kind)[1] if typing.get_origin(field.kind) is typing.Union else field.kind
    if not hasattr(kind, "GetClassName"):
        return None
    if kind is slicer.vtkMRMLScalarVolumeNode:
        return add_volume(scene, np.arange(27).reshape(3, 3, 3), field.name)
    return scene.AddNewNodeByClass(kind.__name__, field.name)


def shown(value):
    return value.GetName() if hasattr(value, "GetName") else value


def test_a_saved_scene_reopens_with_all_settings(window, scene, tmp_path):
    wanted = {}
    for parameters, field in all_parameters(window):
        value = another_value(field, scene)
        if value is not None:
            setattr(parameters, field.name, value)
            wanted[field.name] = shown(value)
    assert len(wanted) > 20
    save_scene(scene, tmp_path / "study.mrml")
    scene.Clear()
    assert {field.name: shown(getattr(p, field.name)) for p, field in all_parameters(window)}.items() != wanted.items()
    scene.SetURL(str(tmp_path / "study.mrml"))
    assert scene.Connect()
    found = {field.name: shown(getattr(parameters, field.name)) for parameters, field in all_parameters(window)}
    assert {name: found[name] for name in wanted} == wanted


def test_the_controls_show_the_settings_of_the_scene_that_was_opened(window, scene, tmp_path):
    volume = add_ball(scene)
    window.control("inputVolumeSelector").setCurrentNode(volume)
    window.control("confidenceCheckBox").checked = True
    save_scene(scene, tmp_path / "study.mrml")
    scene.Clear()
    assert window.control("inputVolumeSelector").currentNode() is None
    assert not window.control("confidenceCheckBox").checked
    scene.SetURL(str(tmp_path / "study.mrml"))
    assert scene.Connect()
    assert window.control("inputVolumeSelector").currentNode().GetName() == "head"
    assert window.control("confidenceCheckBox").checked


def test_every_section_fits_into_350_pixels(window):
    frame = window.parent.layout().itemAt(0).widget()
    for name in window.widget.panels:
        window.open(name.lower())
        assert frame.minimumSizeHint().width() <= PANEL_WIDTH, name


def test_coming_and_going_leaves_no_observers(window, scene):
    node = window.widget.logic.getParameterNode()
    node = getattr(node, "parameterNode", node)
    window.exit()
    window.enter()
    before = observers(scene, node)
    for _ in range(100):
        window.exit()
        window.enter()
    assert observers(scene, node) == before


def test_a_closed_window_leaves_no_observers(desktop, module, scene):
    from standin.desktop import Window  # noqa: PLC0415 - needs the desktop

    path = Path(module.__file__)
    before = observers(scene)
    Window(desktop, module, path).close()
    assert observers(scene) == before


def test_a_window_that_is_closed_during_a_run_leaves_no_process(window, scene, click, wait_until, an_empty_store):
    before = child_processes()
    window.control("inputVolumeSelector").setCurrentNode(add_ball(scene))
    click(window.control("segmentButton"))
    wait_until(lambda: child_processes() - before, 60)
    window.widget.runner.close()
    assert child_processes() == before


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(sys.platform != "linux", reason="processes and memory are read from /proc")
def test_a_hundred_runs_leave_nothing_behind(at_work, jobs_folder, scene):
    at_work.control("inputVolumeSelector").setCurrentNode(add_ball(scene, "head", 16))
    selector = at_work.control("modelSelector")
    selector.currentIndex = selector.findData("balls")
    volume = at_work.control("inputVolumeSelector").currentNode()
    node = at_work.widget.logic.getParameterNode()

    def left():
        files = sorted(jobs_folder.rglob("*"))
        return observers(scene, volume, getattr(node, "parameterNode", node)), child_processes(), files

    def run_once():
        at_work.run(at_work.control("segmentButton"))
        made = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
        assert len(made) == 1
        scene.RemoveNode(made[0])

    for _ in range(20):
        run_once()
    before, memory = left(), memory_bytes()
    for _ in range(80):
        run_once()
    assert left() == before
    assert memory_bytes() < 1.05 * memory
