"""The runner: what the window shows of a job, and what becomes of jobs that nobody waits for any more."""
# ruff: noqa: PLC0415 - the panels are imported once the desktop stands

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from scripted_jobs import ScriptedJobs

from MedSegRegLib.errors import Cancelled, NodeError, WorkerLost
from MedSegRegLib.jobs import Done, Failed, Intermediate, JobResult, Progressed, Started

HERE = Path(__file__).parent
MODULE = HERE.parents[1] / "MedSegReg"
RESULT = JobResult({"answer": 42}, {})


@pytest.fixture
def jobs():
    return ScriptedJobs()


@pytest.fixture
def changes():
    """How often the panels were told to look again."""
    return []


@pytest.fixture
def frame(desktop, module):
    """The frame of the window, without panels."""
    import slicer

    widget = slicer.util.loadUI(str(MODULE / "Resources" / "UI" / "MedSegReg.ui"))
    widget.show()
    yield slicer.util.childWidgetVariables(widget)
    widget.hide()
    widget.deleteLater()


@pytest.fixture
def runner(frame, jobs, changes):
    from MedSegRegPanels.run import Runner

    made = Runner(frame, lambda: True, lambda: changes.append(1), lambda: jobs)
    yield made
    made.close()


def say(runner, jobs, *events):
    jobs.events += events
    runner.poll()


def test_a_result_reaches_its_panel_after_progress_was_shown(runner, jobs, frame, changes):
    results = []
    assert runner.start("Segmenting head", "segment", {"model": "m"}, {"image": 1}, results.append)
    assert runner.busy
    assert jobs.submitted == [("segment", {"model": "m"}, {"image": 1})]
    assert frame.statusFrame.visible
    say(runner, jobs, Started(1), Progressed(1, 0.25, "looking", 130.0))
    assert frame.taskLabel.text == "Segmenting head"
    assert (frame.progressBar.value, frame.messageLabel.text) == (250, "looking")
    assert frame.timeLabel.text == "2 min left"
    say(runner, jobs, Done(1, RESULT))
    assert results == [RESULT]
    assert not runner.busy
    assert not frame.cancelButton.visible
    assert frame.messageLabel.text.startswith("Done in")
    assert len(changes) >= 2


def test_a_second_job_is_refused_while_one_runs(runner, jobs):
    runner.start("first", "segment", {}, {}, lambda result: None)
    assert not runner.start("second", "segment", {}, {}, lambda result: None)
    assert len(jobs.submitted) == 1


def test_a_result_may_start_the_next_job(runner, jobs):
    runner.start("first", "plan", {}, {}, lambda result: runner.start("second", "plan", {}, {}, lambda result: None))
    say(runner, jobs, Done(1, RESULT))
    assert len(jobs.submitted) == 2
    assert runner.busy


def test_nothing_starts_when_packages_are_missing(frame, jobs):
    from MedSegRegPanels.run import Runner

    runner = Runner(frame, lambda: False, lambda: None, lambda: jobs)
    assert not runner.start("a job", "segment", {}, {}, lambda result: None)
    assert jobs.submitted == []


@pytest.mark.parametrize("last", [Failed(1, Cancelled()), Done(1, RESULT)], ids=["stopped", "complete before"])
def test_cancel_asks_once_and_the_result_is_dropped(runner, jobs, frame, desktop, last):
    results = []
    runner.start("a job", "segment", {}, {}, results.append, onEvent=results.append)
    frame.cancelButton.click()
    assert jobs.cancelled == [1]
    assert not frame.cancelButton.enabled
    say(runner, jobs, Intermediate(1, RESULT), last)
    assert frame.messageLabel.text == "Cancelled: the scene was not changed."
    assert results == []
    assert not runner.busy
    assert desktop.messages == []


def test_only_a_registration_can_be_stopped_and_kept(runner, jobs, frame):
    runner.start("a segmentation", "segment", {}, {}, lambda result: None)
    assert not frame.keepButton.visible
    say(runner, jobs, Done(1, RESULT))
    runner.start("a registration", "register", {}, {}, lambda result: None)
    assert frame.keepButton.visible
    frame.keepButton.click()
    assert jobs.stopped == [2]
    assert frame.cancelButton.enabled, "who waits too long may still cancel"


def test_levels_on_the_way_reach_the_panel(runner, jobs):
    seen = []
    runner.start("a job", "register", {}, {}, lambda result: None, onEvent=seen.append)
    event = Intermediate(1, RESULT)
    say(runner, jobs, event)
    assert seen == [event]


def test_a_lost_process_is_told_with_its_likely_cause(runner, jobs, frame, desktop):
    runner.start("a job", "segment", {}, {}, lambda result: None)
    say(runner, jobs, Failed(1, WorkerLost("The process was killed", "a whole run", "close programs"), "log"))
    assert "killed" in desktop.messages[0]
    assert "killed" in frame.messageLabel.text
    assert not runner.busy


def test_a_result_that_cannot_be_written_is_told_and_the_window_goes_on(runner, jobs, desktop):
    def refuse(result):
        raise NodeError("The node is gone", "a node", "choose another")

    runner.start("a job", "segment", {}, {}, refuse)
    say(runner, jobs, Done(1, RESULT))
    assert "The node is gone" in desktop.messages[0]
    assert not runner.busy


def test_a_watched_node_that_is_removed_stops_the_job(runner, jobs, frame, scene):
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "head")
    results = []
    runner.start("a job", "register", {}, {}, results.append, watched=(node,))
    runner.poll()
    assert runner.busy
    scene.RemoveNode(node)
    runner.poll()
    assert jobs.cancelled == [1]
    assert not runner.busy
    assert "removed" in frame.messageLabel.text
    say(runner, jobs, Done(1, RESULT))
    assert results == [], "a late result is dropped"


def test_an_abandoned_job_does_not_answer_for_the_next_one(runner, jobs):
    results = []
    runner.start("first", "segment", {}, {}, lambda result: results.append("first"))
    runner.abandon("the scene was closed")
    runner.start("second", "segment", {}, {}, lambda result: results.append("second"))
    say(runner, jobs, Failed(1, Cancelled()), Done(2, RESULT))
    assert results == ["second"]


def test_closing_the_window_ends_the_job_system(runner, jobs):
    runner.start("a job", "segment", {}, {}, lambda result: None)
    runner.close()
    assert jobs.closed
    assert not runner.busy


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "1 s"), (45, "45 s"), (90, "2 min"), (3600 * 2.1, "2 h")])
def test_durations_are_told_as_people_tell_them(module, desktop, seconds, text):
    from MedSegRegPanels.run import duration

    assert duration(seconds) == text


IMPORT_PANELS = """
import importlib, sys
from pathlib import Path
sys.path[:0] = [{module!r}, {here!r}]
heavy = ("torch", "scipy", "skimage", "safetensors", "pydantic", "SimpleITK")
for name in heavy:
    sys.modules[name] = None
import slicer
from standin.pythonqt import QtModule, added_classes, wrapper_class
from standin import mrml_widgets, scripted_modules
for name, submodule in scripted_modules.submodules().items():
    sys.modules["slicer." + name] = submodule
    setattr(slicer, name, submodule)
for name in ("qt", "ctk"):
    sys.modules[name] = QtModule(name)
for path in sorted(Path({module!r}, "MedSegRegPanels").glob("*_panel.py")):
    importlib.import_module("MedSegRegPanels." + path.stem)
"""


def test_the_window_opens_where_no_package_was_installed_yet(qt_application):
    code = IMPORT_PANELS.format(module=str(MODULE), here=str(HERE))
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr[-2000:]
