"""New heads for a network that is not new. Training walk: transfer or prune -> [heads] -> loop or distil.

A random head on trained features would, in its first steps, spoil them. So a new head is fitted before the training:
softmax regression of the labels on the features that it will see, everything else as it is (linear probing before
fine-tuning: Kumar et al., ICLR 2022).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import torch
from torch import nn
from torch.nn import functional

from ..files.model_spec import ModelSpec
from ..segment.network import build_network
from .batches import Batch
from .chance import Chance
from .checkpoint import Weights

BATCHES = 8
VOXELS = 1 << 14  # of a batch, that a head is fitted to
ITERATIONS = 50
Heads = dict[str, nn.Module]


def fit_heads(initial: Weights, spec: ModelSpec, batches: Iterable[Batch], device: torch.device) -> Weights:
    """The weights, and those of every head that they lack: a 1x1x1 convolution to the classes.

    Heads of overlapping regions are left as they are: a label does not say in which of them a voxel is.

    Args:
        initial: of the other layers.
        spec: of the model, with its architecture, channels and labels.
        batches: of the training; the first eight are looked at.
    """
    if spec.regions:
        return dict(initial)
    network = build_network(spec.architecture, len(spec.channels), spec.classes)
    network.load_state_dict({**network.state_dict(), **initial})
    network.to(device).train()
    heads: Heads = {
        name: module
        for name, module in network.named_modules()
        if f"{name}.weight" not in initial
        and isinstance(module, nn.Conv2d | nn.Conv3d)
        and set(module.kernel_size) == {1}
        and module.out_channels == spec.classes
    }
    fitted = dict(initial)
    for name, (features, labels) in _examples(network, heads, itertools.islice(batches, BATCHES), device).items():
        weight, bias = _regress(features, labels, spec.classes)
        head = heads[name]
        fitted[f"{name}.weight"] = weight.reshape(head.weight.shape).cpu()  # type: ignore[union-attr, operator, arg-type]
        if head.bias is not None:
            fitted[f"{name}.bias"] = bias.cpu()
    return fitted


@torch.no_grad()
def _examples(
    network: nn.Module, heads: Heads, batches: Iterable[Batch], device: torch.device
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """What each head sees at some known voxels, [V, features], and their labels, [V]."""
    seen: dict[str, torch.Tensor] = {}
    hooks = [
        module.register_forward_pre_hook(lambda _, inputs, name=name: seen.update({name: inputs[0]}))
        for name, module in heads.items()
    ]
    found: dict[str, list[tuple[torch.Tensor, torch.Tensor]]] = {}
    for number, (images, labels) in enumerate(batches):
        seen.clear()
        network(images)
        for name, features in seen.items():
            target = (
                functional.interpolate(labels[:, None].float(), features.shape[2:], mode="nearest").long().flatten()
            )
            order = Chance(number, device).uniform_noise(target.shape).argsort()
            chosen = order[target[order] >= 0][:VOXELS]
            found.setdefault(name, []).append((features.transpose(0, 1).flatten(1)[:, chosen].T, target[chosen]))
    for hook in hooks:
        hook.remove()
    return {name: (torch.cat([f for f, _ in parts]), torch.cat([t for _, t in parts])) for name, parts in found.items()}


def _regress(features: torch.Tensor, labels: torch.Tensor, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Softmax regression by L-BFGS, with a little shrinkage: weight [classes, features] and bias [classes]."""
    features = features.float()
    weight = features.new_zeros((classes, features.shape[1])).requires_grad_()
    bias = features.new_zeros(classes).requires_grad_()
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = functional.cross_entropy(features @ weight.T + bias, labels) + 1e-4 * weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)  # type: ignore[arg-type]
    return weight.detach(), bias.detach()
