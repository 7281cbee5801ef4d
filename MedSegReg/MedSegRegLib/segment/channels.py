"""Several images as the channels of one. Segmentation walk: checked images -> [channels] -> prepare."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch

from ..errors import ComponentCount, NoOverlap
from ..files.model_spec import ModelSpec
from ..image import Image
from ..report import Finding
from ..resample import resample_image


def join_channels(images: Mapping[str, Image], spec: ModelSpec) -> Image:
    """One image with the model's channels in the model's order, on the grid of the model's first channel.

    Args:
        images: by the names of the model's channels (upper and lower case are the same); each with one channel. Those
            that lie on another grid are resampled linearly, which a warning says: they must be aligned in the world.
        spec: of the model.

    Raises:
        ComponentCount: a channel is missing, not known to the model, or has several components.
        NoOverlap: a channel does not overlap the first one.
    """
    wanted = [channel.name for channel in spec.channels]
    given = {name.casefold(): image for name, image in images.items()}
    if not len(given) == len(images) == len(wanted) or given.keys() != {name.casefold() for name in wanted}:
        raise ComponentCount(
            f"The channels given are {', '.join(images) or 'none'}",
            f"{', '.join(wanted)}, which '{spec.name}' was trained on",
            "give one image for each of these names, or one image with these channels",
        )
    ordered = [given[name.casefold()] for name in wanted]
    for name, image in zip(wanted, ordered, strict=True):
        if image.tensor.shape[0] != 1:
            raise ComponentCount(
                f"The image for {name} has {image.tensor.shape[0]} channels", "1", "choose one component or one frame"
            )
    reference = ordered[0]
    findings = [finding for image in ordered for finding in image.findings]
    tensors = [reference.tensor]
    for name, image in zip(wanted[1:], ordered[1:], strict=True):
        if image.geometry.same_grid(reference.geometry):
            tensors.append(image.tensor)
            continue
        tensors.append(_on_grid_of(reference, image, name))
        findings.append(
            Finding.warn(
                f"{name} lies on another grid than {wanted[0]} and was resampled onto it",
                "Check that both are aligned; register them first if the patient moved between them.",
            )
        )
    return replace(
        reference, tensor=torch.cat(tensors), channel_names=tuple(wanted), findings=tuple(dict.fromkeys(findings))
    )


def _on_grid_of(reference: Image, image: Image, name: str) -> torch.Tensor:
    inside = resample_image(image.with_tensor(torch.ones_like(image.tensor)), reference.geometry).tensor
    if not inside.any():
        raise NoOverlap(
            f"The image for {name} does not overlap the one it has to be joined with",
            "images of one patient in one space",
            "register them first, or check their positions",
        )
    return resample_image(image, reference.geometry, fill=float(image.tensor.min())).tensor
