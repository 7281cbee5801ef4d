"""Is an imported model the model? ``equivalence.py``, where nnunetv2 and this library can be imported.

For each case of ``nnunet_cases``: nnU-Net trains and saves it, our library imports the folder. Then the scores of both
networks on one tile are compared (asked: within 1e-4), and the labels of both pipelines on one volume (asked: Dice
above 0.999).
"""

from __future__ import annotations

import json
import os
import tempfile
import time
import warnings
from pathlib import Path
from typing import Annotated, Any

os.environ.update(nnUNet_raw="", nnUNet_preprocessed="", nnUNet_results="")  # nnU-Net asks for them when imported

import numpy as np
import torch
import typer
from nnunet_cases import CASES, Case, volume
from nnunet_training import untrained, write_result
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from MedSegRegLib.files.model_package import read_model
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Image
from MedSegRegLib.model_import.run import import_model
from MedSegRegLib.segment.network import build_network
from MedSegRegLib.segment.options import SegmentationOptions
from MedSegRegLib.segment.predict import segment


def main(
    only: Annotated[str, typer.Option(help="Only the cases whose name contains this.")] = "",
    output: Annotated[Path | None, typer.Option(help="Write the figures as JSON.")] = None,
) -> None:
    """Print one line a case; the exit status is 1 if one of them fails."""
    rows = []
    for case in CASES:
        if only in case.name:
            with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                rows.append(compare(case, Path(folder)))
            row = rows[-1]
            typer.echo(
                f"{row['case']:40} scores differ by {row['scores_differ']:.1e}  Dice {row['dice']}  "
                f"voxels that differ {row['voxels_differ']:.5f}  names {'equal' if row['names_equal'] else 'DIFFER'}  "
                f"seconds {row['seconds_nnunet']:.1f} / {row['seconds_ours']:.1f}"
            )
    if output is not None:
        output.write_text(json.dumps(rows, indent=1))
    failed = [r for r in rows if r["scores_differ"] > 1e-4 or min(r["dice"]) < 0.999 or not r["names_equal"]]
    raise typer.Exit(1 if failed else 0)


def compare(case: Case, folder: Path) -> dict[str, Any]:
    """Figures of one case."""
    result = write_result(case, folder / "Dataset901_Balls")
    spec, _ = import_model(folder, folder / "imported", configuration=case.configuration)
    image, truth = volume(case)
    started = time.perf_counter()
    theirs = _nnunet_labels(case, result, image)
    middle = time.perf_counter()
    ours = _our_labels(case, folder / "imported", image)
    return {
        "case": case.name,
        "scores_differ": _scores_differ(case, result, folder / "imported"),
        "dice": [round(_dice(theirs == value, ours == value), 5) for value in range(1, int(truth.max()) + 1)],
        "dice_with_truth": [round(_dice(truth == value, ours == value), 5) for value in range(1, int(truth.max()) + 1)],
        "voxels_differ": float((theirs != ours).mean()),
        "names_equal": [label.name for label in spec.labels] == _names(case),
        "seconds_nnunet": middle - started,
        "seconds_ours": time.perf_counter() - middle,
    }


def _scores_differ(case: Case, result: Path, imported: Path) -> float:
    """Largest difference of the networks' scores on one tile of noise."""
    checkpoint = torch.load(result / "fold_0" / "checkpoint_final.pth", weights_only=False)  # made here
    theirs = untrained(case)
    theirs.load_state_dict(checkpoint["network_weights"])
    spec, (weights,) = read_model(imported)
    inputs = len(spec.channels) + (len(spec.labels) if spec.previous_stage else 0)
    ours = build_network(spec.architecture, inputs, spec.classes)
    ours.load_state_dict(weights)
    tile = torch.randn(1, inputs, *case.patch_kji)
    with torch.inference_mode():
        return float((theirs.eval()(tile) - ours.eval()(tile)).abs().max())


def _nnunet_labels(case: Case, result: Path, image: np.ndarray) -> np.ndarray:
    previous = None
    spacing = {"spacing": list(case.volume_spacing_kji)}
    if case.lowres:
        first = result.parent / result.name.replace("3d_cascade_fullres", "3d_lowres")
        previous = _predictor(case, first).predict_single_npy_array(image, spacing)[None].astype(np.int8)
    return _predictor(case, result).predict_single_npy_array(image, spacing, previous)


def _predictor(case: Case, result: Path) -> nnUNetPredictor:
    mirrored = case.mirror is not None
    predictor = nnUNetPredictor(use_mirroring=mirrored, device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(result), use_folds=(0,))
    return predictor


def _our_labels(case: Case, model: Path, image: np.ndarray) -> np.ndarray:
    matrix = np.diag([*case.volume_spacing_kji[::-1], 1.0])
    ours = Image(torch.from_numpy(image), Geometry(image.shape[:0:-1], matrix), channel_names=case.channels)
    return segment(ours, model, SegmentationOptions(mirror=case.mirror is not None), device="cpu").labels.tensor.numpy()


def _dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * float((a & b).sum()) / max(float(a.sum() + b.sum()), 1.0)


def _names(case: Case) -> list[str]:
    if case.regions:
        return ["whole tumor without tumor core", "tumor core without enhancing tumor", "enhancing tumor"]
    return [name for name in case.labels if name != "background"]


if __name__ == "__main__":
    typer.run(main)
