"""The Slicer module without the Slicer application: real MRML (slicer-core), real Qt (PySide6, offscreen), real jobs.

What Slicer itself adds is stood in for by the package ``standin``, which refuses every name that a running Slicer did
not have. Fixtures:

``scene``        a fresh vtkMRMLScene, also ``slicer.mrmlScene``
``module``       MedSegReg.py, imported as Slicer imports it; needs no Qt
``desktop``      ``qt``, ``ctk``, ``slicer.app``, a main window and three slice views on the scene. It knows what the
                 person saw and answers for the person: ``desktop.messages`` (texts of message boxes),
                 ``desktop.statuses`` (of the status bar), ``desktop.agrees = False`` (Cancel instead of OK),
                 ``desktop.slot_errors`` (exceptions in slots; one that is left there fails the test)
``window``       the module opened on the desktop, 350 px wide: ``window.widget`` (MedSegRegWidget),
                 ``window.control(name)`` (any named control of any panel), ``window.open(name)`` (unfolds the section
                 ``<name>CollapsibleButton``), ``window.exit()`` and ``window.enter()`` (another module and back)
``at_work``      the same with a store that holds the tiny random model "balls", and a real child process that stays
                 warm for all tests of a file: ``at_work.run(button)`` clicks and waits until the job has ended
``click``        ``click(button)``: as a person would; refuses a control that is disabled, hidden or folded away
``wait_until``   ``wait_until(condition, seconds)``: Qt's event loop runs until the condition holds
``longest_block`` ``longest_block()``: seconds for which the event loop stood still, at most, since it was asked last
                 (in ``click`` and ``wait_until``; a timer of 10 ms looks; waiting for a core is not counted)
``grab``         ``grab(widget, path)``: a picture of a control, laid out 350 px wide

Habits of Slicer to know: ``connect`` of an unknown signal gives False and does not raise; a slot's exception does not
stop Qt; ``parameterNode.connectGui(ui)`` returns None, so use ``connectParametersToGui({field: widget})`` where the
connection must end, and keep one wrapper for one node: each connecting adds an observer to the node for good.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

import pytest

from small_training import small_spec, write_random_model

REPOSITORY = Path(__file__).parents[2]
MODULE = REPOSITORY / "MedSegReg"


@pytest.fixture
def scene():
    """A fresh real MRML scene, also as slicer.mrmlScene."""
    from MedSegRegLib.mrml.headless import new_scene  # noqa: PLC0415 - starts the runtime

    scene = new_scene()
    yield scene
    scene.Clear(True)


def forget(*packages: str) -> None:
    """The next import loads them anew."""
    for name in [name for name in sys.modules if name.split(".")[0] in packages]:
        del sys.modules[name]


@pytest.fixture
def scripted_modules(monkeypatch):
    """The submodules of ``slicer`` that slicer-core lacks."""
    import slicer  # noqa: PLC0415 - heavy
    from standin.scripted_modules import submodules  # noqa: PLC0415 - imports slicer

    for name, submodule in submodules().items():
        monkeypatch.setitem(sys.modules, f"slicer.{name}", submodule)
        monkeypatch.setattr(slicer, name, submodule, raising=False)


@pytest.fixture
def module(monkeypatch, scene, scripted_modules):
    """The module file, imported as Slicer imports it."""
    forget("MedSegReg", "MedSegRegPanels")
    yield importlib.import_module("MedSegReg")
    forget("MedSegReg", "MedSegRegPanels")


@pytest.fixture(scope="session")
def qt_application():
    """Qt without a screen."""
    os.environ["QT_QPA_PLATFORM"] = "offscreen"
    try:
        from PySide6 import QtWidgets  # noqa: PLC0415 - its system libraries may be missing
    except ImportError as error:
        pytest.skip(f"Qt cannot start: {error}")
    return QtWidgets.QApplication.instance() or QtWidgets.QApplication(["Slicer"])


@pytest.fixture
def desktop(qt_application, scene, scripted_modules, monkeypatch, tmp_path, capfd):
    """Slicer's window around the module."""
    from standin.desktop import Desktop  # noqa: PLC0415 - needs Qt

    made = Desktop(scene, tmp_path, monkeypatch)
    yield made
    made.close()
    assert "Traceback" not in capfd.readouterr().err, "an observer failed; VTK only prints that"
    for error in made.slot_errors:
        raise error


@pytest.fixture
def window(desktop, module):
    """The module opened on the desktop."""
    from standin.desktop import Window  # noqa: PLC0415 - needs Qt

    opened = Window(desktop, module, MODULE / "MedSegReg.py")
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def jobs_folder(tmp_path_factory):
    """Where the warm child's files lie."""
    return tmp_path_factory.mktemp("jobs")


@pytest.fixture(scope="module")
def warm_jobs(tmp_path_factory, jobs_folder):
    """One child process for all tests of a file, and a store with the model "balls"."""
    from MedSegRegLib.jobs import Supervisor  # noqa: PLC0415 - see the others

    store = tmp_path_factory.mktemp("store")
    write_random_model(store / "balls", small_spec())
    with pytest.MonkeyPatch.context() as monkeypatch, Supervisor(folder=jobs_folder) as jobs:
        monkeypatch.setenv("MEDSEGREG_MODELS", str(store))
        yield jobs


@pytest.fixture
def at_work(warm_jobs, window, event_loop):
    """The window with a child process that is warm."""
    from stories import Borrowed  # noqa: PLC0415 - imports slicer

    runner = window.widget.runner
    runner._makeSupervisor = lambda: Borrowed(warm_jobs)

    def run(button, seconds=120):
        event_loop.click(button)
        event_loop.wait_until(lambda: not runner.busy, seconds)

    window.run = run
    return window


@pytest.fixture
def event_loop(qt_application):
    from standin.event_loop import EventLoop  # noqa: PLC0415 - needs Qt

    return EventLoop()


@pytest.fixture
def click(event_loop):
    return event_loop.click


@pytest.fixture
def wait_until(event_loop):
    return event_loop.wait_until


@pytest.fixture
def longest_block(event_loop):
    return event_loop.longest_block


@pytest.fixture
def grab(event_loop):
    return event_loop.grab
