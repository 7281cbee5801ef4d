"""Environments for the peers, each of its own below the work folder: ``environment.py --work DIR``.

torch is installed first, at the version that our tests use, and stays so by a constraint. FireANTs pins old versions
of much that it hardly needs, so it comes without its dependencies and gets what its registration imports.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

sys.path.append(str(Path(__file__).parents[1]))
from isolated import create_environment

PEERS = ("antspyx==0.6.3", "picsl-greedy==1.4.0.3", "convexadam==0.2.0", "SimpleITK==2.5.7")
FIREANTS = "fireants==1.5.0"
FIREANTS_NEEDS = ("numpy", "scipy", "SimpleITK==2.5.7", "scikit-image", "nibabel", "matplotlib", "pandas", "tqdm")
ENVIRONMENTS = {"peers": (PEERS,), "fireants": (("--no-deps", FIREANTS), FIREANTS_NEEDS)}


def main(work: Annotated[Path, typer.Option(help="Folder of the benchmark.")]) -> None:
    """Create what is missing, and say how to get elastix, which is no Python package."""
    for name, steps in ENVIRONMENTS.items():
        typer.echo(f"{name}: {'created' if create_environment(work, name, steps) else 'was ready'}")
    typer.echo(f"elastix: {shutil.which('elastix') or 'missing; on Debian and Ubuntu: apt-get install elastix'}")


if __name__ == "__main__":
    typer.run(main)
