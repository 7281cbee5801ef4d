"""ONNX and TorchScript files, which say what they compute but not on what. Import walk: run -> [described graph].

The user adds a description: the part of a ``model.json`` that the file does not hold.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import InvalidSetting, ModelMismatch
from ..files.model_spec import ModelSpec
from ..progress import Progress
from ..report import Finding
from .imported import Imported, Wishes, checked_spec, slug
from .isolation import read_graph_of

NEEDED = ("channels", "labels", "spacing_mm", "tile_ijk")
NOT_DESCRIBED = ("format", "architecture", "weights", "sha256", "previous_stage")
EXAMPLE = (
    '{"channels": [{"name": "T1", "modality": "MR"}], "labels": [{"value": 1, "name": "brain"}], '
    '"spacing_mm": [1, 1, 1], "tile_ijk": [128, 128, 128], "intensity": [{"step": "z_score"}]}'
)


def read_graph(path: Path, job: str, wishes: Wishes, progress: Progress) -> Imported:
    """The model package of one file, ``job`` being ``onnx`` or ``torchscript``.

    Raises:
        InvalidSetting: no description, or one that lacks something.
        ModelMismatch: the graph's input or output does not fit the description.
    """
    spec = _spec(path, wishes)
    sides = spec.tile_ijk[::-1][3 - spec.architecture.dimensions :]
    inputs = (1, len(spec.channels), *sides)
    graph, facts = read_graph_of(path, job, progress, inputs)
    _require_shape("input", facts["input"], inputs, path)
    _require_shape("output", facts["output"], (1, spec.classes, *sides), path)
    notes = [Finding.info(f"Its final {facts['final']} was left out: scores are compared as they are")]
    return Imported(spec, [], notes if facts["final"] else [], graph=graph)


def _spec(path: Path, wishes: Wishes) -> ModelSpec:
    given = wishes.description
    missing = [key for key in NEEDED if key not in given]
    barred = [key for key in NOT_DESCRIBED if key in given]
    if missing or barred:
        wrong = f"lacks {', '.join(missing)}" if missing else f"has {', '.join(barred)}"
        raise InvalidSetting(
            f"The description of '{path.name}' {wrong}",
            f"JSON such as {EXAMPLE}",
            "write it as model.json describes a model, without architecture and weights",
        )
    flat = isinstance(given["tile_ijk"], list) and given["tile_ijk"][2:] == [1]
    content: dict[str, Any] = {
        "title": path.stem,
        "description": f"Imported from {path.name}",
        "training": {"source": path.name},
        **given,
        "name": wishes.name or given.get("name") or slug(path.stem),
        "licence": wishes.licence or given.get("licence", "not stated"),
        "architecture": {"name": "onnx", "dimensions": 2 if flat else 3},
        "weights": ("network.onnx",),
    }
    return checked_spec(content)


def _require_shape(what: str, found: list[int], wanted: tuple[int, ...], path: Path) -> None:
    """Sizes of 0 are open."""
    if len(found) != len(wanted) or any(size not in (0, want) for size, want in zip(found, wanted, strict=True)):
        raise ModelMismatch(
            f"The {what} of '{path.name}' has the shape {found}",
            f"{list(wanted)}: one image, channels or classes, and the tile along k, j, i",
            "correct the description",
        )
