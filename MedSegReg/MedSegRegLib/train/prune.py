"""A thinner U-Net out of a trained one: whole channels are left out. Compression walk: model -> [prune] -> distil.

What one convolution gives and others take is a wire. All that touches a wire keeps the same of its channels: the two
halves of a joined skip connection, and everything that residual shortcuts add to one another. A channel's importance is
the size of what its normalisation lets through (Liu et al., Network Slimming, ICCV 2017) times the norm of the weights
that take it (after Li et al., ICLR 2017).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import cast

import torch
from torch import nn

from ..errors import ModelMismatch
from ..files.architectures import Architecture, UNetArchitecture
from ..segment.unet import UNet

Weights = dict[str, torch.Tensor]
IMAGE, SCORES = "image", "scores"
HEADS = "decoder.seg_layers"
PRUNABLE = ("plain_conv_unet", "residual_encoder_unet")


@dataclass(frozen=True)
class Layer:
    """A convolution: what it takes (several wires are joined), what it gives, and the normalisation behind it."""

    name: str
    takes: tuple[str, ...]
    gives: str
    norm: str = ""


def thinner(architecture: Architecture, share: float = 0.5) -> UNetArchitecture:
    """The architecture with this share of the channels of every stage.

    Raises:
        ModelMismatch: it is not a U-Net of the nnU-Net family.
    """
    if architecture.name not in PRUNABLE:
        raise ModelMismatch(
            f"'{architecture.name}' has no thinner form here", f"one of {', '.join(PRUNABLE)}", "choose another model"
        )
    unet = cast(UNetArchitecture, architecture)
    widths = tuple(max(1, round(share * width)) for width in unet.features)
    return unet.model_copy(update={"features": widths})


def prune(network: UNet, architecture: UNetArchitecture, thin: UNetArchitecture) -> Weights:
    """The weights of the thinner network: of every wire the most important channels, in their order.

    Args:
        network: of ``architecture``.
        thin: from :func:`thinner`.
    """
    layers = wires_of(network, architecture)
    weights = dict(network.state_dict())
    width = dict(zip(architecture.features, thin.features, strict=True))
    kept = {
        wire: importance.topk(width[len(importance)]).indices.sort().values
        for wire, importance in _importance(layers, weights).items()
    }
    sizes = {layer.gives: _outputs(layer, weights) for layer in layers}
    pruned: Weights = {}
    for layer in layers:
        weight = weights[f"{layer.name}.weight"]
        taken = _joined([wire for wire in layer.takes if wire != IMAGE], kept, sizes)
        given = kept.get(layer.gives)
        inputs, outputs = (0, 1) if _is_transposed(layer) else (1, 0)
        if taken is not None:
            weight = weight.index_select(inputs, taken)
        pruned[f"{layer.name}.weight"] = weight if given is None else weight.index_select(outputs, given)
        for name in (f"{layer.name}.bias", f"{layer.norm}.weight", f"{layer.norm}.bias"):
            if name in weights:
                pruned[name] = weights[name] if given is None else weights[name][given]
    return {name: tensor.detach().clone() for name, tensor in pruned.items()}


def wires_of(network: UNet, architecture: UNetArchitecture) -> list[Layer]:
    """Every convolution of the network with the wires that it takes and gives."""
    residual = architecture.name == "residual_encoder_unet"
    layers, skips = (_residual_encoder if residual else _plain_encoder)(network)
    below = skips[-1]
    for level, skip in enumerate(skips[-2::-1]):
        up = f"up {level}"
        layers.append(Layer(f"decoder.transpconvs.{level}", (below,), up))
        takes: tuple[str, ...] = (up, skip)
        for block in range(len(cast(nn.Sequential, network.decoder.stages[level].convs))):
            below = f"decoder {level}.{block}"
            layers.append(_block(f"decoder.stages.{level}.convs.{block}", takes, below))
            takes = (below,)
        layers.append(Layer(f"{HEADS}.{level}", (below,), SCORES))
    return layers


def _plain_encoder(network: UNet) -> tuple[list[Layer], list[str]]:
    """Its layers, and the wire that each stage gives."""
    layers, skips, wire = [], [], IMAGE
    for number, stage in enumerate(network.encoder.stages):
        for block in range(len(stage[0].convs)):  # type: ignore[index]
            before, wire = wire, f"encoder {number}.{block}"
            layers.append(_block(f"encoder.stages.{number}.0.convs.{block}", (before,), wire))
        skips.append(wire)
    return layers, skips


def _residual_encoder(network: UNet) -> tuple[list[Layer], list[str]]:
    """The same; a stage is one wire, shared with the stage before unless a projection stands between them."""
    wire = "stem"
    layers, skips = [_block("encoder.stem.convs.0", (IMAGE,), wire)], []
    for number, stage in enumerate(network.encoder.stages):
        for block, residual in enumerate(stage.blocks):  # type: ignore[arg-type]
            name, before = f"encoder.stages.{number}.blocks.{block}", wire
            projections = [place for place, part in enumerate(residual.skip) if hasattr(part, "conv")]
            if projections:
                wire = f"encoder {number}"
                layers.append(_block(f"{name}.skip.{projections[0]}", (before,), wire))
            layers.append(_block(f"{name}.conv1", (before,), name))
            layers.append(_block(f"{name}.conv2", (name,), wire))
        skips.append(wire)
    return layers, skips


def _block(name: str, takes: tuple[str, ...], gives: str) -> Layer:
    return Layer(f"{name}.conv", takes, gives, f"{name}.norm")


def _importance(layers: list[Layer], weights: Weights) -> dict[str, torch.Tensor]:
    """Of each channel of each wire between two convolutions."""
    let_through: dict[str, torch.Tensor] = {}
    taken: dict[str, torch.Tensor] = defaultdict(lambda: torch.zeros(()))
    for layer in layers:
        weight = weights[f"{layer.name}.weight"].detach().float()
        if layer.gives != SCORES:
            size = weight.transpose(0, 1) if _is_transposed(layer) else weight
            squares = size.flatten(1).square().sum(1)
            if layer.norm:
                squares = weights[f"{layer.norm}.weight"].square() + weights[f"{layer.norm}.bias"].square()
            let_through[layer.gives] = let_through.get(layer.gives, torch.zeros(())) + squares
    for layer in layers:
        weight = weights[f"{layer.name}.weight"].detach().float()
        by_input = (weight if _is_transposed(layer) else weight.transpose(0, 1)).flatten(1).square().sum(1)
        wires = [wire for wire in layer.takes if wire != IMAGE]
        for wire, squares in zip(
            wires, by_input.split([len(let_through[w]) for w in wires]) if wires else (), strict=True
        ):
            taken[wire] = taken[wire] + squares
    return {wire: (squares * taken[wire]).sqrt() for wire, squares in let_through.items()}


def _joined(wires: list[str], kept: Weights, sizes: dict[str, int]) -> torch.Tensor | None:
    """Places of the kept channels among those of joined wires; None for the image alone."""
    places, start = [], 0
    for wire in wires:
        places.append(kept[wire] + start)
        start += sizes[wire]
    return torch.cat(places) if places else None


def _outputs(layer: Layer, weights: Weights) -> int:
    return weights[f"{layer.name}.weight"].shape[1 if _is_transposed(layer) else 0]


def _is_transposed(layer: Layer) -> bool:
    return "transpconvs" in layer.name
