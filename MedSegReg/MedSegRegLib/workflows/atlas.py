"""Segmentation without training: labelled images (atlases) are registered to an image, and their labels vote.

Each atlas votes at every voxel with its carried label; votes count alike (majority), or as much as the atlas looks
like the image around that voxel (locally weighted voting: Artaechevarria et al., IEEE TMI 2009; Sabuncu et al., IEEE
TMI 2010; here by the squared local correlation, which leaves brightness and contrast aside).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch.nn import functional

from ..check_image import Need, check_image
from ..errors import InputError
from ..image import Image, Labels, Structure
from ..progress import SILENT, Progress
from ..register.run import Registration
from ..register.settings import RegistrationSettings
from ..report import Finding
from ..resample import resample_image
from .modality import register_by_modality
from .soft_labels import transfer_labels

Fusion = Literal["local", "majority"]

WINDOW = 5
LEAST_WEIGHT = 1e-3
REGISTERED_SHARE = 0.9


@dataclass(frozen=True, eq=False)
class Atlas:
    """A labelled image; the labels may lie on a grid of their own."""

    image: Image
    labels: Labels


@dataclass(frozen=True, eq=False)
class AtlasSegmentation:
    """Attributes:
    labels: on the image's grid.
    agreement: [1, K, J, I], the share of the votes that the label got, 0 to 1; 1 everywhere with a single atlas.
    registrations: image to atlas, one an atlas.
    findings: what was noticed, with the atlas it concerns.
    """

    labels: Labels
    agreement: Image
    registrations: tuple[Registration, ...]
    findings: tuple[Finding, ...]


def segment_by_atlases(
    image: Image,
    atlases: Sequence[Atlas],
    *,
    fusion: Fusion = "local",
    settings: RegistrationSettings | None = None,
    mask: Labels | None = None,
    device: torch.device | str = "cpu",
    progress: Progress = SILENT,
) -> AtlasSegmentation:
    """Labels for an image by one or more atlases of the same anatomy.

    Args:
        image: never changed.
        atlases: label values mean the same in all of them.
        fusion: how votes count, see this module; of no effect with a single atlas.
        settings: of the registrations; None lets the images choose.
        mask: on the image's grid; only voxels above 0 are looked at by the registrations.

    Raises:
        InputError: no atlas, atlases that name a value differently, or an image that cannot be worked on.
        NoOverlap, Diverged, FoldingError, Cancelled: as :func:`~MedSegRegLib.register.run.register`.
    """
    structures = _shared_structures(atlases)
    check_image(image, Need("register", channels=None, minimum_size=4, allow_single_slice=True))
    votes, weights, registrations, findings = [], [], [], []
    for number, atlas in enumerate(atlases):
        start, stop = (REGISTERED_SHARE * n / len(atlases) for n in (number, number + 1))
        found = register_by_modality(
            image, atlas.image, settings, fixed_mask=mask, device=device, progress=progress.part(start, stop)
        )
        votes.append(transfer_labels(atlas.labels, image.geometry, found.transform).tensor)
        if fusion == "local" and len(atlases) > 1:
            weights.append(_likeness(image, resample_image(atlas.image, image.geometry, found.transform)))
        else:
            weights.append(torch.ones(()).expand(image.geometry.shape_kji))
        registrations.append(found)
        name = atlas.image.name or f"atlas {number + 1}"
        findings += [replace(finding, message=f"{name}: {finding.message}") for finding in found.findings]
    progress.update(REGISTERED_SHARE, "fusing the labels")
    fused, share = fuse_votes(votes, weights)
    labels = Labels.from_array(fused.numpy(), image.geometry, structures, f"{image.name} by atlas")
    progress.update(1.0, "done")
    return AtlasSegmentation(
        labels, Image(share[None], image.geometry, "agreement"), tuple(registrations), tuple(findings)
    )


def fuse_votes(votes: Sequence[torch.Tensor], weights: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """At every voxel the label with the most votes; of equal ones that of the earlier voter.

    Args:
        votes: [K, J, I] integers, one a voter.
        weights: [K, J, I] float, above 0.

    Returns:
        Labels [K, J, I], and the winner's share of all votes, float32.

    >>> votes = [torch.tensor([[[n]]]) for n in (4, 7, 7)]
    >>> [float(x) for x in fuse_votes(votes, [torch.tensor([[[w]]]) for w in (5.0, 1.0, 2.0)])]
    [4.0, 0.625]
    """
    winner, most = votes[0], torch.zeros(votes[0].shape)
    for label in votes:
        support = torch.zeros(label.shape)
        for other, weight in zip(votes, weights, strict=True):
            support += weight * (other == label)
        better = support > most
        winner, most = torch.where(better, label, winner), torch.where(better, support, most)
    total = torch.stack([weight.expand(most.shape) for weight in weights]).sum(dim=0)
    return winner, most / total


def _likeness(image: Image, moved: Image) -> torch.Tensor:
    """[K, J, I]: the squared correlation in the window around each voxel, never quite 0."""
    a, b = image.tensor[0], moved.tensor[0]
    a, b = a - a.mean(), b - b.mean()
    covariance, variance_a, variance_b = (_means(x * y) - _means(x) * _means(y) for x, y in ((a, b), (a, a), (b, b)))
    noise_a, noise_b = (1e-4 * float(np.square(x.numpy()).mean()) + 1e-12 for x in (a, b))
    squared = covariance.square() / ((variance_a.clamp_min(0) + noise_a) * (variance_b.clamp_min(0) + noise_b))
    return squared.clamp(0, 1) + LEAST_WEIGHT


def _means(volume: torch.Tensor) -> torch.Tensor:
    return functional.avg_pool3d(volume[None, None], WINDOW, stride=1, padding=WINDOW // 2, count_include_pad=False)[
        0, 0
    ]


def _shared_structures(atlases: Sequence[Atlas]) -> tuple[Structure, ...]:
    """The structures of all atlases by value, as the first one names them."""
    if not atlases:
        raise InputError("There is no atlas", "one or more images with labels", "choose an atlas")
    shared: dict[int, Structure] = {}
    for atlas in atlases:
        for structure in atlas.labels.structures:
            known = shared.setdefault(structure.value, structure)
            if known.name != structure.name:
                raise InputError(
                    f"Label {structure.value} is '{known.name}' in one atlas and '{structure.name}' in another",
                    "values that mean the same in all atlases",
                    "renumber or rename the labels",
                )
    return tuple(shared[value] for value in sorted(shared))
