"""A model ready to run: its description and its network with weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from ..files.model_package import ModelSpec, read_model, require_weights_fit
from ..files.model_store import model_folder
from .network import build_network


@dataclass(frozen=True, eq=False)
class Model:
    """What :func:`load_model` gives: ``network`` is in evaluation mode on ``device``."""

    spec: ModelSpec
    network: torch.nn.Module
    device: torch.device


def load_model(name: str | Path, device: torch.device | str = "cpu") -> Model:
    """A model by its name in the store, or by its folder.

    Raises:
        UnknownModel, DamagedModel, ModelMismatch: before anything is run.
    """
    spec, weights = read_model(model_folder(name))
    with torch.device("meta"):  # nothing is allocated for an architecture that the weights do not fit
        network = build_network(spec.architecture, len(spec.channels), spec.classes)
    require_weights_fit(network, weights, spec.name)
    network.load_state_dict(weights, assign=True)
    return Model(spec, network.to(device).eval(), torch.device(device))
