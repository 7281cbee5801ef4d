"""The segmentation walk in one function: Image -> check -> prepare -> network over tiles -> restore -> Labels."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import torch

from .. import __version__
from ..check_image import Need, check_image
from ..errors import InvalidSetting
from ..files.model_spec import ModelSpec
from ..geometry import Geometry
from ..image import Image, Labels
from ..preprocess import ClipStandardize, CtWindow
from ..progress import SILENT, Progress
from ..report import Finding
from ..resample import resample_image
from .channels import join_channels
from .decide import Decision
from .ladder import Rung, rungs_of, step_down
from .model import Model, load_model
from .options import DEFAULTS, SegmentationOptions
from .plan import make_plan
from .postprocess import keep_largest_component, remove_islands
from .prepare import grid_of, prepare, thick_axis, window_around
from .restore import Restorer
from .skip import holds_body
from .stream import Streaming, stream_order, stream_planes
from .tiles import lay_tiles, pad_to_tiles


@dataclass(frozen=True, eq=False)
class Confidence:
    """How sure the network was at each voxel, on the grid of the image.

    Attributes:
        margin: [K, J, I] uint8, 255 for certain: probability of the label less that of the next one.
        entropy: [K, J, I] uint8, 0 for certain, 255 where all labels are equally probable.
    """

    margin: torch.Tensor
    entropy: torch.Tensor


@dataclass(frozen=True, eq=False)
class Segmentation:
    """What a segmentation gives.

    Attributes:
        labels: on the grid of the image, named after it.
        findings: warnings and notes on the input and the run.
        provenance: model, weights, versions, device, settings, time; plain text values for node attributes.
        confidence: if it was asked for.
    """

    labels: Labels
    findings: tuple[Finding, ...]
    provenance: dict[str, str]
    confidence: Confidence | None = None


def segment(
    image: Image | Mapping[str, Image],
    model: Model | str | Path,
    options: SegmentationOptions = DEFAULTS,
    *,
    device: str = "auto",
    region: np.ndarray | None = None,
    to_standard: np.ndarray | None = None,
    progress: Progress = SILENT,
) -> Segmentation:
    """Segment one image.

    Memory does not grow with the number of labels: see ``stream`` and ``restore``.

    Args:
        image: any orientation and spacing; the result lies on its own grid. For a model of several channels one image
            with these, or images by the names of the channels; then the result lies on the grid of the first channel.
        model: name or folder of a model, or a loaded one (then its device is used).
        options: what to give and how carefully.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        region: RAS mm points [N, 3]; only their bounding box, along the axes of the model's grid, is looked at.
        to_standard: for a model that works in the space of a template: [4, 4], RAS mm of the image to those of the
            template (``workflows.locate`` finds it); without it the image is taken to be in that space.
        progress: told before each tile; may cancel.

    Raises:
        InputError, ModelError, DeviceUnavailable: before any heavy work.
        NoOverlap: the region lies outside the image.
        NonFiniteOutput: the network gave NaN.
    """
    started = time.perf_counter()
    if not isinstance(model, Model):
        model = load_model(model, device)
    spec = model.spec
    wanted = wanted_labels(spec, options.structures)
    if not isinstance(image, Image):
        image = join_channels(image, spec)
    wanted_window = None if region is None else window_around(_searched(image.geometry, spec), region)
    window = wanted_window if spec.standard is None else None
    plan = make_plan(model, image.geometry, window, options.mirror)
    image, findings = check_image(image, need_of(spec, plan.host_bytes), options.replace_nonfinite)
    placed = image if to_standard is None else replace(image, geometry=image.geometry.moved(to_standard))
    where = None if spec.standard else region
    with torch.no_grad():
        (restored, ran_on), steps = step_down(
            rungs_of(spec, model.device, plan.batch),
            lambda rung: _run(model, placed, placed.geometry, options, where, rung, progress.part(0.0, 0.95)),
        )
    progress.update(0.95, "cleaning labels")
    labels = Labels(restored.labels, image.geometry, spec.structures, image.name)
    if spec.standard and wanted_window is not None:
        _clear_outside(labels, wanted_window)
    labels = _clean(labels, spec, options, wanted, model.device)
    progress.update(1.0, "done")
    return Segmentation(
        labels,
        (*findings, *model.findings, *steps),
        _provenance(ran_on, started) | _settings(spec, options, region),
        None if restored.confidence is None else Confidence(*restored.confidence),
    )


def _searched(geometry: Geometry, spec: ModelSpec) -> Geometry:
    """The grid along whose axes a region is cut: the model's, or the image's where that has no place in its world."""
    return geometry if spec.standard else grid_of(geometry, spec)


def _clear_outside(labels: Labels, window: Geometry) -> None:
    """Nothing but the part of the labels' grid that a window covers."""
    start = np.rint(labels.geometry.map_points(window.origin_ras)).astype(int)
    inside = torch.zeros_like(labels.tensor, dtype=torch.bool)
    i, j, k = (slice(s, s + n) for s, n in zip(start, window.size_ijk, strict=True))
    inside[k, j, i] = True
    labels.tensor[~inside] = 0


def _run(
    model: Model,
    image: Image,
    geometry: Geometry,
    options: SegmentationOptions,
    region: np.ndarray | None,
    rung: Rung,
    progress: Progress,
) -> tuple[Restorer, Model]:
    """Labels on ``geometry``, in one of the ways of the ladder, and the model on the device that gave them."""
    spec = model.spec.model_copy(update={"tile_ijk": rung.tile_ijk})
    model = model.on(rung.device)
    prepared = prepare(image.with_tensor(image.tensor.to(rung.blend_on)), spec, region)
    if model.previous is not None:
        prepared = _add_previous_stage(model.previous, image, prepared, rung, progress.part(0.0, 0.3))
        progress = progress.part(0.3, 1.0)
    tiling = lay_tiles(spec, prepared.geometry.shape_kji)
    order = stream_order(tiling)
    decision = Decision(model.heads, spec.regions, spec.classes, rung.blend_on, spec.merged)
    nearest = thick_axis(spec, prepared.geometry, geometry, prepared.geometry)
    restorer = Restorer(
        prepared.geometry.exchanged(order),
        geometry,
        decision,
        nearest=tuple(2 - order.index(2 - axis) for axis in nearest),
        confidence=options.confidence,
    )
    mirror = tuple("kji".index(axis) for axis in spec.tiling.mirror) if options.mirror else ()
    padded = pad_to_tiles(prepared.tensor, tiling, spec.tiling.padding)
    planes = stream_planes(
        model.engines,
        padded.permute(0, *(1 + axis for axis in order)),
        tiling.exchanged(order),
        Streaming(order, model.blended_features, rung.batch, mirror, rung.blend_on),
        holds_body(prepared.tensor) if options.skip_air else None,
        progress,
    )
    for group in planes:
        restorer.add(group)
    return restorer, model


def _add_previous_stage(previous: Model, image: Image, prepared: Image, rung: Rung, progress: Progress) -> Image:
    """The labels of a cascade's first stage as further channels, one a label, on the grid of the second stage.

    They are found on the image's own grid, and the label with the largest share of a voxel's neighbourhood is taken, as
    in nnU-Net.
    """
    stage = replace(rung, tile_ijk=previous.spec.tile_ijk)
    found = _run(previous, image, image.geometry, DEFAULTS, None, stage, progress)[0].labels.to(rung.blend_on)
    grid = prepared.geometry
    largest = torch.full(grid.shape_kji, -1.0, device=rung.blend_on)
    labels = torch.zeros(grid.shape_kji, dtype=torch.int32, device=rung.blend_on)
    for value in range(len(previous.spec.labels) + 1):
        share = resample_image(Image((found == value).float()[None], image.geometry), grid).tensor[0]
        labels[share > largest] = value
        largest = torch.maximum(largest, share)
    channels = torch.stack([(labels == label.value).to(prepared.tensor) for label in previous.spec.labels])
    return prepared.with_tensor(torch.cat((prepared.tensor, channels)))


def need_of(spec: ModelSpec, host_bytes: int | None = None) -> Need:
    """What a model needs of an image."""
    steps = [step for channel in spec.channels for step in channel.intensity or spec.intensity]
    ranges = [channel.training_range for channel in spec.channels]
    return Need(
        "segment",
        channels=len(spec.channels),
        allow_single_slice=True,
        bytes_needed=host_bytes,
        contrast=not any(isinstance(step, CtWindow | ClipStandardize) for step in steps),
        training_range=ranges[0] if len(ranges) == 1 else None,
    )


def wanted_labels(spec: ModelSpec, structures: tuple[str, ...]) -> tuple[int, ...]:
    """Values of the labels that were asked for; all of them when none was named.

    Raises:
        InvalidSetting: the model has no structure of that name.
    """
    values = {label.name.casefold(): label.value for label in spec.labels}
    unknown = [name for name in structures if name.casefold() not in values]
    if unknown:
        raise InvalidSetting(
            f"'{spec.name}' has no structure '{unknown[0]}'",
            f"some of {', '.join(label.name for label in spec.labels)}",
            "name structures of this model, see 'medsegreg model show'",
        )
    return tuple(dict.fromkeys(values[name.casefold()] for name in structures)) or tuple(values.values())


def _clean(
    labels: Labels, spec: ModelSpec, options: SegmentationOptions, wanted: tuple[int, ...], device: torch.device
) -> Labels:
    if len(wanted) < len(spec.labels):
        kept = torch.zeros(len(spec.labels) + 1, dtype=labels.tensor.dtype)
        kept[list(wanted)] = torch.tensor(wanted, dtype=labels.tensor.dtype)
        for plane in labels.tensor:
            plane[:] = kept[plane.int()]
        labels = replace(labels, structures=tuple(s for s in spec.structures if s.value in wanted))
    if _keeps_largest(spec, options):
        labels = keep_largest_component(labels, device)
    return remove_islands(labels, options.islands_mm3, device) if options.islands_mm3 > 0 else labels


def _keeps_largest(spec: ModelSpec, options: SegmentationOptions) -> bool:
    return spec.keep_largest_component if options.largest_component is None else options.largest_component


def _settings(spec: ModelSpec, options: SegmentationOptions, region: np.ndarray | None) -> dict[str, str]:
    return {
        "region": "whole image" if region is None else f"RAS mm {region.min(0).round(1)} to {region.max(0).round(1)}",
        "structures": ", ".join(options.structures) or "all",
        "mirror": str(options.mirror and bool(spec.tiling.mirror)),
        "skip_air": str(options.skip_air),
        "largest_component": str(_keeps_largest(spec, options)),
        "islands_mm3": f"{options.islands_mm3:g}",
        "replace_nonfinite": str(options.replace_nonfinite),
    }


def _parent_of(spec: ModelSpec) -> dict[str, str]:
    """Of an adapted model, what its differences were added to."""
    return {"parent": spec.parent.name, "parent_sha256": spec.parent.sha256} if spec.parent else {}


def _provenance(model: Model, started: float) -> dict[str, str]:
    return {
        "model": f"{model.spec.name} {model.spec.version}",
        "weights_sha256": " ".join(model.weights_sha256),
        **_parent_of(model.spec),
        "medsegreg": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": str(model.device),
        "engine": model.engines[0].description,
        "seconds": f"{time.perf_counter() - started:.1f}",
        "made": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
