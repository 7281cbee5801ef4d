"""How a Python is started as a worker. Jobs walk: supervisor -> [python] -> child."""

from __future__ import annotations

from pathlib import Path

LIBRARY = Path(__file__).parents[2]
START = "import sys; sys.path[0] = sys.argv[1]; from MedSegRegLib.jobs.worker import main; main()"


def command(python: str, folder: Path, tasks: str) -> list[str]:
    """What starts a worker: the folder with the library takes the first place on its path, which ``-c`` gives to the
    working folder, so that nothing is imported from there."""
    return [python, "-c", START, str(LIBRARY), str(folder), tasks]
