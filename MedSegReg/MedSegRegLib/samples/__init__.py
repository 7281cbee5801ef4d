"""Images that are shipped for the tutorial, the demo and as templates; their licences are in README.md beside them."""

from __future__ import annotations

from pathlib import Path

from ..errors import InputError


def sample_path(name: str) -> Path:
    """The file of a sample, e.g. ``"icbm152-t1"``.

    Raises:
        InputError: no such sample; the known names are listed.
    """
    folder = Path(__file__).parent
    path = folder / f"{name}.nii.gz"
    if not path.is_file():
        known = ", ".join(sorted(p.name.removesuffix(".nii.gz") for p in folder.glob("*.nii.gz")))
        raise InputError(f"There is no sample '{name}'", f"one of: {known}", "choose one of these")
    return path
