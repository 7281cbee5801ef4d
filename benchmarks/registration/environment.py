"""Environments for the peers, each of its own below the work folder: ``environment.py --work DIR``.

torch is installed first, at the version that our tests use, and stays so by a constraint. FireANTs pins old versions
of much that it hardly needs, so it comes without its dependencies and gets what its registration imports.
"""

from __future__ import annotations

import shutil
import subprocess
import venv
from pathlib import Path
from typing import Annotated

import typer

TORCH = "torch==2.13.0"
PEERS = ("antspyx==0.6.3", "picsl-greedy==1.4.0.3", "convexadam==0.2.0", "SimpleITK==2.5.7")
FIREANTS = "fireants==1.5.0"
FIREANTS_NEEDS = ("numpy", "scipy", "SimpleITK==2.5.7", "scikit-image", "nibabel", "matplotlib", "pandas", "tqdm")


def main(work: Annotated[Path, typer.Option(help="Folder of the benchmark.")]) -> None:
    """Create what is missing, and say how to get elastix, which is no Python package."""
    _create(work, "peers", [PEERS])
    _create(work, "fireants", [("--no-deps", FIREANTS), FIREANTS_NEEDS])
    typer.echo(f"elastix: {shutil.which('elastix') or 'missing; on Debian and Ubuntu: apt-get install elastix'}")


def python_of(work: Path, name: str) -> Path:
    """The interpreter of an environment."""
    return work / "environments" / name / "bin" / "python"


def _create(work: Path, name: str, steps: list[tuple[str, ...]]) -> None:
    folder = work / "environments" / name
    ready = folder / "ready"
    if not ready.exists():
        typer.echo(f"{name}: creating {folder}")
        venv.create(folder, with_pip=True, clear=True)
        constraints = folder / "constraints.txt"
        constraints.write_text(f"{TORCH}\n")
        for requirements in [(TORCH,), *steps]:
            command = [str(python_of(work, name)), "-m", "pip", "install", "--quiet", "--constraint", str(constraints)]
            subprocess.run([*command, *requirements], check=True)
        ready.touch()
    typer.echo(f"{name}: ready")


if __name__ == "__main__":
    typer.run(main)
