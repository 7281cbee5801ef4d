"""The child and whoever started it: which Python, which paths, without torch, and what happens when the parent dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from processes import gone_within, running

import MedSegRegLib
from MedSegRegLib.errors import MissingPackage, WorkerLost
from MedSegRegLib.interpreter import find_python
from MedSegRegLib.jobs import Supervisor

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="uses shell scripts and POSIX signals")
LIBRARY = Path(MedSegRegLib.__file__).parents[1]
HERE = Path(__file__).parent

PARENT = """
import json, sys, time
sys.path.insert(0, sys.argv[1])
import numpy as np
from MedSegRegLib.jobs import Intermediate, Supervisor
jobs = Supervisor(tasks="job_tasks", folder=sys.argv[2])
job = jobs.submit("ignores", {}, {"image": np.zeros(100000)})
jobs.submit("echo", {}, {"image": np.zeros(100000)})
while True:
    for event in jobs.poll():
        if isinstance(event, Intermediate):
            print(json.dumps(event.result.data), flush=True)
    time.sleep(0.01)
"""

WITHOUT_TORCH = """
import sys
sys.path.insert(0, sys.argv[1])
from MedSegRegLib.jobs import Supervisor, Voxels
import numpy as np
from MedSegRegLib.geometry import Geometry
with Supervisor(tasks="job_tasks") as jobs:
    image = Voxels(np.zeros((3, 3, 3)), Geometry.from_spacing((3, 3, 3)))
    assert jobs.wait(jobs.submit("echo", {}, {"image": image})).voxels("image").array.shape == (3, 3, 3)
loaded = {name.split(".")[0] for name in sys.modules} & {"torch", "SimpleITK", "scipy", "skimage", "pydantic"}
assert not loaded, loaded
"""


@pytest.fixture(autouse=True)
def _tasks_of_the_tests(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(HERE))


def script(path: Path, text: str) -> Path:
    """A program of a few lines."""
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def test_the_parent_needs_no_torch():
    subprocess.run([sys.executable, "-c", WITHOUT_TORCH, str(LIBRARY)], check=True, timeout=120)


def test_the_child_dies_with_its_killed_parent_and_leaves_nothing(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(LIBRARY), str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pids = json.loads(parent.stdout.readline())
        was_running = running(pids["process"]) and any(tmp_path.rglob("*.npy"))
        os.kill(parent.pid, signal.SIGKILL)
    assert was_running
    assert gone_within(2.0, lambda: running(pids["process"]) or running(pids["own"]))
    assert list(tmp_path.iterdir()) == []


def test_the_library_may_lie_in_a_folder_with_spaces_and_any_letters(tmp_path):
    folder = tmp_path / "Erweiterungen für Prüfung 拡張"
    folder.mkdir()
    (folder / "MedSegReg").symlink_to(LIBRARY)
    subprocess.run([sys.executable, "-c", WITHOUT_TORCH, str(folder / "MedSegReg")], check=True, timeout=120)


def test_takes_any_python_also_behind_a_launcher(tmp_path):
    launcher = script(tmp_path / "PythonSlicer für uns", f'"{sys.executable}" "$@"')
    with Supervisor(launcher, tasks="job_tasks", folder=tmp_path) as jobs:
        data = jobs.wait(jobs.submit("echo")).data
    assert Path(data["executable"]).name.startswith("python")
    assert gone_within(2.0, lambda: running(data["process"]))


def test_a_death_behind_a_launcher_that_hides_the_signal_is_named(tmp_path):
    hides = f'"{sys.executable}" "$@" || {{ echo "error: [x] exit abnormally - Report the problem." >&2; exit 1; }}'
    launcher = script(tmp_path / "PythonSlicer", hides)
    with Supervisor(launcher, tasks="job_tasks", folder=tmp_path) as jobs:
        with pytest.raises(WorkerLost, match="memory"):
            jobs.wait(jobs.submit("dies", {"by": "SIGKILL"}))
        with pytest.raises(WorkerLost, match="crashed"):
            jobs.wait(jobs.submit("dies", {"by": "SIGSEGV"}))


def test_a_python_without_what_is_needed_is_told(tmp_path):
    bare = script(tmp_path / "python", f'exec "{sys.executable}" -S "$@"')
    with Supervisor(bare, folder=tmp_path) as jobs, pytest.raises(MissingPackage, match="numpy"):
        jobs.wait(jobs.submit("compute"))


def test_a_python_without_torch_is_told(tmp_path):
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')\n")
    bare = script(tmp_path / "python", f'PYTHONPATH="{tmp_path}" exec "{sys.executable}" "$@"')
    with Supervisor(bare, folder=tmp_path) as jobs, pytest.raises(MissingPackage, match="torch"):
        jobs.wait(jobs.submit("compute"))


def test_a_python_that_is_not_there_is_told(tmp_path):
    with Supervisor(tmp_path / "no python", folder=tmp_path) as jobs:
        with pytest.raises(WorkerLost, match="cannot be started"):
            jobs.wait(jobs.submit("compute"))
        assert not jobs.busy


def test_finds_pythonslicer_beside_the_running_application(tmp_path, monkeypatch):
    assert find_python() == sys.executable
    application = script(tmp_path / "SlicerApp-real", "")
    monkeypatch.setattr(sys, "executable", str(application))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MissingPackage, match="SlicerApp-real"):
        find_python()
    beside = script(tmp_path / "PythonSlicer", "")
    assert find_python() == str(beside)
    elsewhere = tmp_path / "bin"
    elsewhere.mkdir()
    beside.rename(elsewhere / "PythonSlicer")
    monkeypatch.setenv("PATH", str(elsewhere))
    assert find_python() == str(elsewhere / "PythonSlicer")
