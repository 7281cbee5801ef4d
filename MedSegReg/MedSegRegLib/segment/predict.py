"""The segmentation walk in one function: Image -> check -> model's grid -> network over tiles -> restore -> Labels."""

from __future__ import annotations

import math
import platform
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import torch

from .. import __version__
from ..check_image import Need, check_image
from ..device import describe_device, pick_device
from ..errors import NoOverlap
from ..files.model_package import ModelSpec
from ..geometry import Geometry
from ..image import Image, Labels
from ..preprocess import CtWindow, apply_steps, model_grid
from ..progress import SILENT, Progress
from ..report import Finding
from ..resample import resample_image
from .model import Model, load_model
from .postprocess import keep_largest_component, remove_islands
from .restore import restore_labels
from .tiles import predict_scores


@dataclass(frozen=True, eq=False)
class Segmentation:
    """What a segmentation gives.

    Attributes:
        labels: on the grid of the image, named after it.
        findings: warnings and notes on the input and the run.
        provenance: model, weights, versions, device, settings, time; plain text values for node attributes.
    """

    labels: Labels
    findings: tuple[Finding, ...]
    provenance: dict[str, str]


def segment(
    image: Image,
    model: Model | str | Path,
    *,
    device: str = "auto",
    region: np.ndarray | None = None,
    islands_mm3: float = 0.0,
    largest_component: bool | None = None,
    replace_nonfinite: bool = False,
    progress: Progress = SILENT,
) -> Segmentation:
    """Segment one image.

    Args:
        image: any orientation and spacing; the result lies on its own grid.
        model: name or folder of a model, or a loaded one (then its device is used).
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        region: RAS mm points [N, 3]; only their bounding box, along the axes of the model's grid, is looked at.
        islands_mm3: components below this volume are removed.
        largest_component: keep only the largest component of each label; None does what the model's description says.
        replace_nonfinite: replace NaN and infinite voxels by the minimum instead of refusing them.
        progress: told after each tile; may cancel.

    Raises:
        InputError, ModelError, DeviceUnavailable: before any heavy work.
        NoOverlap: the region lies outside the image.
        NonFiniteOutput: the network gave NaN.
    """
    started = time.perf_counter()
    if not isinstance(model, Model):
        model = load_model(model, pick_device(device))
    spec = model.spec
    grid = model_grid(image.geometry, spec.spacing_mm)
    if region is not None:
        grid = _window_around(grid, region)
    need = Need(
        "segment",
        channels=len(spec.channels),
        allow_single_slice=True,
        bytes_needed=_bytes_needed(grid, spec),
        contrast=not any(isinstance(step, CtWindow) for step in spec.intensity),
    )
    image, findings = check_image(image, need, replace_nonfinite)
    prepared = resample_image(image, grid, fill=float(image.tensor.min()))
    prepared = apply_steps(prepared, spec.intensity)
    progress.update(0.05, "network")
    scores = predict_scores(
        model.network,
        prepared.tensor.to(model.device),
        spec.tile_ijk[::-1],
        spec.tile_overlap,
        progress.part(0.05, 0.9),
    )
    progress.update(0.9, "labels on the volume's own grid")
    labels = Labels(restore_labels(scores, grid, image.geometry).cpu(), image.geometry, spec.structures, image.name)
    largest_component = spec.keep_largest_component if largest_component is None else largest_component
    if largest_component:
        labels = keep_largest_component(labels)
    if islands_mm3 > 0:
        labels = remove_islands(labels, islands_mm3)
    progress.update(1.0, "done")
    provenance = _provenance(model, started) | {
        "region": "whole image" if region is None else f"RAS mm {region.min(0).round(1)} to {region.max(0).round(1)}",
        "largest_component": str(largest_component),
        "islands_mm3": f"{islands_mm3:g}",
        "replace_nonfinite": str(replace_nonfinite),
    }
    return Segmentation(labels, (*findings, describe_device(model.device)), provenance)


def _bytes_needed(grid: Geometry, spec: ModelSpec) -> int:
    """Float32 on the model's grid: the image twice (before and after a step), the scores, and their weights."""
    return 4 * math.prod(grid.size_ijk) * (2 * len(spec.channels) + spec.classes + 1)


def _window_around(grid: Geometry, region: np.ndarray) -> Geometry:
    """The part of the grid that holds the points."""
    voxels = grid.map_points(region)
    size = np.asarray(grid.size_ijk)
    low = np.clip(np.floor(voxels.min(axis=0) + 0.5).astype(int), 0, size)
    high = np.clip(np.ceil(voxels.max(axis=0) + 0.5).astype(int), 0, size)
    if (high - low < 2).any():
        raise NoOverlap(
            f"The region covers {tuple((high - low).tolist())} voxels of the image",
            "a region inside the image",
            "move the region onto the structure",
        )
    return grid.window(tuple(low.tolist()), tuple((high - low).tolist()))


def _provenance(model: Model, started: float) -> dict[str, str]:
    return {
        "model": f"{model.spec.name} {model.spec.version}",
        "weights_sha256": model.spec.sha256["weights.safetensors"],
        "medsegreg": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": describe_device(model.device).message,
        "seconds": f"{time.perf_counter() - started:.1f}",
        "made": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
