"""Which Python runs the child, and how it is started. Jobs walk: supervisor -> [python] -> child."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from ..errors import MissingPackage

LIBRARY = Path(__file__).parents[2]
START = "import sys; sys.path[0] = sys.argv[1]; from MedSegRegLib.jobs.worker import main; main()"


def find_python() -> str:
    """PythonSlicer inside Slicer, where the running executable is an application; else the running Python.

    Raises:
        MissingPackage: the running program holds a Python but none can be started.
    """
    running = Path(sys.executable or "")
    slicer = shutil.which("PythonSlicer", path=str(running.parent))
    if slicer is None and running.name.lower().startswith("python"):
        return str(running)
    found = slicer or shutil.which("PythonSlicer")
    if found is None:
        raise MissingPackage(
            f"The running program '{running.name}' is no Python, and there is no PythonSlicer",
            "an executable Python for the work",
            "reinstall Slicer, or name the executable",
        )
    return found


def command(python: str, folder: Path, tasks: str) -> list[str]:
    """What starts a worker: the folder with the library takes the first place on its path, which ``-c`` gives to the
    working folder, so that nothing is imported from there."""
    return [python, "-c", START, str(LIBRARY), str(folder), tasks]
