"""Tasks for tests of the job system, which runs them in a real child: short, slow, stubborn, and deadly ones."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from MedSegRegLib.errors import Cancelled
from MedSegRegLib.jobs import JobResult
from MedSegRegLib.jobs.work import Work


def find_task(name: str):
    """Any function of this file; ``never_found`` takes its time, as an import does."""
    if name == "never_found":
        time.sleep(60)
    return globals()[name]


def echo(work: Work, **said) -> JobResult:
    """What was given, and where."""
    facts = {"said": said, "process": os.getpid(), "folder": str(work.folder), "executable": sys.executable}
    return JobResult(facts, dict(work.values))


def times(work: Work, *, seconds: float) -> JobResult:
    """When it began and ended."""
    began = time.time()
    time.sleep(seconds)
    return JobResult({"began": began, "ended": time.time()}, {})


def asks(work: Work, *, seconds: float = 60.0, steps: int = 6000) -> JobResult:
    """Asks about cancelling at every step."""
    for step in range(steps):
        work.progress.update(step / steps, f"step {step}")
        time.sleep(seconds / steps)
    return JobResult({"process": os.getpid()}, {})


def improves(work: Work) -> JobResult:
    """Has something better at every step, until it is asked to stop."""
    step = 0
    while not work.progress.wants_result():
        step += 1
        work.tell({"step": step}, {"transform": work.chain("initial")})
        work.progress.update(min(step / 1000, 1.0))
        time.sleep(0.02)
    return JobResult({"step": step}, {"transform": work.chain("initial")})


def ignores(work: Work, *, seconds: float = 60.0) -> JobResult:
    """Never asks, and has a process of its own."""
    own = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    work.tell({"process": os.getpid(), "own": own.pid}, {})
    time.sleep(seconds)
    return JobResult({}, {})


def refuses_to_be_cancelled(work: Work) -> JobResult:
    """Is done when it is cancelled."""
    while True:
        try:
            work.progress.update(0.5)
        except Cancelled:
            return JobResult({}, {})
        time.sleep(0.01)


def dies(work: Work, *, by: str) -> JobResult:
    """Ends its process by a signal."""
    os.kill(os.getpid(), getattr(signal, by))
    time.sleep(60)
    return JobResult({}, {})


def raises(work: Work, *, what: str) -> JobResult:
    """A fault that no task foresees."""
    raise getattr(__import__("builtins"), what)("found here")


def shouts(work: Work) -> JobResult:
    """Writes where the answers would go if libraries that print were not kept apart."""
    sys.stdout.write("no answer\n")
    subprocess.run([sys.executable, "-c", "print('no answer either')"], check=True)
    return JobResult({"log": (Path(work.folder).parent / "log.txt").read_text("utf-8")}, {})
