"""From the description of an architecture to the network. Segmentation walk: preprocessed tile -> [network] -> scores.

Every network has ``features(x)`` and ``head``, its last 1x1x1 convolution or None: scores = head(features). Between
the two the predictor blends tiles, because features are often fewer than classes.
"""

from __future__ import annotations

import inspect
from typing import Protocol

import torch
from torch import nn

from ..errors import MissingPackage, ModelMismatch
from ..files.architectures import (
    Architecture,
    AtlasUNetArchitecture,
    ContextUNetArchitecture,
    MonaiArchitecture,
    UNetArchitecture,
)
from .atlas_unet import AtlasUNet
from .context_unet import ContextUNet
from .unet import UNet

NEED_EINOPS = ("UNETR",)


class Network(Protocol):
    """What the predictor needs of a network, an ``nn.Module``."""

    @property
    def head(self) -> nn.Module | None:
        """The last 1x1x1 convolution; None when the features are the scores."""

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """[N, C, K, J, I] -> [N, features, K, J, I]."""


class MonaiNetwork(nn.Module):
    """A network of MONAI, whose features are its scores."""

    head = None

    def __init__(self, architecture: MonaiArchitecture, channels: int, classes: int) -> None:
        super().__init__()
        self.network = _monai_class(architecture)(**_monai_settings(architecture, channels, classes))

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Scores; the first of several where the network is deeply supervised."""
        scores = self.network(x)
        return scores[0] if isinstance(scores, list | tuple) else scores

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.features(x)


def build_network(architecture: Architecture, channels: int, classes: int) -> nn.Module:
    """The network that a model package describes, with random weights.

    Raises:
        MissingPackage: a network of MONAI, which is not installed.
        ModelMismatch: settings that the network does not take.
    """
    if isinstance(architecture, AtlasUNetArchitecture):
        return AtlasUNet(architecture, channels, classes)
    if isinstance(architecture, UNetArchitecture):
        return UNet(architecture, channels, classes)
    if isinstance(architecture, ContextUNetArchitecture):
        return ContextUNet(architecture.base_features, channels, classes)
    if isinstance(architecture, MonaiArchitecture):
        return MonaiNetwork(architecture, channels, classes)
    raise TypeError(f"'{architecture.name}' is run by an engine, not built")


def _monai_class(architecture: MonaiArchitecture) -> type[nn.Module]:
    try:
        from monai.networks import nets  # noqa: PLC0415  (optional)

        if architecture.network in NEED_EINOPS:
            import einops  # noqa: F401, PLC0415  (optional)
    except ImportError as error:
        package = "einops" if error.name == "einops" else "monai"
        raise MissingPackage(
            f"The network {architecture.network} is MONAI's and needs the package {package}, which is not installed",
            f"the package {package}",
            "install it with: pip install 'monai[einops]>=1.6'",
        ) from None
    return getattr(nets, architecture.network)  # the name is one of the registry's


def _monai_settings(architecture: MonaiArchitecture, channels: int, classes: int) -> dict[str, object]:
    known = inspect.signature(_monai_class(architecture)).parameters
    settings = {
        "spatial_dims": architecture.dimensions,
        "in_channels": channels,
        "out_channels": classes,
        **architecture.settings,
    }
    unknown = settings.keys() - known.keys()
    if unknown:
        raise ModelMismatch(
            f"{architecture.network} of MONAI has no setting '{min(unknown)}'",
            f"some of {', '.join(known)}",
            "import the model again with the MONAI version that is installed",
        )
    return settings
