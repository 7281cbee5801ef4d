"""A network, changed a little by a few examples. Adaptation walk: trials -> [fine_tune] -> differences of weights.

Convolutions keep their weights and get low-rank adapters beside them (Hu et al., ICLR 2022): a difference that is the
product of two thin matrices. Normalisations, biases and layers so small that an adapter would not be smaller are
trained as they are.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
from pydantic import Field
from torch import nn
from torch.nn.utils import parametrize

from ..files.architectures import Strict
from ..files.model_delta import LEFT, RIGHT, Weights
from ..files.model_spec import ModelSpec
from ..progress import SILENT, Progress
from .augment import Augmentation, augment
from .batches import Batch, stack
from .chance import Chance
from .dataset import Example
from .losses import deep_supervision_loss
from .optimise import descend
from .validate import predict_labels

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class FineTuning(Strict):
    """How an adaptation is trained.

    Attributes:
        steps: of ``batch_size`` patches each.
        rank: of the adapters.
        learning_rate: peak of Adam's rate, after ten steps; a half cosine takes it to zero.
        corrected: share of the patches that lie around a voxel that the model had wrong; the others lie around
            labelled voxels.
    """

    steps: int = Field(40, ge=1)
    batch_size: int = Field(2, ge=1)
    rank: int = Field(4, ge=1, le=64)
    learning_rate: float = Field(5e-3, gt=0)
    corrected: float = Field(0.5, ge=0, le=1)
    seed: int = 0
    augmentation: Augmentation = Augmentation(foreground_probability=0.9)


class LowRank(nn.Module):
    """The difference ``left @ right`` beside a weight [outputs, ...]; zero in the beginning."""

    def __init__(self, weight: torch.Tensor, rank: int, chance: Chance) -> None:
        super().__init__()
        width = weight[0].numel()
        self.left = nn.Parameter(torch.zeros(len(weight), rank, device=weight.device))
        self.right = nn.Parameter(chance.normal_noise((rank, width)) / math.sqrt(width))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight + (self.left @ self.right).view_as(weight)


def fine_tune(
    network: nn.Module,
    examples: Sequence[Example],
    spec: ModelSpec,
    settings: FineTuning,
    device: torch.device,
    progress: Progress = SILENT,
) -> Weights:
    """Train adapters on the examples; the network itself stays as it is.

    Returns:
        Differences by the names of the network's tensors: those of an adapter as ``<name>.left`` and ``<name>.right``.

    Raises:
        Diverged: the loss is not finite.
        Cancelled: between two steps.
    """
    network = copy.deepcopy(network).to(device).eval()
    wrong = [_wrong(network, example, spec) for example in examples]
    network.train()
    for module in network.modules():
        if isinstance(module, BATCH_NORMS):
            module.eval()
    adapters, plain = _make_trainable(network, settings.rank, Chance(settings.seed, device))
    before = {name: parameter.detach().clone() for name, parameter in plain.items()}
    trained = [*plain.values(), *(parameter for one in adapters.values() for parameter in one.parameters())]

    def loss_of(step: int) -> torch.Tensor:
        images, labels = _batch(examples, wrong, spec, settings, step, device)
        scores = network(images)
        return deep_supervision_loss(scores if isinstance(scores, list) else [scores], labels)

    descend(trained, loss_of, settings.steps, settings.learning_rate, progress, "adapting")
    differences = {name: parameter.detach() - before[name] for name, parameter in plain.items()}
    for name, adapter in adapters.items():
        differences |= {name + LEFT: adapter.left.detach(), name + RIGHT: adapter.right.detach()}
    return {name: tensor.cpu() for name, tensor in differences.items()}


def _make_trainable(
    network: nn.Module, rank: int, chance: Chance
) -> tuple[dict[str, LowRank], dict[str, nn.Parameter]]:
    """Adapters by the name of their weight, and the parameters that are trained as they are."""
    parameters = dict(network.named_parameters())
    adapters, plain = {}, {}
    for name, parameter in parameters.items():
        parameter.requires_grad_(False)
        small = parameter.ndim < 2 or rank * (len(parameter) + parameter[0].numel()) >= parameter.numel()
        if small:
            parameter.requires_grad_(True)
            plain[name] = parameter
        elif name.endswith(".weight"):
            adapters[name] = LowRank(parameter, rank, chance)
            parametrize.register_parametrization(
                network.get_submodule(name.removesuffix(".weight")), "weight", adapters[name]
            )
    return adapters, plain


def _wrong(network: nn.Module, example: Example, spec: ModelSpec) -> torch.Tensor:
    """[K, J, I] bool: where the network does not give the known label."""
    predicted = predict_labels(network, example.image, spec)
    return (predicted != example.labels) & (example.labels >= 0)


def _batch(
    examples: Sequence[Example],
    wrong: Sequence[torch.Tensor],
    spec: ModelSpec,
    settings: FineTuning,
    step: int,
    device: torch.device,
) -> Batch:
    """Patches of the examples in turn."""
    pairs = []
    for number in range(step * settings.batch_size, (step + 1) * settings.batch_size):
        chance = Chance(settings.seed + 1 + number, device)
        n = number % len(examples)
        focus = wrong[n] if chance.happens(settings.corrected) and wrong[n].any() else examples[n].labels > 0
        image, labels = examples[n].image.to(device), examples[n].labels.to(device)
        pairs.append(augment(image, labels, spec.tile_ijk[::-1], settings.augmentation, chance, focus))
    return stack(pairs, spec.architecture.dimensions)
