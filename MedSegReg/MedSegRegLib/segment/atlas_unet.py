"""A U-Net that knows where it is. Segmentation walk: image in a template's space -> [network] -> features -> head.

For images that were brought into the space of a template, so that a voxel of the network's input is always the same
place of the body, and it can be known beforehand what is found there: the atlas, log-frequencies of the classes. With
it a mixture of tissues is fitted to the intensities (``tissues``), whatever the contrast. The scores begin as the sum
of atlas and likelihood, which is Bayes' rule, and the U-Net adds what shapes and neighbours tell beyond that.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from ..files.architectures import AtlasUNetArchitecture
from .tissues import tissue_likelihoods
from .unet import UNet

COORDINATES = 3
CALMED = 0.25  # likelihoods are scaled by this before the U-Net sees them
TRUST = 0.5  # in the likelihoods, at the beginning: voxels are not independent


class AtlasUNet(UNet):
    """Input [N, 1, K, J, I] with intensities in 0..1, always the same field of view.

    Features are those of the U-Net, the tissues' likelihoods and the atlas at each voxel.

    Attributes:
        atlas: [classes, k, j, i] log-frequencies over the same field of view, coarser; trained on from a start that
            ``train`` measures.
        scores: the head; it begins as atlas and likelihoods alone.
    """

    def __init__(self, architecture: AtlasUNetArchitecture, channels: int, classes: int) -> None:
        tissue_of = architecture.tissues
        tissues = max(tissue_of) + 1
        super().__init__(architecture, channels + COORDINATES + tissues, classes)
        del self.decoder.seg_layers
        self._tissue_of, self._tissues, self._found_width = tissue_of, tissues, architecture.features[0]
        self.atlas = nn.Parameter(torch.zeros(classes, *architecture.atlas_kji))
        self.scores = nn.Conv3d(self._found_width + tissues + classes, classes, 1)
        with torch.no_grad():
            begin = torch.zeros(classes, tissues + classes)
            begin[range(1, classes), tissue_of[1:]] = TRUST
            begin[range(classes), range(tissues, tissues + classes)] = 1.0  # torch.eye imports sympy for a meta device
            self.scores.weight[:, self._found_width :] = begin[..., None, None, None]
            self.scores.bias.zero_()  # type: ignore[union-attr]

    @property
    def head(self) -> nn.Module:
        """The last 1x1x1 convolution."""
        return self.scores

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """[N, U-Net's + tissues + classes, K, J, I]."""
        found = self._seen(x)
        atlas = _upsample(self.atlas[None], found)
        return torch.cat((found, atlas.to(found.dtype).expand(x.shape[0], -1, -1, -1, -1)), dim=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The head on the features; the atlas takes its part of it before it is interpolated, which is cheaper."""
        found = self._seen(x)
        width = found.shape[1]
        atlas = functional.conv3d(self.atlas[None], self.scores.weight[:, width:], self.scores.bias)
        return functional.conv3d(found, self.scores.weight[:, :width]) + _upsample(atlas, found)

    def _seen(self, x: torch.Tensor) -> torch.Tensor:
        """Features of the U-Net and likelihoods of the tissues, [N, U-Net's + tissues, K, J, I]."""
        likelihoods = self._likelihoods(x)
        axes = [torch.linspace(-1, 1, n, dtype=x.dtype, device=x.device) for n in x.shape[2:]]
        coordinates = torch.stack(torch.meshgrid(*axes, indexing="ij")).expand(x.shape[0], -1, -1, -1, -1)
        found = self.decoder(self.encoder(torch.cat((x, coordinates, CALMED * likelihoods), dim=1)))[-1]
        return torch.cat((found, likelihoods.to(found.dtype)), dim=1)

    def _likelihoods(self, x: torch.Tensor) -> torch.Tensor:
        member = torch.zeros(self._tissues, len(self._tissue_of))
        member[self._tissue_of, range(len(self._tissue_of))] = 1
        with torch.no_grad():
            priors = (member.to(self.atlas)[..., None, None, None] * self.atlas.softmax(0)).sum(1)
            return tissue_likelihoods(x, priors)


def _upsample(coarse: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return functional.interpolate(coarse, like.shape[2:], mode="trilinear", align_corners=False)
