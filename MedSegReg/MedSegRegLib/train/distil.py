"""A student that learns to score as its teacher. Compression walk: examples, teacher, thin network -> [distil] -> it.

The student sees augmented patches of images and is asked for the teacher's soft scores on the very same patches
(Hinton et al., arXiv 1503.02531): no labels are needed. The teacher may be an ensemble.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch.nn import functional

from ..files.architectures import Strict
from ..files.model_spec import ModelSpec
from ..progress import SILENT, Progress
from ..segment.model import Model
from ..segment.network import build_network
from .augment import Augmentation, augment
from .batches import Batch, stack
from .chance import Chance
from .checkpoint import Weights
from .dataset import Example
from .heads import fit_heads
from .optimise import descend

SMOOTH = 1e-5


class Distillation(Strict):
    """How a student is trained.

    Attributes:
        share: of the teacher's channels that it has.
        steps: of ``batch_size`` patches each.
        learning_rate: peak of Adam's rate, see :func:`optimise.descend`.
    """

    share: float = Field(0.5, gt=0, lt=1)
    steps: int = Field(300, ge=1)
    batch_size: int = Field(2, ge=1)
    learning_rate: float = Field(3e-3, gt=0)
    seed: int = 0
    augmentation: Augmentation = Augmentation(foreground_probability=0.8)


def distil(
    teacher: Model,
    spec: ModelSpec,
    begin: Weights,
    examples: Sequence[Example],
    settings: Distillation,
    progress: Progress = SILENT,
) -> Weights:
    """Train a student on the teacher's device.

    The loss is taken at every resolution of the student's decoder: without it a network that small learns borders long
    before it learns what is where.

    Args:
        spec: of the student: the teacher's with another architecture, a U-Net.
        begin: weights that it starts with, by name; its heads are fitted to the examples, others are random.
        examples: on the teacher's grid, with the teacher's labels.

    Returns:
        The student's weights, on the CPU.

    Raises:
        Diverged: the loss is not finite.
        Cancelled: between two steps.
    """
    device = teacher.device
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        student = build_network(spec.architecture, len(spec.channels), spec.classes)
    first = (_batch(examples, spec, settings, step, device) for step in range(settings.steps))
    student.load_state_dict({**student.state_dict(), **fit_heads(begin, spec, first, device)})
    student.to(device).train()

    def loss_of(step: int) -> torch.Tensor:
        images, _ = _batch(examples, spec, settings, step, device)
        shares = teacher_shares(teacher, images)
        losses = [distillation_loss(scores, shares, bool(spec.regions)) for scores in student(images)]
        return sum(loss * 0.5**level for level, loss in enumerate(losses))  # type: ignore[return-value]

    descend(list(student.parameters()), loss_of, settings.steps, settings.learning_rate, progress, "distilling")
    return {name: tensor.detach().cpu() for name, tensor in student.state_dict().items()}


def _batch(
    examples: Sequence[Example], spec: ModelSpec, settings: Distillation, step: int, device: torch.device
) -> Batch:
    """Patches of the examples in turn."""
    pairs = []
    for number in range(step * settings.batch_size, (step + 1) * settings.batch_size):
        example, chance = examples[number % len(examples)], Chance(settings.seed + 1 + number, device)
        image, labels = example.image.to(device), example.labels.to(device)
        pairs.append(augment(image, labels, spec.tile_ijk[::-1], settings.augmentation, chance))
    return stack(pairs, spec.architecture.dimensions)


def teacher_shares(teacher: Model, images: torch.Tensor) -> torch.Tensor:
    """Probabilities [N, classes, ...] of the mean of the members' scores, as in prediction.

    Args:
        images: [N, C, K, J, I], or [N, C, J, I] for a teacher of two dimensions.
    """
    tiles, scores = images if images.ndim == 5 else images.unsqueeze(2), []
    for engine in teacher.engines:
        result = engine.run(tiles).float()
        scores.append(engine.head.scores(result) if engine.head else result)
    mean = torch.stack(scores).mean(0).reshape(len(images), -1, *images.shape[2:])
    return mean.sigmoid() if teacher.spec.regions else mean.softmax(1)


def distillation_loss(scores: torch.Tensor, wanted: torch.Tensor, regions: bool = False) -> torch.Tensor:
    """Cross-entropy with the teacher's probabilities, and one minus the Dice with them (Milletari et al., 3DV 2016).

    Both are least where the probabilities are the same. The background has no Dice of its own.

    Args:
        scores: of the student, [N, classes, ...], before softmax.
        wanted: probabilities of the teacher; at the student's resolution or a multiple of it, then their means count.
        regions: each channel is a region of its own (sigmoid).
    """
    target = functional.interpolate(wanted, scores.shape[2:], mode="area")
    if regions:
        share, entropy = scores.sigmoid(), functional.binary_cross_entropy_with_logits(scores, target)
    else:
        share, entropy = scores.softmax(1), functional.cross_entropy(scores, target)
    share, target = (one.transpose(0, 1).flatten(1)[0 if regions else 1 :] for one in (share, target))
    overlap = 2 * (share * target).sum(1) + SMOOTH
    return entropy + 1 - (overlap / (share.square().sum(1) + target.square().sum(1) + SMOOTH)).mean()
