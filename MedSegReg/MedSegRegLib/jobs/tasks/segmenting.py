"""Tasks ``segment`` and ``plan``; models stay loaded. Jobs walk: worker -> [segmenting] -> segmentation walk."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from ...device import free_host_bytes
from ...errors import InvalidSetting
from ...files.model_package import read_spec
from ...files.model_store import model_folder
from ...geometry import Geometry
from ...progress import Progress
from ...report import findings_data
from ...segment.model import Model, join_models, load_model
from ...segment.options import SegmentationOptions
from ...segment.predict import wanted_labels
from ...workflows.locate import plan_anywhere, segment_anywhere
from ..values import JobResult, Voxels
from ..work import Work
from .plain import points_of

LOADING_SHARE = 0.1
MOST_WARM = 2

_warm: OrderedDict[tuple[object, ...], Model] = OrderedDict()


def segment(
    work: Work,
    *,
    model: str | Sequence[str],
    device: str = "auto",
    engine: str = "auto",
    options: dict[str, Any] | None = None,
    region: list[list[float]] | None = None,
) -> JobResult:
    """See :mod:`MedSegRegLib.jobs`."""
    names, chosen = _names(model), _options(options or {})
    wanted_labels(read_spec(model_folder(names[0])), chosen.structures)  # before engines are measured
    images = {name: work.image(name) for name in work.values}
    loaded = load_warm(names, device, engine, work.progress.part(0.0, LOADING_SHARE))
    result = segment_anywhere(
        images["image"] if set(images) == {"image"} else images,
        loaded,
        chosen,
        device=device,
        region=points_of(region),
        progress=work.progress.part(LOADING_SHARE, 1.0),
    )
    values: dict[str, Any] = {"labels": result.labels}
    if result.confidence is not None:
        maps = {"margin": result.confidence.margin, "entropy": result.confidence.entropy}
        values |= {name: Voxels(map_.cpu().numpy(), result.labels.geometry, name) for name, map_ in maps.items()}
    return JobResult({"provenance": result.provenance, "findings": findings_data(result.findings)}, values)


def plan(
    work: Work,
    *,
    model: str | Sequence[str],
    size_ijk: list[int],
    ijk_to_ras: list[list[float]],
    device: str = "auto",
    engine: str = "auto",
    region: list[list[float]] | None = None,
    mirror: bool = False,
) -> JobResult:
    """See :mod:`MedSegRegLib.jobs`."""
    i, j, k = size_ijk
    geometry = Geometry((i, j, k), np.array(ijk_to_ras))
    loaded = load_warm(_names(model), device, engine, work.progress)
    expected = plan_anywhere(loaded, geometry, points_of(region), mirror)
    facts = {**asdict(expected), "device": str(expected.device), "blend_on": str(expected.blend_on)}
    facts |= {"sentence": expected.sentence(), "free_host_bytes": free_host_bytes()}
    return JobResult({**facts, "findings": findings_data(loaded.findings)}, {})


def load_warm(names: Sequence[str], device: str, engine: str, progress: Progress) -> Model:
    """A model, or an ensemble of several: the one that was used last or the one before, else it is loaded.

    A model whose description was written anew is loaded again.
    """
    folders = [model_folder(name) for name in names]
    written = [(folder / "model.json").stat().st_mtime_ns for folder in folders]
    key = (*folders, *written, device, engine)
    if key in _warm:
        _warm.move_to_end(key)
        return _warm[key]
    while len(_warm) >= MOST_WARM:
        _warm.popitem(last=False)
    progress.update(0.0, "loading the model")
    models = [load_model(folder, device, engine, progress) for folder in folders]
    _warm[key] = join_models(models) if len(models) > 1 else models[0]
    return _warm[key]


def _names(model: str | Sequence[str]) -> list[str]:
    return [model] if isinstance(model, str) else list(model)


def _options(given: dict[str, Any]) -> SegmentationOptions:
    try:
        return SegmentationOptions(**{**given, "structures": tuple(given.get("structures", ()))})
    except TypeError as error:
        raise InvalidSetting(f"The options are {given} ({error})", "SegmentationOptions", "correct them") from None
