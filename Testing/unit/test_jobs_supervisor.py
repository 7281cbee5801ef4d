"""Jobs in a real child: order, progress, cancelling, errors, and how a child's death is survived."""

from __future__ import annotations

import ctypes
import inspect
import os
import shutil
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from processes import gone_within, running

from MedSegRegLib.errors import (
    Cancelled,
    InputError,
    InvalidSetting,
    MedSegRegError,
    MissingPackage,
    OutputNotWritable,
    TooLarge,
    WorkerLost,
)
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.jobs import Chain, Done, Failed, Intermediate, Progressed, Started, Supervisor, Voxels

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="ends processes by POSIX signals")
GRID = Geometry.from_spacing((4, 5, 6), (1.0, 2.0, 3.0), (10.0, -20.0, 30.0))
STEP = Chain((np.diag([1.0, 1.0, 1.0, 1.0]),))


@pytest.fixture(autouse=True)
def _tasks_of_the_tests(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


@pytest.fixture
def place(tmp_path):
    """Where temporary folders are made, with a name that has spaces and letters of many alphabets."""
    folder = tmp_path / "Ärzte & Bilder 画像"
    folder.mkdir()
    return folder


@pytest.fixture
def jobs(place):
    with Supervisor(tasks="job_tasks", patience_seconds=0.5, folder=place) as supervisor:
        yield supervisor


def until(jobs: Supervisor, kind: type, job: int, seconds: float = 60.0):
    """The first event of this kind of a job; other events are dropped."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for event in jobs.poll():
            if event.job == job and isinstance(event, kind):
                return event
            assert not isinstance(event, (Done, Failed)), event
        time.sleep(0.005)
    raise AssertionError(f"no {kind.__name__} of job {job} within {seconds} s")


def files_of_jobs(place: Path) -> list[str]:
    """All but the log."""
    return [str(path) for path in place.rglob("*") if path.is_file() and path.name != "log.txt"]


def test_gives_back_what_was_handed_over(jobs, place):
    image = Voxels(np.arange(120, dtype=np.int16).reshape(6, 5, 4), GRID, "Žofie's study 脳")
    points = np.random.default_rng(0).normal(size=(7, 3))
    result = jobs.wait(jobs.submit("echo", {"name": "naïve 名"}, {"image": image, "points": points, "chain": STEP}))
    assert result.data["said"] == {"name": "naïve 名"}
    assert str(place) in result.data["folder"]
    np.testing.assert_array_equal(result.array("points"), points)
    back = result.voxels("image")
    assert (back.name, back.array.dtype) == (image.name, np.int16)
    np.testing.assert_array_equal(back.array, image.array)
    assert back.geometry.same_grid(GRID)
    np.testing.assert_array_equal(result.chain("chain").stages[0], np.eye(4))
    assert files_of_jobs(place) == []
    with pytest.raises(InputError, match="missing"):
        result.array("other")


def test_jobs_run_one_after_the_other_in_one_child(jobs):
    numbers = [jobs.submit("times", {"seconds": 0.1}) for _ in range(3)]
    results = [jobs.wait(number).data for number in numbers]
    assert numbers == sorted(numbers)
    assert results[0]["ended"] <= results[1]["began"] < results[1]["ended"] <= results[2]["began"]
    assert jobs.wait(jobs.submit("echo")).data["process"] == jobs.wait(jobs.submit("echo")).data["process"]


def test_tells_how_far_a_job_is_and_how_long_it_takes(jobs):
    seen = []
    jobs.wait(jobs.submit("asks", {"seconds": 1.6, "steps": 160}), seen.append)
    kinds = [type(event) for event in seen]
    assert kinds[0] is Progressed  # loading
    assert kinds[1] is Started
    told = [event for event in seen[2:] if isinstance(event, Progressed)]
    assert 3 <= len(told) < 60, "about 10 a second, of 160 reports"
    assert [event.fraction for event in told] == sorted(event.fraction for event in told)
    assert told[1].message.startswith("step ")
    assert told[0].seconds_left is None
    assert told[-1].seconds_left == pytest.approx(1.6 * (1 - told[-1].fraction), abs=0.5)


def test_neither_submitting_nor_polling_blocks(jobs):
    big = Voxels(np.zeros((256, 256, 256), np.float32), Geometry.from_spacing((256, 256, 256)))
    longest, began = 0.0, time.perf_counter()
    job = jobs.submit("echo", {}, {"big": big})
    longest = time.perf_counter() - began
    while True:
        began = time.perf_counter()
        events = jobs.poll()
        longest = max(longest, time.perf_counter() - began)
        if any(isinstance(event, Done) and event.job == job for event in events):
            break
        assert not any(isinstance(event, Failed) for event in events)
        time.sleep(0.02)
    assert longest < 0.1


def test_a_cancel_is_answered_and_the_child_stays(jobs, place):
    process = jobs.wait(jobs.submit("echo")).data["process"]
    job = jobs.submit("asks", {}, {"image": np.zeros(1000)})
    until(jobs, Progressed, job)
    began = time.perf_counter()
    jobs.cancel(job)
    jobs.cancel(job)
    assert isinstance(until(jobs, Failed, job).error, Cancelled)
    assert time.perf_counter() - began < 1.0
    assert files_of_jobs(place) == []
    jobs.cancel(job)
    assert jobs.wait(jobs.submit("echo")).data["process"] == process
    assert not jobs.busy


def test_who_does_not_answer_a_cancel_is_killed_with_all_it_started(jobs, place):
    job = jobs.submit("ignores", {}, {"image": np.zeros(1000)})
    pids = until(jobs, Intermediate, job).result.data
    began = time.perf_counter()
    jobs.cancel(job)
    assert isinstance(until(jobs, Failed, job).error, Cancelled)
    assert 0.4 < time.perf_counter() - began < 1.5  # its patience is half a second here
    assert gone_within(1.0, lambda: running(pids["process"]) or running(pids["own"]))
    assert files_of_jobs(place) == []
    assert jobs.wait(jobs.submit("echo")).data["process"] != pids["process"]


def test_patience_ends_before_six_seconds():
    assert inspect.signature(Supervisor).parameters["patience_seconds"].default < 5.0


def test_a_child_that_still_imports_is_killed_at_once(place):
    with Supervisor(tasks="job_tasks", patience_seconds=60, folder=place) as jobs:
        job = jobs.submit("never_found")
        until(jobs, Progressed, job)
        began = time.perf_counter()
        jobs.cancel(job)
        assert isinstance(until(jobs, Failed, job).error, Cancelled)
        assert time.perf_counter() - began < 1.0


def test_a_queued_job_is_cancelled_without_the_running_one(jobs):
    first, second = jobs.submit("times", {"seconds": 0.3}), jobs.submit("echo")
    jobs.cancel(second)
    with pytest.raises(Cancelled):
        jobs.wait(second)
    assert jobs.wait(first).data["ended"]


def test_a_result_that_comes_after_the_cancel_is_dropped(jobs):
    job = jobs.submit("refuses_to_be_cancelled")
    until(jobs, Started, job)
    jobs.cancel(job)
    with pytest.raises(Cancelled):
        jobs.wait(job)


def test_stop_and_keep_gives_the_best_so_far(jobs):
    job = jobs.submit("improves", {}, {"initial": STEP})
    first = until(jobs, Intermediate, job).result
    np.testing.assert_array_equal(first.chain("transform").stages[0], np.eye(4))
    jobs.stop_and_keep(job)
    result = until(jobs, Done, job).result
    assert result.data["step"] >= first.data["step"]
    np.testing.assert_array_equal(result.chain("transform").stages[0], np.eye(4))


@pytest.mark.parametrize(
    ("signal", "words"), [("SIGKILL", "memory"), ("SIGSEGV", "crashed"), ("SIGABRT", "aborted"), ("SIGBUS", "disk")]
)
def test_a_dead_child_is_survived_and_the_likely_cause_named(jobs, place, signal, words):
    job = jobs.submit("dies", {"by": signal}, {"image": np.zeros(1000)})
    next_job = jobs.submit("echo")
    failed = until(jobs, Failed, job)
    assert type(failed.error) is WorkerLost
    assert words in str(failed.error)
    assert failed.error.fix
    assert signal == "SIGKILL" or "Fatal Python error" in failed.details
    assert jobs.wait(next_job).data["process"]
    assert files_of_jobs(place) == []


@pytest.mark.parametrize(
    ("what", "kind"),
    [("ImportError", MissingPackage), ("MemoryError", TooLarge), ("ZeroDivisionError", MedSegRegError)],
)
def test_a_fault_nobody_foresaw_is_told_and_the_child_not_used_again(jobs, what, kind):
    process = jobs.wait(jobs.submit("echo")).data["process"]
    job = jobs.submit("raises", {"what": what})
    failed = until(jobs, Failed, job)
    assert type(failed.error) is kind
    assert "found here" in failed.error.found
    assert "Traceback" in failed.details
    assert jobs.wait(jobs.submit("echo")).data["process"] != process


def test_what_libraries_print_is_no_answer(jobs):
    assert "no answer either" in jobs.wait(jobs.submit("shouts")).data["log"]


def test_refuses_arguments_that_the_task_does_not_have(jobs):
    with pytest.raises(InvalidSetting, match="seconds"):
        jobs.wait(jobs.submit("times", {"minutes": 1}))


def test_refuses_what_cannot_be_handed_over(jobs):
    with pytest.raises(InvalidSetting, match="tolist"):
        jobs.submit("echo", {"points": np.zeros(3)})
    with pytest.raises(InputError, match="list"):
        jobs.submit("echo", {}, {"points": [1, 2, 3]})
    with pytest.raises(OutputNotWritable):
        jobs.wait(jobs.submit("echo", {}, {"things": np.array([object()])}))
    with pytest.raises(InvalidSetting, match="no job"):
        jobs.wait(99)
    assert not jobs.busy


def test_a_full_disk_is_told(jobs, place):
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OutputNotWritable, match="free some space"):
            jobs.wait(jobs.submit("echo", {}, {"image": np.zeros(100_000)}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert files_of_jobs(place) == []
    assert jobs.wait(jobs.submit("echo")).data


def test_an_idle_child_ends_and_comes_back_when_needed(place):
    with Supervisor(tasks="job_tasks", idle_seconds=0.2, folder=place) as jobs:
        process = jobs.wait(jobs.submit("echo")).data["process"]
        assert gone_within(2.0, lambda: running(process) or any(place.iterdir()))
        assert jobs.wait(jobs.submit("echo")).data["process"] != process


def test_release_ends_only_an_idle_child(jobs, place):
    job = jobs.submit("times", {"seconds": 0.2})
    jobs.release()
    assert jobs.wait(job).data
    process = jobs.wait(jobs.submit("echo")).data["process"]
    jobs.release()
    assert gone_within(2.0, lambda: running(process) or any(place.iterdir()))


def test_closing_ends_everything_and_a_later_job_begins_anew(jobs, place):
    first, second = jobs.submit("ignores"), jobs.submit("echo")
    pids = until(jobs, Intermediate, first).result.data
    jobs.close()
    ended = {event.job: event for event in jobs.poll() if isinstance(event, Failed)}
    assert {first, second} == set(ended)
    assert not jobs.busy
    assert gone_within(1.0, lambda: running(pids["process"]) or running(pids["own"]))
    assert list(place.iterdir()) == []
    assert jobs.wait(jobs.submit("echo")).data


def test_a_folder_that_was_cleaned_away_is_made_anew(jobs, place):
    folder = Path(jobs.wait(jobs.submit("echo")).data["folder"]).parent
    shutil.rmtree(folder)
    assert jobs.wait(jobs.submit("echo", {}, {"image": np.zeros(10)})).array("image").shape == (10,)


def test_works_while_the_window_holds_the_lock_between_polls(jobs):
    sleep_with_lock = ctypes.PyDLL(None).usleep
    job = jobs.submit("echo", {}, {"image": np.zeros(1000)})
    end = time.monotonic() + 60
    while not any(isinstance(event, Done) and event.job == job for event in jobs.poll()):
        assert time.monotonic() < end
        sleep_with_lock(50_000)


def test_thirty_runs_leave_nothing_behind(jobs, place):
    def counts():
        threads = [thread.name for thread in threading.enumerate()]
        return sorted(path.name for path in place.rglob("*")), len(os.listdir("/proc/self/fd")), len(threads)

    image = Voxels(np.zeros((20, 20, 20), np.float32), Geometry.from_spacing((20, 20, 20)))
    processes = {jobs.wait(jobs.submit("echo", {}, {"image": image})).data["process"]}
    if not Path("/proc/self/fd").exists():
        pytest.skip("open files are counted by /proc")
    before = counts()
    for _ in range(30):
        processes.add(jobs.wait(jobs.submit("echo", {}, {"image": image})).data["process"])
    assert counts() == before
    assert len(processes) == 1
    for _ in range(3):  # with a new child each
        jobs.release()
        jobs.wait(jobs.submit("echo"))
    assert counts()[1:] == before[1:]
