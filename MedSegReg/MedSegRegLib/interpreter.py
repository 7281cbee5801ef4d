"""Which Python runs a child process: inside Slicer the running program is an application. Below all that starts one."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from .errors import MissingPackage


def find_python() -> str:
    """PythonSlicer inside Slicer, where the running executable is an application; else the running Python.

    Raises:
        MissingPackage: the running program holds a Python but none can be started.
    """
    running = Path(sys.executable or "")
    slicer = shutil.which("PythonSlicer", path=str(running.parent))
    if slicer is None and _is_python(running):
        return str(running)
    found = slicer or shutil.which("PythonSlicer")
    if found is None:
        raise MissingPackage(
            f"The running program '{running.name}' is no Python, and there is no PythonSlicer",
            "an executable Python for the work",
            "reinstall Slicer, or name the executable",
        )
    return found


def running_python() -> str:
    """The running Python, to be started again in the same environment; inside an application as :func:`find_python`.

    A child that PythonSlicer started is a Python of its own: starting that one directly leaves no launcher between,
    which would have to be killed with it.
    """
    running = Path(sys.executable or "")
    return str(running) if _is_python(running) else find_python()


def own_environment() -> dict[str, str]:
    """The environment without what lets Python import from elsewhere, but with the place of its standard library,
    which Slicer's Python does not find by itself.
    """
    kept = {name: text for name, text in os.environ.items() if not name.startswith("PYTHON") or name == "PYTHONHOME"}
    return {**kept, "PYTHONNOUSERSITE": "1"}


def _is_python(program: Path) -> bool:
    return program.name.lower().startswith("python")
