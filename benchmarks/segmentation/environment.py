"""The environment of the peers, below the work folder: ``environment.py --work DIR``. Ours runs in it too.

torch is installed first, at the version that our tests use, and stays so by a constraint. nnU-Net and its networks come
without their dependencies, one of which would replace torch, and get what they import.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

sys.path.append(str(Path(__file__).parents[1]))
from isolated import create_environment

NAME = "segmentation"
OURS = ("safetensors", "pydantic", "typer", "rich", "matplotlib", "SimpleITK==2.5.7", "scipy", "scikit-image")
ENGINES = ("openvino==2026.4.1", "onnx", "onnxscript", "onnxruntime<1.33")
MONAI = ("monai==1.6.1", "nibabel")
NNUNET = (
    "nnunetv2==2.8.1", "dynamic-network-architectures==0.4.4", "batchgeneratorsv2==0.3.6", "batchgenerators==0.25.5",
    "acvl-utils==0.2.6", "fft-conv-pytorch", "einops",
)  # fmt: skip
NNUNET_NEEDS = (
    "pandas", "tqdm", "scikit-learn", "unittest2", "threadpoolctl", "blosc2", "tifffile", "seaborn", "imagecodecs",
    "graphviz", "requests", "connected-components-3d", "future", "nibabel",
)  # fmt: skip


def main(work: Annotated[Path, typer.Option(help="Folder of the benchmark.")]) -> None:
    """Create the environment unless it is there."""
    created = create_environment(work, NAME, ((*OURS, *ENGINES, *MONAI), ("--no-deps", *NNUNET), NNUNET_NEEDS))
    typer.echo(f"{NAME}: {'created' if created else 'was ready'}")


if __name__ == "__main__":
    typer.run(main)
