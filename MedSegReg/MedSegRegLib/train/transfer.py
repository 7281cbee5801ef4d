"""Starting from a trained model with other labels or channels. Training walk: model, data -> [transfer] -> run.

The network is the parent's but for its two ends. Every tensor whose shape depends on neither labels nor channels is
kept: encoder and decoder. The first convolution is made of the parent's: a channel that the parent knows by its name
keeps its weights, another one gets their mean over the parent's channels. The head is new, unless the labels are the
parent's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import nn

from ..errors import ModelMismatch
from ..files.architectures import Architecture
from ..files.model_package import read_spec
from ..files.model_spec import ChannelSpec, ModelSpec, ParentSpec, StandardSpec
from ..files.model_store import model_folder
from ..segment.model import load_model
from ..segment.network import build_network
from .propose import propose_settings
from .settings import TrainingSettings

INHERITED = ("architecture", "spacing_mm", "grid", "intensity", "tile_ijk", "tile_overlap", "tiling")
Weights = dict[str, torch.Tensor]
Shapes = dict[str, torch.Size]


@dataclass(frozen=True)
class Transfer:
    """What a training starts with.

    Attributes:
        kept: names of the tensors that are the parent's.
        changed: of those made of the parent's for other channels.
        new: of those that are random.
        weights: of ``kept`` and ``changed``.
        sentence: what was loaded and what is new, for people.
    """

    kept: tuple[str, ...]
    changed: tuple[str, ...]
    new: tuple[str, ...]
    weights: Weights
    sentence: str


def propose_transfer(parent: str | Path, data: Path, name: str) -> TrainingSettings:
    """Settings for a data set, as :func:`propose.propose_settings`, with the network and the grid of a model.

    Architecture, spacing, grid, tiles and intensities are the parent's; labels and channels are those of the data. A
    channel that the parent does not know is normalised as the data ask for.

    Raises:
        ModelMismatch: a model that cannot be started from.
        DatasetError, InvalidSetting: of the data.
    """
    folder = model_folder(parent)
    spec = _startable(read_spec(folder))
    proposed = propose_settings(data, name)
    model = proposed.model.model_copy(
        update={**{key: getattr(spec, key) for key in INHERITED}, "channels": _channels(spec, proposed.model)}
    )
    return start_from(folder, proposed.model_copy(update={"model": model}))


def start_from(parent: str | Path, settings: TrainingSettings) -> TrainingSettings:
    """The settings with a model to start from, and with what is taken from it among what the card says.

    Raises:
        ModelMismatch: a model that cannot be started from, or a network that takes nothing from it.
    """
    spec = _startable(read_spec(model_folder(parent)), settings.model.standard)
    digest = spec.sha256[spec.weights[0]]
    started = settings.model_copy(update={"start": ParentSpec(name=spec.name, sha256=digest)})
    said = transfer(started, parent).sentence
    note = {"started_from": f"{spec.name} {spec.version}, weights sha256 {digest}", "taken_from_it": said}
    model = settings.model.model_copy(update={"training": {**settings.model.training, **note}})
    return started.model_copy(update={"model": model})


def transfer(settings: TrainingSettings, parent: str | Path | None = None) -> Transfer:
    """The weights that a training starts with.

    Args:
        settings: with ``start``.
        parent: name or folder of the model, where it is not installed under its name.

    Raises:
        UnknownModel, DamagedModel: the parent is not there, or not whole.
        ModelMismatch: it has other weights than the settings say, or none that fit.
    """
    assert settings.start is not None
    model, spec = load_model(model_folder(parent or settings.start.name)), settings.model
    if settings.start.sha256 not in model.weights_sha256:
        raise ModelMismatch(
            f"'{model.spec.name}' has the weights {model.weights_sha256[0][:12]}",
            f"the very weights that the settings start from, {settings.start.sha256[:12]}",
            "install that model, or start from the present one in a new output folder",
        )
    source = cast(nn.Module, model.sources[0].network).state_dict()
    wanted = _shapes(spec.architecture, len(spec.channels), spec.classes)
    ends = _ends(spec.architecture, len(spec.channels), spec.classes)
    same_labels = _scored(spec) == _scored(model.spec)
    sources = matched_channels(model.spec, spec.channels)
    kept: Weights = {}
    changed: Weights = {}
    for name, shape in wanted.items():
        given = source.get(name)
        if given is None or (name in ends.labels and not same_labels):
            continue
        if name in ends.channels and sources != list(range(len(model.spec.channels))):
            given = _mixed(given, sources, len(model.spec.channels))
            if given.shape == shape:
                changed[name] = given
        elif given.shape == shape:
            kept[name] = given
    new = tuple(name for name in wanted if name not in kept and name not in changed)
    if not kept.keys() - ends.channels - ends.labels:
        raise ModelMismatch(
            f"Nothing of '{model.spec.name}' fits the network of the settings",
            f"the architecture {model.spec.architecture.name} with the parent's features",
            "leave the settings out, so that the parent's architecture is taken",
        )
    sentence = _sentence(kept, changed, new, wanted, len(model.sources))
    return Transfer(tuple(kept), tuple(changed), new, {**kept, **changed}, sentence)


def matched_channels(parent: ModelSpec, channels: Sequence[ChannelSpec]) -> list[int | None]:
    """For each channel the parent's that it is: by name, or all in their order where there are as many. None: new."""
    names = [one.name.casefold() for one in parent.channels]
    found = [names.index(one.name.casefold()) if one.name.casefold() in names else None for one in channels]
    if not any(one is not None for one in found) and len(channels) == len(names):
        return list(range(len(names)))
    return found


def _scored(spec: ModelSpec) -> tuple[object, ...]:
    """What the network's outputs mean."""
    return spec.regions, *(label.name for label in spec.labels)


def _startable(spec: ModelSpec, standard: StandardSpec | None = None) -> ModelSpec:
    elsewhere = spec.standard is not None and (standard is None or standard.template != spec.standard.template)
    if spec.architecture.name == "onnx" or spec.previous_stage or elsewhere:
        raise ModelMismatch(
            f"'{spec.name}' is an ONNX graph, a cascade, or works in the space of a template, and the settings do not",
            "a network of the registry that sees images as the new one does",
            "start from another model, or train from scratch",
        )
    return spec


def _channels(parent: ModelSpec, proposed: ModelSpec) -> tuple[ChannelSpec, ...]:
    """The parent's where they are known and of the same kind, under the names of the data; else as the data ask for."""
    channels = []
    for channel, source in zip(proposed.channels, matched_channels(parent, proposed.channels), strict=True):
        known = channel if source is None else parent.channels[source]
        if source is None or (known.modality != "any" and (known.modality == "CT") != (channel.modality == "CT")):
            channels.append(channel.model_copy(update={"intensity": channel.intensity or proposed.intensity}))
        else:
            channels.append(known.model_copy(update={"name": channel.name}))
    return tuple(channels)


@dataclass(frozen=True)
class _Ends:
    """Names of the tensors whose shapes depend on the number of channels, and on the number of labels."""

    channels: frozenset[str]
    labels: frozenset[str]


def _ends(architecture: Architecture, channels: int, classes: int) -> _Ends:
    here = _shapes(architecture, channels, classes)
    further = _shapes(architecture, channels + 1, classes), _shapes(architecture, channels, classes + 1)
    return _Ends(*(frozenset(name for name in here if here[name] != other[name]) for other in further))


def _shapes(architecture: Architecture, channels: int, classes: int) -> Shapes:
    with torch.device("meta"):
        network = build_network(architecture, channels, classes)
    return {name: tensor.shape for name, tensor in network.state_dict().items()}


def _mixed(weight: torch.Tensor, sources: Sequence[int | None], channels: int) -> torch.Tensor:
    """A first convolution [outputs, channels, ...] for other channels, with the same sum over all of them."""
    mean = weight[:, :channels].mean(1)
    parts = [mean if source is None else weight[:, source] for source in sources]
    return torch.stack(parts, 1) * (channels / len(sources))


def _sentence(kept: Weights, changed: Weights, new: Sequence[str], wanted: Shapes, members: int) -> str:
    count, loaded = sum(shape.numel() for shape in wanted.values()), sum(tensor.numel() for tensor in kept.values())
    parts = [f"{len(kept)} of {len(wanted)} tensors ({100 * loaded / count:.1f} % of the weights)"]
    parts += [f"of its {members} networks the first one"] if members > 1 else []
    parts += [f"changed for other channels: {', '.join(changed)}"] if changed else []
    parts += [f"new: {', '.join(new)}"] if new else []
    return "; ".join(parts)
