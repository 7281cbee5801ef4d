"""What every reader of foreign models gives, and the checks that they share. Import walk: reader -> [imported]."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import torch
from pydantic import ValidationError

from ..errors import UnsupportedFile
from ..files.model_package import require_weights_fit
from ..files.model_spec import ModelSpec
from ..report import Finding
from ..segment.network import build_network


@dataclass(frozen=True)
class Wishes:
    """What the user chose; None leaves it to the source."""

    name: str | None = None
    licence: str | None = None
    configuration: str | None = None
    folds: tuple[int, ...] | None = None
    description: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Imported:
    """A model in this library's terms: one table of weights for each member of an ensemble, or a graph."""

    spec: ModelSpec
    weights: list[dict[str, torch.Tensor]]
    findings: list[Finding] = field(default_factory=list)
    previous: Imported | None = None
    graph: bytes = b""


def slug(text: str) -> str:
    """A model's name made of any text.

    >>> slug("Dataset291_TotalSegmentator part1")
    'dataset291-totalsegmentator-part1'
    """
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-.")[:64].rstrip("-.") or "model"


def checked_spec(content: dict[str, Any]) -> ModelSpec:
    """The description, with what no source states filled in; None stands for a default.

    Raises:
        UnsupportedFile: it does not fit the schema of model packages.
    """
    filled = {"version": "1.0.0", **{key: value for key, value in content.items() if value is not None}}
    try:
        return ModelSpec.model_validate(filled)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise UnsupportedFile(
            f"The model cannot be described here: {place}: {first['msg']} (found {str(first['input'])[:80]})",
            "a model that the format of packages can express",
            "correct the description, if you gave one",
        ) from None


def fitting_weights(
    spec: ModelSpec,
    channels: int,
    tensors: dict[str, torch.Tensor],
    superfluous: re.Pattern[str],
    prefix: str = "",
) -> dict[str, torch.Tensor]:
    """Those tensors that the network of ``spec`` has.

    Args:
        channels: inputs of the network.
        superfluous: names that may occur beyond them.
        prefix: put before each name.

    Raises:
        ModelMismatch: missing, further or wrongly shaped tensors; the first five are named.
    """
    with torch.device("meta"):  # nothing is allocated for an architecture that the weights do not fit
        network = build_network(spec.architecture, channels, spec.classes)
    kept = {prefix + name: tensor for name, tensor in tensors.items() if not superfluous.search(name)}
    require_weights_fit(network, kept, spec.name)
    return {name: t if t.is_floating_point() else t.float() for name, t in kept.items()}  # counters of batch norm
