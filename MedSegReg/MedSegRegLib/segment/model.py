"""A model ready to run: its description, and an engine for each member of its ensemble."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ..errors import ModelMismatch
from ..files.model_delta import add_delta, read_parent_weights
from ..files.model_package import read_package, read_weights, require_weights_fit
from ..files.model_signature import signature_state
from ..files.model_spec import ModelSpec
from ..files.model_store import model_folder
from ..progress import SILENT, Progress
from ..report import Finding
from .engines import Engine, Head, Source, choose_engine, make_engine, usable_device
from .network import build_network

PREVIOUS = "previous"


@dataclass(frozen=True, eq=False)
class Model:
    """What :func:`load_model` gives.

    Attributes:
        spec: the description.
        sources: the network of each member of the ensemble.
        engines: what runs them, in the same order, all on one device.
        previous: the first stage of a cascade.
        seconds_per_tile: of the whole ensemble, if it was measured.
        findings: how the engine was chosen.
        weights_sha256: of the weights of each member.
    """

    spec: ModelSpec
    sources: tuple[Source, ...]
    engines: tuple[Engine, ...]
    previous: Model | None = None
    seconds_per_tile: float | None = None
    findings: tuple[Finding, ...] = ()
    weights_sha256: tuple[str, ...] = ()

    @property
    def device(self) -> torch.device:
        """Where the engines take tiles."""
        return self.engines[0].device

    @property
    def heads(self) -> tuple[Head, ...]:
        """What makes scores of the members' joined features; empty where these are not fewer than scores."""
        heads = tuple(engine.head for engine in self.engines if engine.head)
        fewer = sum(head.weight.shape[1] for head in heads) < self.spec.classes
        return heads if fewer and len(heads) == len(self.engines) else ()

    @property
    def blended_features(self) -> int:
        """Channels that are blended: features of all members, or scores."""
        return sum(head.weight.shape[1] for head in self.heads) or self.spec.classes

    @property
    def weight_bytes(self) -> int:
        """Memory of all weights."""
        networks = [source.network for source in self.sources]
        tensors = [one.state_dict().values() for one in networks if not isinstance(one, bytes)]
        return sum(len(one) for one in networks if isinstance(one, bytes)) + sum(
            tensor.numel() * tensor.element_size() for one in tensors for tensor in one
        )

    def on(self, device: torch.device) -> Model:
        """The same model on another device, run by torch there."""
        if device == self.device:
            return self
        engines = tuple(make_engine("torch", source, device) for source in self.sources)
        return replace(self, engines=engines, seconds_per_tile=None)


def load_model(
    name: str | Path, device: torch.device | str = "cpu", engine: str | None = None, progress: Progress = SILENT
) -> Model:
    """A model by its name in the store, or by its folder.

    Args:
        name: of the model.
        device: where it runs; ``auto`` takes a GPU that computes, else the CPU.
        engine: one of ``ENGINE_NAMES``; ``auto`` takes the fastest one, measured once on this machine. None takes torch
            without measuring, and ``auto`` for a model that is an ONNX graph.
        progress: told before each engine is measured; may cancel at every step.

    Raises:
        UnknownModel, DamagedModel, ModelMismatch, MissingPackage, DeviceUnavailable: before anything is run; so is an
            adapted model whose parent is missing or has other weights.
    """
    folder = model_folder(name)
    noticed: tuple[Finding, ...] = ()
    if isinstance(device, str):
        device, noticed = usable_device(device)
    progress.check_cancelled()
    spec, files = read_package(folder)
    progress.check_cancelled()
    channels = len(spec.channels)
    previous = None
    if spec.previous_stage:
        previous = load_model(folder / PREVIOUS, device, engine, progress)
        channels += len(previous.spec.labels)
    parent = read_parent_weights(spec.parent, folder) if spec.parent else {}
    sources = []
    for number in range(len(spec.weights)):
        sources.append(_source(spec, files, number, channels, parent))
        progress.check_cancelled()
    signed = signature_state(folder).finding
    hashes = tuple(spec.sha256[name] for name in spec.weights)
    if engine is None and spec.architecture.name != "onnx":
        engines = tuple(make_engine("torch", source, device) for source in sources)
        return Model(spec, tuple(sources), engines, previous, None, (*noticed, signed), hashes)
    choice = choose_engine(sources[0], device, engine or "auto", progress)
    others = tuple(make_engine(choice.engine.name, source, device) for source in sources[1:])
    seconds = choice.seconds_per_tile * len(sources)
    return Model(
        spec, tuple(sources), (choice.engine, *others), previous, seconds, (*noticed, signed, *choice.findings), hashes
    )


def join_models(models: Sequence[Model]) -> Model:
    """An ensemble of models that look at the same grid and tiles and give the same labels.

    Raises:
        ModelMismatch: they differ in more than their weights.
    """
    first = models[0]
    for other in models[1:]:
        same = {
            "channels",
            "labels",
            "regions",
            "spacing_mm",
            "grid",
            "intensity",
            "tile_ijk",
            "tile_overlap",
            "tiling",
        }
        differing = [name for name in sorted(same) if getattr(other.spec, name) != getattr(first.spec, name)]
        if differing or other.previous or first.previous or other.device != first.device:
            raise ModelMismatch(
                f"'{other.spec.name}' and '{first.spec.name}' differ in {', '.join(differing) or 'stages or device'}",
                "models with the same channels, labels, grid and tiles",
                "run them one after the other",
            )
    seconds = [model.seconds_per_tile for model in models]
    return replace(
        first,
        sources=tuple(source for model in models for source in model.sources),
        engines=tuple(engine for model in models for engine in model.engines),
        seconds_per_tile=None if None in seconds else sum(s for s in seconds if s),
        findings=tuple(finding for model in models for finding in model.findings),
        weights_sha256=tuple(digest for model in models for digest in model.weights_sha256),
    )


def _source(
    spec: ModelSpec, files: dict[str, bytes], number: int, channels: int, parent: dict[str, torch.Tensor]
) -> Source:
    """The network of one member, with its weights (added to the parent's, if there is one), on the CPU."""
    content = files[spec.weights[number]]
    suffix = "" if len(spec.weights) == 1 else f"-{number}"
    graph, constants = files.get(f"int8{suffix}.xml"), files.get(f"int8{suffix}.bin")
    network: torch.nn.Module | bytes = content
    if spec.architecture.name != "onnx":
        weights = read_weights(content, spec.name)
        if spec.parent:
            weights = add_delta(parent, weights, spec.name)
        with torch.device("meta"):  # nothing is allocated for an architecture that the weights do not fit
            network = build_network(spec.architecture, channels, spec.classes)
        require_weights_fit(network, weights, spec.name)
        network.load_state_dict(weights, assign=True)
        network.eval()
    return Source(
        network,
        spec.architecture.model_dump_json(),
        channels,
        spec.tile_ijk[::-1],
        spec.architecture.multiple_kji,
        spec.architecture.dimensions,
        (graph, constants) if graph and constants else None,
    )
